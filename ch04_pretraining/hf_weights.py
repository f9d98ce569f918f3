"""Models in Hugging Face's folders (`config.json`, `model.safetensors`): ours for others to open,
and theirs for us, such as GPT-2's published weights.

Every tensor of a file is used exactly once or the load fails: a model with a tensor silently
skipped still babbles, so nobody would notice.
"""

import json
from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from ch01_text import gpt2_tokenizer, load_tokenizer
from ch01_text.hub import hub_folder
from ch01_text.run import write_atomically
from ch01_text.saving import replacing
from ch03_gpt import GPTModel
from ch04_pretraining.hf_format import (
    CUSTOM,
    from_hf_config,
    from_hf_tensors,
    to_hf_config,
    to_hf_tensors,
)
from ch04_pretraining.parallel import full_tensor, is_rank_zero

HUB_NAMES = {
    "gpt2": "openai-community/gpt2",
    "gpt2-medium": "openai-community/gpt2-medium",
    "gpt2-large": "openai-community/gpt2-large",
    "gpt2-xl": "openai-community/gpt2-xl",
}
CONFIG, WEIGHTS, INDEX = "config.json", "model.safetensors", "model.safetensors.index.json"
MODELING = "modeling_companion.py"  # its text is here with .txt: it is no module of this package


def model_tensors(model: GPTModel) -> dict[str, Tensor]:
    """The model's named weights, each once (a tied output head is left out) and whole: all
    processes must call it, and what they share is gathered.
    """
    tied = model.out_head.weight is model.tok_emb.weight
    return {
        name: full_tensor(tensor).contiguous()
        for name, tensor in model.state_dict().items()
        if not (tied and name == "out_head.weight")
    }


def load_tensors(model: GPTModel, tensors: Mapping[str, Tensor]) -> None:
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


def load_hf_tensors(model: GPTModel, tensors: Mapping[str, Tensor]) -> None:
    """Copy Hugging Face's named tensors into `model`; ValueError unless they fit exactly."""
    load_tensors(model, from_hf_tensors(tensors, model.config, model_tensors(model)))


def write_weights(folder: Path, config, tensors: Mapping[str, Tensor], token_ids: dict) -> None:
    """Write `config.json` and `model.safetensors`, and where transformers has no classes for this
    shape, the file with ours.
    """
    settings = to_hf_config(config) | token_ids
    with replacing(folder / WEIGHTS) as new:
        save_file(to_hf_tensors(tensors, config), new, metadata={"format": "pt"})
    write_atomically(folder / CONFIG, json.dumps(settings, indent=2) + "\n")
    if settings["model_type"] == CUSTOM:
        source = Path(__file__).with_name(MODELING + ".txt")
        write_atomically(folder / MODELING, source.read_text(encoding="utf-8"))


def save_pretrained(model: GPTModel, folder: str | Path) -> None:
    """Write `model` to `folder`, without a tokenizer, so that `AutoModelForCausalLM` opens it."""
    tensors, folder = model_tensors(model), Path(folder)
    if is_rank_zero():
        folder.mkdir(parents=True, exist_ok=True)
        write_weights(folder, model.config, tensors, {})


def read_settings(folder: Path) -> dict:
    """The content of a folder's `config.json`; ValueError if it is damaged or of our former
    format.
    """
    try:
        settings = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise ValueError(
            f"{folder / CONFIG} is damaged ({error}); train the model again"
        ) from error
    if "emb_dim" in settings:
        raise ValueError(f"{folder} was made by an earlier version; train the model again")
    return settings


def read_weights(folder: Path) -> GPTModel:
    """The model of a folder, float32, on the CPU, in eval mode. No code of the folder is executed.

    ValueError if a file is missing or damaged, or if the shape or a tensor is not ours.
    """
    for name in (CONFIG, WEIGHTS):
        if not (folder / name).is_file() and not (name == WEIGHTS and (folder / INDEX).is_file()):
            raise ValueError(f"{folder} is incomplete: {name} is missing")
    try:
        model = GPTModel(from_hf_config(read_settings(folder)))
        files = [WEIGHTS]
        if (folder / INDEX).is_file():  # large models come in several files
            index = json.loads((folder / INDEX).read_text(encoding="utf-8"))
            files = sorted(set(index["weight_map"].values()))
        tensors = {
            name: tensor for file in files for name, tensor in load_file(folder / file).items()
        }
        load_hf_tensors(model, tensors)
    except (SafetensorError, RuntimeError) as error:
        raise ValueError(f"the weights in {folder} are damaged ({error})") from error
    return model.eval()


def _folder_of(name_or_folder: str | Path) -> Path:
    name = HUB_NAMES.get(str(name_or_folder), name_or_folder)
    return hub_folder(name, ["config.json", "model*.safetensors*", "tokenizer*.json"])


def from_pretrained(name_or_folder: str | Path) -> GPTModel:
    """Return a GPTModel (float32, CPU, eval mode) from `gpt2`, `gpt2-medium`, `gpt2-large`,
    `gpt2-xl`, a Hub repository, or a folder: one of our checkpoints or another of a known shape.

    ValueError if it cannot be found or its shape is unknown, if a tensor is missing or left over,
    or if one of our checkpoints has the tokenizer of another run.
    """
    folder = _folder_of(name_or_folder)
    model = read_weights(folder)
    if CUSTOM in read_settings(folder) and (folder / "tokenizer.json").is_file():
        check_vocabulary(folder, model, load_tokenizer(folder))
    return model


def check_vocabulary(folder: Path, model: GPTModel, tokenizer) -> None:
    """ValueError unless the tokenizer's ids fit the model. Others round the vocabulary of a model
    up; in our checkpoints the two are equal.
    """
    unused = model.config.vocab_size - tokenizer.n_vocab
    if unused < 0 or (unused and CUSTOM in read_settings(folder)):
        raise ValueError(
            f"the checkpoint {folder} has a model of {model.config.vocab_size} tokens but a "
            f"tokenizer of {tokenizer.n_vocab}: they are not from the same run"
        )


def tokenizer_of(name_or_folder: str | Path):
    """The tokenizer of existing weights: the one saved beside them, or else GPT-2's."""
    if str(name_or_folder) not in HUB_NAMES:
        folder = _folder_of(name_or_folder)
        if (folder / "tokenizer.json").is_file():
            return load_tokenizer(folder)
    return gpt2_tokenizer()
