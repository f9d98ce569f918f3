"""GPTConfig and our tensor names, translated to Hugging Face's and back.

`transformers` has classes for the shapes of GPT-2, Llama, Mistral, Qwen2 and Qwen3. Any other
combination of our switches is of `model_type` "llm_companion". Its classes stand in
modeling_companion.py.txt and go into the folder, as custom architectures do on the Hub.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from ch03_gpt import GPTConfig

CUSTOM = "llm_companion"  # also the key of config.json for what only our config knows
CLASSES = {
    "gpt2": "GPT2LMHeadModel",
    "llama": "LlamaForCausalLM",
    "mistral": "MistralForCausalLM",
    "qwen2": "Qwen2ForCausalLM",
    "qwen3": "Qwen3ForCausalLM",
    CUSTOM: "CompanionForCausalLM",
}
TANH_GELU = ("gelu_new", "gelu_pytorch_tanh")


def model_type(config: GPTConfig) -> str:
    """Hugging Face's name for the shape of `config`."""
    parts = (config.position, config.norm, config.ffn)
    if config.conv_kernel:
        return CUSTOM
    if parts == ("learned", "layernorm", "gelu"):
        plain_heads = config.kv_heads == config.n_heads and not config.qk_norm
        return "gpt2" if plain_heads and config.window is None else CUSTOM
    if parts != ("rope", "rmsnorm", "swiglu") or config.bias:
        return CUSTOM
    if config.qk_norm:
        return CUSTOM if config.qkv_bias else "qwen3"
    if config.qkv_bias:
        return "qwen2"
    return "llama" if config.window is None else "mistral"


def to_hf_config(config: GPTConfig) -> dict:
    """The content of config.json. What it cannot say otherwise, dropout for example, is under
    "llm_companion".
    """
    kind = model_type(config)
    settings = {"model_type": kind, "architectures": [CLASSES[kind]], "dtype": "float32"}
    settings |= _gpt2_settings(config) if kind == "gpt2" else _llama_settings(config, kind)
    known = from_hf_config(settings).to_dict()
    ours = {name: value for name, value in config.to_dict().items() if value != known[name]}
    return settings | {CUSTOM: ours}


def _gpt2_settings(config: GPTConfig) -> dict:
    return {
        "vocab_size": config.vocab_size,
        "n_positions": config.context_length,
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
    }


def _llama_settings(config: GPTConfig, kind: str) -> dict:
    settings = {
        "vocab_size": config.vocab_size,
        "max_position_embeddings": config.context_length,
        "hidden_size": config.emb_dim,
        "intermediate_size": config.hidden_dim,
        "num_hidden_layers": config.n_layers,
        "num_attention_heads": config.n_heads,
        "num_key_value_heads": config.kv_heads,
        "head_dim": config.head_dim,
        "hidden_act": "silu",
        "rms_norm_eps": config.norm_eps,
        "rope_theta": config.rope_base,
        "tie_word_embeddings": config.tie_embeddings,
    }
    if config.window is not None:
        # Qwen's layers before max_window_layers have no window
        settings |= {
            "sliding_window": config.window,
            "use_sliding_window": True,
            "max_window_layers": 0,
        }
    if kind == CUSTOM:
        settings |= {
            "auto_map": {
                "AutoConfig": "modeling_companion.CompanionConfig",
                "AutoModelForCausalLM": f"modeling_companion.{CLASSES[CUSTOM]}",
            },
            "attention_bias": config.qkv_bias,
            "mlp_bias": config.bias,
            "position": config.position,
            "norm": config.norm,
            "ffn": config.ffn,
            "qk_norm": config.qk_norm,
            "conv_kernel": config.conv_kernel,
        }
    if config.conv_kernel:
        # what a cache of transformers keeps for a layer: keys, values and earlier inputs
        layer_type = "hybrid" if config.window is None else "hybrid_sliding"
        settings["layer_types"] = [layer_type] * config.n_layers
    return settings


def from_hf_config(settings: Mapping) -> GPTConfig:
    """The GPTConfig of a config.json; ValueError if it asks for what our model cannot do."""
    kind = settings.get("model_type")
    if kind not in CLASSES:
        raise ValueError(f"model_type {kind!r} is unknown; known: {', '.join(CLASSES)}")
    try:
        config = _from_gpt2(settings) if kind == "gpt2" else _from_llama(settings)
    except KeyError as error:
        raise ValueError(f"config.json does not give {error}") from error
    return GPTConfig.of(config.to_dict() | settings.get(CUSTOM, {}))


def _require(settings: Mapping, name: str, *supported) -> None:
    """ValueError if a setting is given with another value than those that our model supports."""
    if settings.get(name, supported[0]) not in supported:
        raise ValueError(f"{name}={settings[name]!r} is not supported; supported: {supported}")


def _from_gpt2(settings: Mapping) -> GPTConfig:
    _require(settings, "activation_function", *TANH_GELU)
    _require(settings, "scale_attn_weights", True)
    _require(settings, "scale_attn_by_inverse_layer_idx", False)
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


def _from_llama(settings: Mapping) -> GPTConfig:
    kind, bias = settings["model_type"], settings.get("mlp_bias", False)
    # transformers 5 writes rope_parameters, earlier versions rope_theta and rope_scaling
    rope = settings.get("rope_parameters") or settings.get("rope_scaling") or {}
    _require(settings, "hidden_act", "silu")
    _require(
        {"rope_type": rope.get("rope_type", rope.get("type", "default"))}, "rope_type", "default"
    )
    _require(settings, "head_dim", settings["hidden_size"] // settings["num_attention_heads"], None)
    if kind != CUSTOM:
        # in Llama it stands for the output projection, too, which goes with `bias` in our config
        _require(settings, "attention_bias", bias)
    window = settings.get("sliding_window")
    if kind.startswith("qwen"):
        window = window if settings.get("use_sliding_window") else None
        if window is not None:
            _require(settings, "max_window_layers", 0)
    return GPTConfig(
        vocab_size=settings["vocab_size"],
        context_length=settings["max_position_embeddings"],
        emb_dim=settings["hidden_size"],
        n_heads=settings["num_attention_heads"],
        n_layers=settings["num_hidden_layers"],
        qkv_bias=settings.get("attention_bias", kind == "qwen2"),
        n_kv_heads=settings.get("num_key_value_heads"),
        position=settings.get("position", "rope"),
        rope_base=rope.get("rope_theta") or settings.get("rope_theta", 10_000.0),
        norm=settings.get("norm", "rmsnorm"),
        norm_eps=settings.get("rms_norm_eps", 1e-6),
        ffn=settings.get("ffn", "swiglu"),
        ffn_dim=settings["intermediate_size"],
        bias=bias,
        tie_embeddings=settings.get("tie_word_embeddings", False),
        window=window,
        qk_norm=settings.get("qk_norm", kind == "qwen3"),
        conv_kernel=settings.get("conv_kernel", 0),
    )


# our module -> the modules of Hugging Face's that it consists of
GPT2_MODULES = {
    "tok_emb": "wte",
    "pos_emb": "wpe",
    "norm1": "ln_1",
    "att.qkv": "attn.c_attn",
    "att.out_proj": "attn.c_proj",
    "norm2": "ln_2",
    "ff.layers.0": "mlp.c_fc",
    "ff.layers.2": "mlp.c_proj",
    "final_norm": "ln_f",
}
LLAMA_MODULES = {
    "tok_emb": "embed_tokens",
    "pos_emb": "embed_positions",
    "norm1": "input_layernorm",
    "conv": "conv",
    "att.qkv": "self_attn.q_proj self_attn.k_proj self_attn.v_proj",
    "att.q_norm": "self_attn.q_norm",
    "att.k_norm": "self_attn.k_norm",
    "att.out_proj": "self_attn.o_proj",
    "norm2": "post_attention_layernorm",
    "ff.gate_up": "mlp.gate_proj mlp.up_proj",
    "ff.down": "mlp.down_proj",
    "ff.layers.0": "mlp.up_proj",
    "ff.layers.2": "mlp.down_proj",
    "final_norm": "norm",
}


def _their_names(name: str, kind: str) -> list[str]:
    """The tensors of Hugging Face's that our tensor `name` consists of, without the prefix of all.

    >>> _their_names("trf_blocks.3.att.qkv.weight", "gpt2")
    ['h.3.attn.c_attn.weight']
    >>> _their_names("trf_blocks.3.norm1.scale", "llama")
    ['layers.3.input_layernorm.weight']
    """
    modules, layers = (GPT2_MODULES, "h") if kind == "gpt2" else (LLAMA_MODULES, "layers")
    prefix, (module, _, parameter) = "", name.rpartition(".")
    if module.startswith("trf_blocks."):
        _, layer, module = module.split(".", 2)
        prefix = f"{layers}.{layer}."
    parameter = {"scale": "weight", "shift": "bias"}.get(parameter, parameter)
    return [f"{prefix}{theirs}.{parameter}" for theirs in modules[module].split()]


def _is_transposed(name: str, kind: str) -> bool:
    """GPT-2 keeps its linear layers as (in, out), `nn.Linear` as (out, in)."""
    return kind == "gpt2" and name.startswith("trf_blocks.") and name.endswith(".weight")


def _with_every_bias(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Zeros for the biases that GPT-2 has and our model does not."""
    complete = dict(tensors)
    for name, tensor in tensors.items():
        module, _, parameter = name.rpartition(".")
        if parameter == "scale":
            complete.setdefault(f"{module}.shift", torch.zeros(len(tensor)))
        elif _is_transposed(name, "gpt2"):
            complete.setdefault(f"{module}.bias", torch.zeros(len(tensor)))
    return complete


def to_hf_tensors(tensors: Mapping[str, Tensor], config: GPTConfig) -> dict[str, Tensor]:
    """Our named tensors -> Hugging Face's, on the CPU. A missing bias of GPT-2's becomes zero."""
    kind, ours = model_type(config), dict(tensors)
    head = ours.pop("out_head.weight", None)
    if kind == "gpt2":
        ours = _with_every_bias(ours)
    key_width = config.kv_heads * config.head_dim
    rows = {"qkv": [config.emb_dim, key_width, key_width], "gate_up": [config.hidden_dim] * 2}
    theirs: dict[str, Tensor] = {}
    for name, tensor in ours.items():
        names = _their_names(name, kind)
        tensor = tensor.T if _is_transposed(name, kind) else tensor
        parts = tensor.split(rows[name.split(".")[-2]]) if len(names) > 1 else [tensor]
        theirs |= zip(names, parts, strict=True)
    prefix = "transformer." if kind == "gpt2" else "model."
    found = {prefix + name: tensor.contiguous().cpu() for name, tensor in theirs.items()}
    return found if head is None else found | {"lm_head.weight": head.cpu()}


def from_hf_tensors(
    tensors: Mapping[str, Tensor], config: GPTConfig, expected: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Hugging Face's named tensors -> ours, float32, each used exactly once; ValueError otherwise.

    `expected`: the tensors of our model. Names may come without their prefix, and constant buffers
    of old files are dropped. A model without weight tying gets `lm_head.weight`, or else a copy of
    the token embedding.
    """
    kind = model_type(config)
    left = {
        name.removeprefix("transformer.").removeprefix("model."): tensor.to(torch.float32)
        for name, tensor in tensors.items()
        if not name.endswith((".attn.bias", ".attn.masked_bias", ".rotary_emb.inv_freq"))
    }
    head = left.pop("lm_head.weight", None)
    ours = {}
    for name in _with_every_bias(expected) if kind == "gpt2" else expected:
        if name == "out_head.weight":
            continue
        names = _their_names(name, kind)
        missing = [theirs for theirs in names if theirs not in left]
        if missing:
            raise ValueError(f"the tensor {missing[0]!r} is missing")
        tensor = torch.cat([left.pop(theirs) for theirs in names])
        tensor = tensor.T if _is_transposed(name, kind) else tensor
        if name in expected:
            ours[name] = tensor
        elif tensor.any():
            raise ValueError(f"the tensor {names[0]!r} is not zero, but the model has no such bias")
    if left:
        raise ValueError(f"tensors that the model does not have: {', '.join(sorted(left)[:3])}")
    if not config.tie_embeddings:
        ours["out_head.weight"] = ours["tok_emb.weight"] if head is None else head
    elif head is not None and not torch.equal(head, ours["tok_emb.weight"]):
        raise ValueError(
            "lm_head.weight differs from the token embedding, but the config ties them"
        )
    return ours
