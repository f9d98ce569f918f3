"""Multi-head causal self-attention (Vaswani et al. 2017), fast: one projection for queries, keys
and values, PyTorch's fused kernel for the rest, or `cpu_attention.py`'s where that is faster.
`attention_reference` spells the formula out.

Options: grouped-query heads (Ainslie et al. 2023), RoPE, QK-norm, sliding window (Beltagy et al.
2020). `forward` also takes a cache.
"""

import math
from dataclasses import dataclass

from torch import Tensor, nn

from ch02_attention.cache import LayerCache
from ch02_attention.cpu_attention import bf16_attention, causal_attention, takes_bf16_attention
from ch02_attention.mask import CacheLayout, causal_mask
from ch02_attention.rms_norm import RMSNorm
from ch02_attention.rope import apply_rope, rope_table


def attention_reference(
    queries: Tensor, keys: Tensor, values: Tensor, causal: bool = True, window: int | None = None
) -> tuple[Tensor, Tensor]:
    """softmax(Q K^T / sqrt(D)) V: queries (..., T, D), keys and values (..., S, D) -> context
    (..., T, D), weights (..., T, S).
    """
    scores = queries @ keys.transpose(-2, -1) / math.sqrt(queries.shape[-1])  # (..., T, S)
    if causal:
        allowed = causal_mask(scores.shape[-2], scores.shape[-1], window, scores.device)
        scores = scores.masked_fill(~allowed, float("-inf"))
    weights = scores.softmax(dim=-1)
    return weights @ values, weights


@dataclass(frozen=True)
class AttentionOptions:
    """What `MultiHeadAttention` can do beyond the book's."""

    # key/value heads, each shared by a group of query heads; None: one for every query head
    num_kv_heads: int | None = None
    rope_base: float | None = None  # rotate queries and keys with this base; None: no rotation
    window: int | None = None  # tokens attended to, this one included; None: all
    out_bias: bool = True  # bias in the output projection
    # normalise queries and keys, head by head, with a learned scale (Henry et al. 2020; Dehghani et
    # al. 2023)
    qk_norm: bool = False
    norm_eps: float = 1e-6  # added to the mean square in this norm

    def __post_init__(self):
        if self.window is not None and self.window < 1:
            raise ValueError(f"window must be at least 1 (the token itself), not {self.window}")


class MultiHeadAttention(nn.Module):
    """(B, T, d_in) -> (B, T, d_out); all arguments but `options` are the book's."""

    cos: Tensor
    sin: Tensor

    def __init__(
        self,
        d_in: int,
        d_out: int,
        context_length: int,
        dropout: float,
        num_heads: int,
        qkv_bias: bool = False,
        options: AttentionOptions = AttentionOptions(),
    ):
        super().__init__()
        num_kv_heads = options.num_kv_heads or num_heads
        if d_out % num_heads:
            raise ValueError(
                f"num_heads={num_heads} does not divide d_out={d_out}; choose a divisor"
            )
        if num_heads % num_kv_heads:
            raise ValueError(
                f"num_kv_heads={num_kv_heads} does not divide num_heads={num_heads}; choose a"
                " divisor"
            )
        self.context_length = context_length
        self.dropout = dropout
        self.window = options.window
        self.num_heads = num_heads
        self.num_kv_heads = num_kv_heads
        self.head_dim = d_out // num_heads
        self.qkv = nn.Linear(d_in, d_out + 2 * num_kv_heads * self.head_dim, bias=qkv_bias)
        self.q_norm = RMSNorm(self.head_dim, options.norm_eps) if options.qk_norm else None
        self.k_norm = RMSNorm(self.head_dim, options.norm_eps) if options.qk_norm else None
        self.out_proj = nn.Linear(d_out, d_out, bias=options.out_bias)
        self.rotates = options.rope_base is not None
        if options.rope_base is not None:
            cos, sin = rope_table(context_length, self.head_dim, options.rope_base)
            self.register_buffer("cos", cos, persistent=False)
            self.register_buffer("sin", sin, persistent=False)

    def split_heads(self, qkv: Tensor, layout: CacheLayout) -> tuple[Tensor, Tensor, Tensor]:
        """Projections (B, T, C + 2 C_kv) -> queries (B, H, T, D), keys and values (B, H_kv, T, D),
        normalised and rotated.
        """
        B, T, _ = qkv.shape
        heads = qkv.view(B, T, -1, self.head_dim).transpose(1, 2)  # (B, H + 2 H_kv, T, D)
        queries, keys, values = heads.split(
            (self.num_heads, self.num_kv_heads, self.num_kv_heads), dim=1
        )
        if self.q_norm is not None and self.k_norm is not None:
            queries, keys = self.q_norm(queries), self.k_norm(keys)
        if self.rotates:
            cos, sin = (table[layout.positions].unsqueeze(-3) for table in (self.cos, self.sin))
            queries, keys = apply_rope(queries, cos, sin), apply_rope(keys, cos, sin)
        return queries, keys, values

    def forward(self, x: Tensor, cache: LayerCache | None = None) -> Tensor:
        """With a cache, x are the next T tokens; call `KVCache.prepare(T)` first."""
        B, T, _ = x.shape
        if cache is None and self.context_length < T:
            raise ValueError(
                f"{T} tokens exceed the context length {self.context_length}; shorten the input"
            )
        layout = (
            CacheLayout.contiguous(0, T, self.window, x.device) if cache is None else cache.layout
        )
        qkv = self.qkv(x)  # (B, T, (H + 2 H_kv) D)
        if cache is None and takes_bf16_attention(self, qkv, layout):
            return self.out_proj(bf16_attention(self, qkv))
        queries, keys, values = self.split_heads(qkv, layout)
        if cache is not None:
            keys, values = cache.append(keys, values)  # (B, H_kv, S, D)
        dropout = self.dropout if self.training else 0.0
        context = causal_attention(queries, keys, values, layout, dropout)  # (B, H, T, D)
        return self.out_proj(context.transpose(1, 2).reshape(B, T, -1).to(x.dtype))
