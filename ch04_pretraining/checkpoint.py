"""Checkpoints: Hugging Face folders (`config.json`, `model.safetensors`, `tokenizer.json`,
`tokenizer_config.json`), and beside them `train_state.pt` for resuming.

A folder is replaced whole or not at all, so that a crash at any moment leaves a whole checkpoint
behind. Nothing in it is executed when it is loaded, and it loads on any device, whatever device
wrote it.
"""

import shutil
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors import SafetensorError
from torch.optim import Optimizer

from ch01_text import RandomWindows, load_tokenizer
from ch01_text.saving import find_whole, replacing
from ch03_gpt import GPTModel
from ch04_pretraining.hf_weights import (
    check_vocabulary,
    load_tensors,
    model_tensors,
    read_weights,
    write_weights,
)
from ch04_pretraining.parallel import full_tensor, is_rank_zero, shard_like
from ch04_pretraining.training import TrainState

MODEL_FILES = ("model.safetensors", "config.json", "tokenizer.json")
TRAIN_STATE = "train_state.pt"


def save_checkpoint(
    folder: str | Path, model: GPTModel, tokenizer, train_state: dict | None = None
) -> None:
    """Write `folder` whole or not at all; a checkpoint that stands there is replaced.

    All processes must call it, and the first one writes. OSError if it cannot be written, on a full
    disk for example; what stood there before is untouched then.
    """
    # before the other processes leave: gathering sharded weights takes all of them
    tensors = model_tensors(model)
    if not is_rank_zero():
        return
    folder = Path(folder)
    try:
        with replacing(folder) as new:  # a folder beside it, renamed at the end
            new.mkdir(parents=True)
            # for other programs: what stands before a document, and where generation stops
            token_ids = {"bos_token_id": tokenizer.eot_id, "eos_token_id": tokenizer.stop_ids}
            write_weights(new, model.config, tensors, token_ids)
            tokenizer.save(new)
            if train_state is not None:
                torch.save(train_state, new / TRAIN_STATE)
    # the two libraries have errors of their own
    except (OSError, SafetensorError, RuntimeError) as error:
        free = shutil.disk_usage(folder.parent).free / 2**20
        kept = (
            "the previous checkpoint is intact"
            if find_checkpoint(folder)
            else "there is no earlier one"
        )
        raise OSError(
            f"cannot save the checkpoint {folder} ({error}; {free:,.0f} MiB free); {kept}; make"
            " room or choose another folder with --run, then go on with --resume"
        ) from error


# the whole checkpoint at a path, the one that a crash left beside it, or None
find_checkpoint = find_whole


def load_checkpoint(folder: str | Path, device: torch.device | str = "cpu"):
    """Return (model in eval mode, tokenizer) from a checkpoint folder, ours or another in Hugging
    Face's format.

    ValueError if the folder is incomplete or damaged, or if its parts do not belong together.
    """
    folder = Path(folder)
    found = find_checkpoint(folder)
    if found is None:
        raise FileNotFoundError(
            f"there is no checkpoint at {folder}; run ch04_pretraining/main.py first"
        )
    for name in MODEL_FILES:  # only resuming needs train_state.pt
        if not (found / name).is_file():
            raise ValueError(
                f"the checkpoint {found} is incomplete: {name} is missing; train it again"
            )
    model, tokenizer = read_weights(found), load_tokenizer(found)
    check_vocabulary(found, model, tokenizer)
    return model.to(device), tokenizer


def unsharded_copy(model: GPTModel) -> GPTModel:
    """`model` itself if it is whole in this process, else a whole copy; all processes must call
    it.
    """
    # `is`: `full_tensor` copies sharded tensors and returns others themselves
    if all(full_tensor(p) is p for p in model.parameters()):
        return model
    copy = GPTModel(model.config)
    load_tensors(copy, model_tensors(model))
    return copy.to(model.device).eval()


def training_state(
    optimizers: list[Optimizer], batches: RandomWindows, progress: TrainState, settings: dict
) -> dict:
    """Everything beside the weights that the next step depends on, and the settings of the run."""
    return {
        "settings": settings,
        # gathered, so that the run can go on with another number of processes
        "optimizers": [
            _map_state(optimizer.state_dict(), lambda index, tensor: full_tensor(tensor))
            for optimizer in optimizers
        ],
        "batches": batches.state_dict(),
        # a dictionary of numbers, lists and tensors: `weights_only` loads no classes
        "progress": vars(progress),
        # what dropout draws from; the batches have a generator of their own
        "torch_rng": torch.get_rng_state(),
        "cuda_rng": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def _map_state(state: dict, convert: Callable[[int, torch.Tensor], torch.Tensor]) -> dict:
    """An optimizer's state with `convert(index of the parameter, tensor)` for each tensor."""
    # state["state"] is {0: {"step": ..., "exp_avg": ..., "exp_avg_sq": ...}, 1: ...} for AdamW
    moments = {
        index: {
            name: convert(index, value) if isinstance(value, torch.Tensor) else value
            for name, value in moments.items()
        }
        for index, moments in state["state"].items()
    }
    return {"state": moments, "param_groups": state["param_groups"]}


def read_training_state(folder: str | Path) -> dict:
    """Return the `training_state` of a checkpoint, on the CPU; no pickled code is executed."""
    path = Path(folder) / TRAIN_STATE
    if not path.is_file():
        raise ValueError(f"the checkpoint {folder} cannot be resumed: {TRAIN_STATE} is missing")
    # `load_state_dict` moves each tensor to the device of its parameter later
    return torch.load(path, map_location="cpu", weights_only=True)


def _restore_optimizer(optimizer: Optimizer, saved: dict) -> None:
    """Load a state, sharded as the parameters are."""
    # A state dictionary numbers the parameters in this order. The step counters are scalars, not of
    # a parameter's shape, so `shard_like` leaves them whole.
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    optimizer.load_state_dict(
        _map_state(saved, lambda index, tensor: shard_like(parameters[index], tensor))
    )


def restore_training_state(
    state: dict, optimizers: list[Optimizer], batches: RandomWindows
) -> TrainState:
    """Put optimizers, batches and random generators back to where the checkpoint was saved."""
    for optimizer, saved in zip(optimizers, state["optimizers"], strict=True):
        _restore_optimizer(optimizer, saved)
    batches.load_state_dict(state["batches"])
    torch.set_rng_state(state["torch_rng"])
    if torch.cuda.is_available():
        # this machine may have fewer GPUs than the one that saved
        torch.cuda.set_rng_state_all(state["cuda_rng"][: torch.cuda.device_count()])
    device = optimizers[0].param_groups[0]["params"][0].device
    # `summarize` stacks these sums with those of the next steps, so they must be on one device
    return TrainState(
        **state["progress"]
        | {"pending": [sums.to(device) for sums in state["progress"]["pending"]]}
    )
