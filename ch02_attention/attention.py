"""Multi-head causal self-attention (Vaswani et al. 2017), fast: one projection for queries, keys and
values, PyTorch's fused kernel for the rest. `attention_reference` spells the formula out.

Switches: grouped-query heads (Ainslie et al. 2023), RoPE, sliding window (Beltagy et al. 2020), cache.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ch02_attention.cache import KVCache
from ch02_attention.rope import apply_rope, rope_table
from ch02_attention.short_attention import SHORT, short_causal_attention


def causal_mask(T: int, S: int, window: int | None = None, device=None) -> Tensor:
    """(T, S) booleans: may the i-th of the last T tokens look at the j-th of S? Itself and earlier ones,
    at most `window` in all.

    >>> causal_mask(2, 3).int()
    tensor([[1, 1, 0],
            [1, 1, 1]], dtype=torch.int32)
    """
    queries = torch.arange(S - T, S, device=device).unsqueeze(1)
    keys = torch.arange(S, device=device)
    allowed = keys <= queries
    return allowed if window is None else allowed & (keys > queries - window)


def attention_reference(queries: Tensor, keys: Tensor, values: Tensor, causal: bool = True,
                        window: int | None = None) -> tuple[Tensor, Tensor]:
    """softmax(Q K^T / sqrt(D)) V: (..., T, D), (..., S, D) twice -> context (..., T, D), weights (..., T, S)."""
    scores = queries @ keys.transpose(-2, -1) / math.sqrt(queries.shape[-1])  # (..., T, S)
    if causal:
        allowed = causal_mask(scores.shape[-2], scores.shape[-1], window, scores.device)
        scores = scores.masked_fill(~allowed, float("-inf"))
    weights = scores.softmax(dim=-1)
    return weights @ values, weights


class MultiHeadAttention(nn.Module):
    """(B, T, d_in) -> (B, T, d_out); the positional arguments are the book's.

    num_kv_heads: key/value heads, shared by groups of query heads (default: one each).
    rope_base: rotate queries and keys with this base (default: no rotation).
    window: each token sees itself and the window - 1 before it (default: all before it).
    """

    def __init__(self, d_in: int, d_out: int, context_length: int, dropout: float, num_heads: int,
                 qkv_bias: bool = False, *, num_kv_heads: int | None = None, rope_base: float | None = None,
                 window: int | None = None, out_bias: bool = True):
        super().__init__()
        num_kv_heads = num_kv_heads or num_heads
        if d_out % num_heads:
            raise ValueError(f"num_heads={num_heads} does not divide d_out={d_out}; choose a divisor")
        if num_heads % num_kv_heads:
            raise ValueError(f"num_kv_heads={num_kv_heads} does not divide num_heads={num_heads}; choose a divisor")
        if window is not None and window < 1:
            raise ValueError(f"window must be at least 1 (the token itself), not {window}")
        self.context_length, self.dropout, self.window = context_length, dropout, window
        self.num_heads, self.num_kv_heads, self.head_dim = num_heads, num_kv_heads, d_out // num_heads
        self.qkv = nn.Linear(d_in, d_out + 2 * num_kv_heads * self.head_dim, bias=qkv_bias)
        self.out_proj = nn.Linear(d_out, d_out, bias=out_bias)
        self.rotates = rope_base is not None
        if self.rotates:
            cos, sin = rope_table(context_length, self.head_dim, rope_base)
            self.register_buffer("cos", cos, persistent=False)
            self.register_buffer("sin", sin, persistent=False)

    def split_heads(self, qkv: Tensor, past: int = 0) -> tuple[Tensor, Tensor, Tensor]:
        """Projections (B, T, C + 2 C_kv) of tokens past, past + 1, ... -> queries (B, H, T, D), keys and values
        (B, H_kv, T, D), rotated where RoPE is on."""
        B, T, _ = qkv.shape
        heads = qkv.view(B, T, -1, self.head_dim).transpose(1, 2)  # (B, H + 2 H_kv, T, D)
        queries, keys, values = heads.split((self.num_heads, self.num_kv_heads, self.num_kv_heads), dim=1)
        if self.rotates:
            cos, sin = self.cos[past : past + T], self.sin[past : past + T]
            queries, keys = apply_rope(queries, cos, sin), apply_rope(keys, cos, sin)
        return queries, keys, values

    def forward(self, x: Tensor, cache: KVCache | None = None) -> Tensor:
        B, T, _ = x.shape
        past = cache.length if cache else 0
        if past + T > self.context_length:
            raise ValueError(f"{past + T} tokens exceed the context length {self.context_length}; shorten the input")
        qkv = self.qkv(x)
        dropout = self.dropout if self.training else 0.0
        grouped = self.num_kv_heads < self.num_heads
        windowed = self.window is not None and self.window < past + T
        bfloat16_on_cpu = qkv.dtype == torch.bfloat16 and qkv.device.type == "cpu"
        if bfloat16_on_cpu and cache is None and T <= SHORT and not (dropout or grouped or windowed):
            angles = (self.cos[:T], self.sin[:T]) if self.rotates else ()
            return self.out_proj(short_causal_attention(qkv, self.num_heads, *angles))
        queries, keys, values = self.split_heads(qkv, past)
        if cache is not None:
            keys, values = cache.append(keys, values)
        S = keys.shape[2]
        plain_causal = T == S and T > 1 and not windowed
        mask = None if plain_causal or (T == 1 and not windowed) else causal_mask(T, S, self.window, x.device)
        context = F.scaled_dot_product_attention(queries, keys, values, attn_mask=mask, is_causal=plain_causal,
                                                 dropout_p=dropout, enable_gqa=grouped)  # (B, H, T, D)
        return self.out_proj(context.transpose(1, 2).reshape(B, T, -1))
