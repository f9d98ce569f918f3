"""Checkpoints: a folder with `model.safetensors`, `config.json`, `tokenizer.json`,
    `train_state.pt`.

A folder is replaced whole or not at all, so that a crash at any moment leaves a whole checkpoint
behind. Nothing in it is executed when it is loaded, and it loads on any device, whatever device
wrote it.
"""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch.optim import Optimizer

from ch01_text import RandomWindows, load_tokenizer
from ch01_text.saving import find_whole, replacing
from ch03_gpt import GPTConfig, GPTModel
from ch04_pretraining.parallel import full_tensor, is_rank_zero, shard_like
from ch04_pretraining.training import TrainState

MODEL_FILES = ("model.safetensors", "config.json", "tokenizer.json")
TRAIN_STATE = "train_state.pt"


def model_tensors(model: GPTModel) -> dict[str, torch.Tensor]:
    """The model's named weights, each stored once (a tied output head is left out) and whole
    (gathered, where several processes hold a part each).
    """
    tied = model.out_head.weight is model.tok_emb.weight
    return {
        name: full_tensor(tensor).contiguous()
        for name, tensor in model.state_dict().items()
        if not (tied and name == "out_head.weight")
    }


def save_checkpoint(
    folder: str | Path, model: GPTModel, tokenizer, train_state: dict | None = None
) -> None:
    """Write `folder` whole or not at all; a checkpoint that stands there is replaced.

    Of several processes all must call it, and the first one writes. OSError where it cannot be
    written, on a full disk for example; what stood there before is untouched then.
    """
    tensors = model_tensors(model)
    if not is_rank_zero():
        return
    folder = Path(folder)
    try:
        with replacing(folder) as new:
            new.mkdir(parents=True)
            save_file(tensors, new / "model.safetensors")
            (new / "config.json").write_text(
                json.dumps(model.config.to_dict(), indent=2) + "\n", encoding="utf-8"
            )
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
    """Return (model in eval mode, tokenizer) from a checkpoint folder.

    ValueError where the folder is incomplete, or where weights, config and vocabulary do not fit.
    """
    folder = Path(folder)
    whole = find_checkpoint(folder)
    if whole is None:
        raise FileNotFoundError(
            f"there is no checkpoint at {folder}; run ch04_pretraining/main.py first"
        )
    for name in MODEL_FILES:
        if not (whole / name).is_file():
            raise ValueError(
                f"the checkpoint {whole} is incomplete: {name} is missing; train it again"
            )
    tokenizer = load_tokenizer(whole)
    try:
        config = GPTConfig.of(json.loads((whole / "config.json").read_text(encoding="utf-8")))
        tensors = load_file(whole / "model.safetensors")
    except (json.JSONDecodeError, SafetensorError) as error:
        raise ValueError(f"the checkpoint {whole} is damaged ({error}); train it again") from error
    if tokenizer.n_vocab != config.vocab_size:
        raise ValueError(
            f"the checkpoint {whole} has a model of {config.vocab_size} tokens but a tokenizer "
            f"of {tokenizer.n_vocab}: they are not from the same run"
        )
    model = GPTModel(config)
    load_tensors(model, tensors)
    return model.to(device).eval(), tokenizer


def load_tensors(model: GPTModel, tensors: dict[str, torch.Tensor]) -> None:
    """Copy named weights into `model`; ValueError names what is missing, left over or misshapen."""
    expected = model_tensors(model)
    missing, unknown = sorted(set(expected) - set(tensors)), sorted(set(tensors) - set(expected))
    if missing or unknown:
        raise ValueError(
            f"the weights do not fit the model: missing {missing[:3]}, left over {unknown[:3]}"
        )
    for name, tensor in tensors.items():
        if tensor.shape != expected[name].shape:
            raise ValueError(
                f"the weights do not fit the model: {name} is {tuple(tensor.shape)}, "
                f"the model has {tuple(expected[name].shape)}"
            )
    model.load_state_dict(tensors, strict=False)


def plain_copy(model: GPTModel) -> GPTModel:
    """`model` itself where it is whole in this process, else a whole copy (all processes must
    ask for it).
    """
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
        "optimizers": [
            _map_state(optimizer.state_dict(), lambda index, tensor: full_tensor(tensor))
            for optimizer in optimizers
        ],
        "batches": batches.state_dict(),
        "progress": vars(progress),
        "torch_rng": torch.get_rng_state(),
        "cuda_rng": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def _map_state(state: dict, convert: Callable[[int, torch.Tensor], torch.Tensor]) -> dict:
    """An optimizer's state with `convert(index of the parameter, tensor)` in the place of each
    tensor.
    """
    moments = {
        index: {
            name: convert(index, value) if isinstance(value, torch.Tensor) else value
            for name, value in moments.items()
        }
        for index, moments in state["state"].items()
    }
    return {"state": moments, "param_groups": state["param_groups"]}


def read_training_state(folder: str | Path) -> dict:
    """Return what `training_state` gave to a checkpoint, on the CPU; no pickled code is
    executed.
    """
    path = Path(folder) / TRAIN_STATE
    if not path.is_file():
        raise ValueError(f"the checkpoint {folder} cannot be resumed: {TRAIN_STATE} is missing")
    return torch.load(path, map_location="cpu", weights_only=True)


def restore_training_state(
    state: dict, optimizers: list[Optimizer], batches: RandomWindows
) -> TrainState:
    """Put optimizers, batches and random generators back to where the checkpoint was saved."""
    for optimizer, saved in zip(optimizers, state["optimizers"], strict=True):
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        optimizer.load_state_dict(
            _map_state(saved, lambda index, tensor, of=parameters: shard_like(of[index], tensor))
        )
    batches.load_state_dict(state["batches"])
    torch.set_rng_state(state["torch_rng"])
    if torch.cuda.is_available():
        torch.cuda.set_rng_state_all(state["cuda_rng"][: torch.cuda.device_count()])
    device = optimizers[0].param_groups[0]["params"][0].device
    return TrainState(
        **state["progress"]
        | {"pending": [sums.to(device) for sums in state["progress"]["pending"]]}
    )
