"""Multi-head causal self-attention (Vaswani et al. 2017), fast: one projection for queries, keys
and values, PyTorch's fused kernel for the rest. `attention_reference` spells the formula out.

Switches: grouped-query heads (Ainslie et al. 2023), RoPE, sliding window (Beltagy et al. 2020),
    cache.
"""

import math
from contextlib import nullcontext

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ch02_attention.cache import LayerCache
from ch02_attention.dropout import attention_with_dropout
from ch02_attention.mask import Place, causal_mask
from ch02_attention.rope import apply_rope, rope_table
from ch02_attention.short_attention import NORM_EPS, SHORT, short_causal_attention


def attention_reference(
    queries: Tensor, keys: Tensor, values: Tensor, causal: bool = True, window: int | None = None
) -> tuple[Tensor, Tensor]:
    """softmax(Q K^T / sqrt(D)) V: (..., T, D), (..., S, D) twice -> context (..., T, D), weights
    (..., T, S).
    """
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
    qk_norm: divide queries and keys by their root mean square, head by head (Henry et al. 2020;
        Dehghani et al. 2023).
    """

    def __init__(
        self,
        d_in: int,
        d_out: int,
        context_length: int,
        dropout: float,
        num_heads: int,
        qkv_bias: bool = False,
        *,
        num_kv_heads: int | None = None,
        rope_base: float | None = None,
        window: int | None = None,
        out_bias: bool = True,
        qk_norm: bool = False,
    ):
        super().__init__()
        num_kv_heads = num_kv_heads or num_heads
        if d_out % num_heads:
            raise ValueError(
                f"num_heads={num_heads} does not divide d_out={d_out}; choose a divisor"
            )
        if num_heads % num_kv_heads:
            raise ValueError(
                f"num_kv_heads={num_kv_heads} does not divide num_heads={num_heads}; choose a"
                " divisor"
            )
        if window is not None and window < 1:
            raise ValueError(f"window must be at least 1 (the token itself), not {window}")
        self.context_length = context_length
        self.dropout = dropout
        self.window = window
        self.qk_norm = qk_norm
        self.num_heads = num_heads
        self.num_kv_heads = num_kv_heads
        self.head_dim = d_out // num_heads
        self.qkv = nn.Linear(d_in, d_out + 2 * num_kv_heads * self.head_dim, bias=qkv_bias)
        self.out_proj = nn.Linear(d_out, d_out, bias=out_bias)
        self.rotates = rope_base is not None
        if self.rotates:
            cos, sin = rope_table(context_length, self.head_dim, rope_base)
            self.register_buffer("cos", cos, persistent=False)
            self.register_buffer("sin", sin, persistent=False)

    def split_heads(self, qkv: Tensor, place: Place) -> tuple[Tensor, Tensor, Tensor]:
        """Projections (B, T, C + 2 C_kv) of the tokens at `place` -> queries (B, H, T, D), keys and
        values (B, H_kv, T, D), normalised and rotated where that is on.
        """
        B, T, _ = qkv.shape
        heads = qkv.view(B, T, -1, self.head_dim).transpose(1, 2)  # (B, H + 2 H_kv, T, D)
        turned, values = heads.split((self.num_heads + self.num_kv_heads, self.num_kv_heads), dim=1)
        if self.qk_norm:
            turned = F.rms_norm(turned, (self.head_dim,), eps=NORM_EPS).to(values.dtype)
        if self.rotates:
            turned = apply_rope(
                turned, place.pick(self.cos).unsqueeze(-3), place.pick(self.sin).unsqueeze(-3)
            )
        queries, keys = turned.split((self.num_heads, self.num_kv_heads), dim=1)
        return queries, keys, values

    def forward(self, x: Tensor, cache: LayerCache | None = None) -> Tensor:
        """With a cache, x continues the texts that it holds, at the place that `KVCache.begin`
        has made for it.
        """
        B, T, _ = x.shape
        if cache is None and self.context_length < T:
            raise ValueError(
                f"{T} tokens exceed the context length {self.context_length}; shorten the input"
            )
        qkv = self.qkv(x)
        dropout = self.dropout if self.training else 0.0
        grouped = self.num_kv_heads < self.num_heads
        windowed = self.window is not None and self.window < T
        bfloat16_on_cpu = qkv.dtype == torch.bfloat16 and qkv.device.type == "cpu"
        if (
            bfloat16_on_cpu
            and cache is None
            and T <= SHORT
            and not (dropout or grouped or windowed)
        ):
            angles = (self.cos[:T], self.sin[:T]) if self.rotates else ()
            return self.out_proj(
                short_causal_attention(qkv, self.num_heads, *angles, normed=self.qk_norm)
            )
        place = cache.place if cache is not None else Place.straight(0, T, self.window, x.device)
        queries, keys, values = self.split_heads(qkv, place)
        if cache is not None:
            keys, values = cache.append(keys, values)
            queries = queries.to(keys.dtype)
        # Autocast would round the whole cache, and for every token anew.
        rounds = cache is not None and torch.is_autocast_enabled(x.device.type)
        with torch.autocast(x.device.type, enabled=False) if rounds else nullcontext():
            if dropout and x.device.type == "cpu":
                allowed = causal_mask(T, T) if place.causal else place.mask
                # (B, H, T, D)
                context = attention_with_dropout(queries, keys, values, allowed, dropout)
            else:
                context = F.scaled_dot_product_attention(
                    queries,
                    keys,
                    values,
                    attn_mask=place.mask,
                    dropout_p=dropout,
                    is_causal=place.causal,
                    enable_gqa=grouped,
                )
        return self.out_proj(context.transpose(1, 2).reshape(B, T, -1).to(x.dtype))
