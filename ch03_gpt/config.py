"""GPTConfig: every choice that shapes a model, in one frozen, checked dataclass, and named presets.

The book passes a dictionary; wherever a config is expected here, that dictionary works too.
Published shapes: GPT-2 (Radford et al. 2019), Llama 2 (Touvron et al. 2023, table 1), Mistral 7B
(Jiang et al. 2023, table 1), Qwen2.5 (2024, table 1), Qwen3 (2025, table 1).
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace

POSITIONS = ("learned", "rope")
NORMS = ("layernorm", "rmsnorm")
FEED_FORWARDS = ("gelu", "swiglu")


@dataclass(frozen=True)
class GPTConfig:
    vocab_size: int = 50_257  # V: number of token ids
    context_length: int = 1024  # T: the longest window of tokens that the model sees
    emb_dim: int = 768  # C: width of the residual stream
    n_heads: int = 12  # H: query heads; each is emb_dim / n_heads wide
    n_layers: int = 12  # number of transformer blocks
    drop_rate: float = 0.0  # dropout in embeddings, attention and residual branches
    qkv_bias: bool = False  # bias in the query/key/value projection
    n_kv_heads: int | None = None  # key/value heads; None: as many as query heads
    position: str = "learned"  # "learned" table (GPT-2) or "rope" rotations (Su et al. 2021)
    rope_base: float = 10_000.0  # RoPE's wavelength base
    norm: str = "layernorm"  # "layernorm" or "rmsnorm"
    norm_eps: float = 1e-5  # added to the variance or mean square under the square root
    ffn: str = "gelu"  # feed-forward: "gelu" (GPT-2) or "swiglu" (Llama)
    ffn_dim: int | None = None  # its inner width; None: 4 x emb_dim, or 8/3 x emb_dim for swiglu
    bias: bool = True  # bias in the other linear layers and in LayerNorm
    tie_embeddings: bool = False  # output head shares the token embedding's matrix
    window: int | None = None  # sliding window: tokens attended to, this one included; None: all
    qk_norm: bool = False  # RMSNorm on queries and keys, head by head (Qwen3)
    conv_kernel: int = 0  # tokens seen by a short convolution in front of attention; 0: none

    def __post_init__(self):
        sizes = ["vocab_size", "context_length", "emb_dim", "n_heads", "n_layers"]
        for name in sizes + [
            n for n in ("n_kv_heads", "ffn_dim", "window") if getattr(self, n) is not None
        ]:
            if not isinstance(getattr(self, name), int) or getattr(self, name) < 1:
                raise ValueError(
                    f"{name} must be a whole number of at least 1, not {getattr(self, name)!r}"
                )
        for name, choices in (("position", POSITIONS), ("norm", NORMS), ("ffn", FEED_FORWARDS)):
            if getattr(self, name) not in choices:
                raise ValueError(
                    f"{name} must be one of {', '.join(choices)}, not {getattr(self, name)!r}"
                )
        # a kernel of 1 would have no token before the current one, and so no weights
        if not isinstance(self.conv_kernel, int) or self.conv_kernel < 0 or self.conv_kernel == 1:
            raise ValueError(
                "conv_kernel must be 0 (off) or a whole number of at least 2, not"
                f" {self.conv_kernel!r}"
            )
        if not 0 <= self.drop_rate < 1:
            raise ValueError(f"drop_rate must be in [0, 1), not {self.drop_rate}")
        if self.emb_dim % self.n_heads:
            raise ValueError(
                f"n_heads={self.n_heads} does not divide emb_dim={self.emb_dim}; "
                "choose a divisor, so that every head has the same width"
            )
        if self.n_heads % self.kv_heads:
            raise ValueError(f"n_kv_heads={self.n_kv_heads} does not divide n_heads={self.n_heads}")
        if self.position == "rope" and self.head_dim % 2:
            raise ValueError(
                "RoPE rotates pairs, so the head width must be even, "
                f"not emb_dim / n_heads = {self.head_dim}"
            )

    @property
    def head_dim(self) -> int:
        return self.emb_dim // self.n_heads

    @property
    def kv_heads(self) -> int:
        return self.n_kv_heads or self.n_heads

    @property
    def hidden_dim(self) -> int:
        """Inner width of the feed-forward layer. SwiGLU has three matrices where GELU has two, so
        8/3 x emb_dim keeps the parameter count (Shazeer 2020), rounded up to a multiple of 32, the
        group size of quantized weights.
        """
        if self.ffn_dim is not None:
            return self.ffn_dim
        # -(-a // b) rounds a / b up; 96 = 3 x 32
        return 4 * self.emb_dim if self.ffn == "gelu" else -(-8 * self.emb_dim // 96) * 32

    @classmethod
    def of(cls, config: "GPTConfig | Mapping") -> "GPTConfig":
        """Return `config` itself, or a GPTConfig made from the book's kind of dictionary."""
        if isinstance(config, GPTConfig):
            return config
        unknown = sorted(set(config) - {field.name for field in fields(cls)})
        if unknown:
            raise ValueError(
                f"unknown config keys {', '.join(unknown)}; "
                f"known: {', '.join(field.name for field in fields(cls))}"
            )
        return cls(**config)

    def to_dict(self) -> dict:
        return asdict(self)


_GPT2 = GPTConfig(qkv_bias=True, tie_embeddings=True)
_LLAMA = GPTConfig(position="rope", norm="rmsnorm", ffn="swiglu", bias=False)
_QWEN3 = replace(_LLAMA, norm_eps=1e-6, qk_norm=True, tie_embeddings=True)

PRESETS: dict[str, GPTConfig] = {
    # GPT-2, the book's four sizes
    "gpt2-124m": _GPT2,
    "gpt2-355m": replace(_GPT2, emb_dim=1024, n_heads=16, n_layers=24),
    "gpt2-774m": replace(_GPT2, emb_dim=1280, n_heads=20, n_layers=36),
    "gpt2-1558m": replace(_GPT2, emb_dim=1600, n_heads=25, n_layers=48),
    # Qwen3's shape, small enough to train on a laptop in minutes
    "tiny": replace(_QWEN3, vocab_size=512, context_length=64, emb_dim=64, n_heads=4, n_layers=2),
    "story": replace(
        _QWEN3,
        vocab_size=600,
        context_length=256,
        emb_dim=128,
        n_heads=8,
        n_layers=3,
        conv_kernel=7,
    ),
    "small": replace(
        _QWEN3, vocab_size=4096, context_length=256, emb_dim=256, n_heads=4, n_layers=4
    ),
    "medium": replace(
        _QWEN3, vocab_size=4096, context_length=256, emb_dim=384, n_heads=6, n_layers=6
    ),
    # for the thousands of short texts that a classifier is trained on (chapter 5)
    "messages": replace(
        _QWEN3, vocab_size=1000, context_length=256, emb_dim=128, n_heads=4, n_layers=3
    ),
    # for characters: layers x width; 65 in Shakespeare's plays and two special tokens
    "chars-3x128": replace(
        _QWEN3, vocab_size=67, context_length=128, emb_dim=128, n_heads=2, n_layers=3
    ),
    "chars-4x128": replace(
        _QWEN3, vocab_size=67, context_length=256, emb_dim=128, n_heads=2, n_layers=4
    ),
    "chars-4x256": replace(
        _QWEN3, vocab_size=67, context_length=256, emb_dim=256, n_heads=4, n_layers=4
    ),
    # today's families, at published sizes
    "llama2-7b": replace(
        _LLAMA,
        vocab_size=32_000,
        context_length=4096,
        emb_dim=4096,
        n_heads=32,
        n_layers=32,
        ffn_dim=11_008,
    ),
    "mistral-7b": replace(
        _LLAMA,
        vocab_size=32_000,
        context_length=32_768,
        emb_dim=4096,
        n_heads=32,
        n_kv_heads=8,
        n_layers=32,
        ffn_dim=14_336,
        window=4096,
    ),
    "qwen2.5-0.5b": replace(
        _LLAMA,
        vocab_size=151_936,
        context_length=32_768,
        emb_dim=896,
        n_heads=14,
        n_kv_heads=2,
        n_layers=24,
        ffn_dim=4864,
        qkv_bias=True,
        rope_base=1e6,
        norm_eps=1e-6,
        tie_embeddings=True,
    ),
    "qwen3-1.7b": replace(
        _QWEN3,
        vocab_size=151_936,
        context_length=40_960,
        emb_dim=2048,
        n_heads=16,
        n_kv_heads=8,
        n_layers=28,
        ffn_dim=6144,
        rope_base=1e6,
    ),
}


def preset_config(name: str, **changes) -> GPTConfig:
    """Return the preset called `name`, with fields replaced by `changes`; ValueError lists the
    names.
    """
    if name not in PRESETS:
        raise ValueError(f"unknown preset {name!r}; choose one of {', '.join(PRESETS)}")
    return replace(PRESETS[name], **changes)


# The book's dictionary, under the book's name: seven keys, no weight tying.
GPT_CONFIG_124M = {
    "vocab_size": 50_257,
    "context_length": 1024,
    "emb_dim": 768,
    "n_heads": 12,
    "n_layers": 12,
    "drop_rate": 0.1,
    "qkv_bias": False,
}
