"""GPT-2's weights in the Hugging Face layout (`config.json`, `model.safetensors`), both ways.

GPT-2 stores its linear layers as (in, out), the transpose of `nn.Linear`. Every tensor of the file
is used exactly once or the load fails: a key that is silently skipped is a bug that still babbles.
"""

import json
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from ch01_text import gpt2_tokenizer, load_tokenizer
from ch01_text.run import write_atomically
from ch01_text.saving import replacing
from ch03_gpt import GPTConfig, GPTModel
from ch04_pretraining.checkpoint import load_checkpoint, load_tensors, model_tensors

HUB_NAMES = {
    "gpt2": "openai-community/gpt2",
    "gpt2-medium": "openai-community/gpt2-medium",
    "gpt2-large": "openai-community/gpt2-large",
    "gpt2-xl": "openai-community/gpt2-xl",
}
FILES = ("config.json", "model.safetensors")
TANH_GELU = ("gelu_new", "gelu_pytorch_tanh")


def _key_map(n_layers: int) -> list[tuple[str, str, bool]]:
    """(our name, GPT-2's name, is it transposed) for every tensor."""
    keys = [("tok_emb.weight", "wte.weight", False), ("pos_emb.weight", "wpe.weight", False)]
    for i in range(n_layers):
        ours, theirs = f"trf_blocks.{i}.", f"h.{i}."
        for a, b in (("norm1", "ln_1"), ("norm2", "ln_2")):
            keys += [
                (f"{ours}{a}.scale", f"{theirs}{b}.weight", False),
                (f"{ours}{a}.shift", f"{theirs}{b}.bias", False),
            ]
        for a, b in (
            ("att.qkv", "attn.c_attn"),
            ("att.out_proj", "attn.c_proj"),
            ("ff.layers.0", "mlp.c_fc"),
            ("ff.layers.2", "mlp.c_proj"),
        ):
            keys += [
                (f"{ours}{a}.weight", f"{theirs}{b}.weight", True),
                (f"{ours}{a}.bias", f"{theirs}{b}.bias", False),
            ]
    return [
        *keys,
        ("final_norm.scale", "ln_f.weight", False),
        ("final_norm.shift", "ln_f.bias", False),
    ]


def _config_from_hub(settings: Mapping) -> GPTConfig:
    """Translate a Hugging Face GPT-2 config; ValueError where it asks for what GPT-2 did not do."""
    if settings.get("model_type") != "gpt2":
        raise ValueError(
            f"this loads GPT-2 weights; config.json says model_type={settings.get('model_type')!r}"
        )
    if settings.get("activation_function", "gelu_new") not in TANH_GELU:
        raise ValueError(f"activation {settings['activation_function']!r} is not GPT-2's tanh GELU")
    for name, usual in (("scale_attn_weights", True), ("scale_attn_by_inverse_layer_idx", False)):
        if settings.get(name, usual) != usual:
            raise ValueError(f"{name}={settings[name]} is not supported")
    return GPTConfig(
        vocab_size=settings["vocab_size"],
        context_length=settings["n_positions"],
        emb_dim=settings["n_embd"],
        n_heads=settings["n_head"],
        n_layers=settings["n_layer"],
        ffn_dim=settings.get("n_inner"),
        norm_eps=settings.get("layer_norm_epsilon", 1e-5),
        qkv_bias=True,
        tie_embeddings=settings.get("tie_word_embeddings", True),
    )


def _config_to_hub(config: GPTConfig) -> dict:
    """The Hugging Face GPT-2 config of ours; ValueError where GPT-2 has no such switch."""
    gpt2_like = (
        config.position == "learned"
        and config.norm == "layernorm"
        and config.ffn == "gelu"
        and config.bias
        and config.kv_heads == config.n_heads
        and config.window is None
        and not config.token_shift
        and not config.qk_norm
    )
    if not gpt2_like:
        raise ValueError(
            "the GPT-2 layout holds learned positions, LayerNorm, GELU, biases and plain heads "
            "only; this model has other parts, so save it as a checkpoint instead"
        )
    return {
        "model_type": "gpt2",
        "architectures": ["GPT2LMHeadModel"],
        "vocab_size": config.vocab_size,
        "n_positions": config.context_length,
        "n_ctx": config.context_length,
        "n_embd": config.emb_dim,
        "n_head": config.n_heads,
        "n_layer": config.n_layers,
        "n_inner": config.hidden_dim,
        "activation_function": "gelu_new",
        "layer_norm_epsilon": config.norm_eps,
        "tie_word_embeddings": config.tie_embeddings,
        "resid_pdrop": config.drop_rate,
        "embd_pdrop": config.drop_rate,
        "attn_pdrop": config.drop_rate,
        "bos_token_id": config.vocab_size - 1,
        "eos_token_id": config.vocab_size - 1,
    }


def load_gpt2_tensors(model: GPTModel, tensors: Mapping[str, Tensor]) -> None:
    """Copy GPT-2's named tensors into `model`, using each exactly once; ValueError otherwise.

    Names may carry the prefix `transformer.`; the constant causal masks of old files are dropped.
    A model without weight tying gets `lm_head.weight`, or a copy of the token embedding.
    """
    left = {
        name.removeprefix("transformer."): tensor
        for name, tensor in tensors.items()
        if not name.endswith((".attn.bias", ".attn.masked_bias"))
    }
    ours = {}
    for name, theirs, transposed in _key_map(model.config.n_layers):
        if theirs not in left:
            raise ValueError(f"GPT-2's tensor {theirs!r} is missing")
        tensor = left.pop(theirs).to(torch.float32)
        ours[name] = tensor.T if transposed else tensor
    head = left.pop("lm_head.weight", ours["tok_emb.weight"]).to(torch.float32)
    if model.config.tie_embeddings:
        if not torch.equal(head, ours["tok_emb.weight"]):
            raise ValueError("lm_head.weight differs from wte.weight, but the config ties them")
    else:
        ours["out_head.weight"] = head
    if left:
        raise ValueError(f"tensors that GPT-2 does not have: {', '.join(sorted(left)[:3])}")
    load_tensors(model, ours)


def _download(repo: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    try:
        return Path(snapshot_download(repo, allow_patterns=list(FILES)))
    except (HfHubHTTPError, HFValidationError, OSError) as error:
        raise ValueError(
            f"cannot get {repo!r} from the Hugging Face Hub ({type(error).__name__}); connect once,"
            f" or download {' and '.join(FILES)} elsewhere and give the folder's path instead"
        ) from error


def from_pretrained(name_or_folder: str | Path) -> GPTModel:
    """Return a GPTModel (float32, CPU, eval mode) from `gpt2`, `gpt2-medium`, `gpt2-large`,
    `gpt2-xl`, a Hub repository, a folder in its layout, or a checkpoint folder of ours.

    ValueError where it cannot be found, is not GPT-2, or where a tensor is missing or left over.
    """
    folder = Path(name_or_folder)
    if not folder.is_dir():
        if str(name_or_folder) not in HUB_NAMES and str(name_or_folder).count("/") != 1:
            raise ValueError(
                f"{name_or_folder} is no folder, and no Hub name such as {', '.join(HUB_NAMES)}"
            )
        folder = _download(HUB_NAMES.get(str(name_or_folder), str(name_or_folder)))
    for name in FILES:
        if not (folder / name).is_file():
            raise ValueError(f"{folder} is incomplete: {name} is missing")
    settings = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    if "model_type" not in settings:
        return load_checkpoint(folder)[0]
    model = GPTModel(_config_from_hub(settings))
    load_gpt2_tensors(model, load_file(folder / "model.safetensors"))
    return model.eval()


def tokenizer_of(weights: str | Path):
    """The tokenizer that belongs to existing weights: the one saved beside them, or GPT-2's."""
    if (Path(weights) / "tokenizer.json").is_file():
        return load_tokenizer(weights)
    return gpt2_tokenizer()


def save_pretrained(model: GPTModel, folder: str | Path) -> None:
    """Write `model` to `folder` so that `transformers.GPT2LMHeadModel.from_pretrained` loads it.

    Needs a GPT-2-shaped model (ValueError otherwise). A missing query/key/value bias becomes zero.
    """
    settings = _config_to_hub(model.config)
    ours = model_tensors(model)
    tensors = {}
    for name, theirs, transposed in _key_map(model.config.n_layers):
        if name not in ours:
            tensor = torch.zeros(3 * model.config.emb_dim)
        else:
            tensor = ours[name].T.contiguous() if transposed else ours[name]
        tensors["transformer." + theirs] = tensor.cpu()
    if not model.config.tie_embeddings:
        tensors["lm_head.weight"] = ours["out_head.weight"].cpu()
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with replacing(folder / "model.safetensors") as new:
        save_file(tensors, new, metadata={"format": "pt"})
    write_atomically(folder / "config.json", json.dumps(settings, indent=2) + "\n")
