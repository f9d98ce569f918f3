"""Attention and a transformer block: chapters 2 and 3 on our own engine.

Each position has a query (what it is looking for), a key (what it can be found by) and a value
(what it passes on); a causal mask hides later positions. After Vaswani et al. 2017; the norm comes
before each branch, as in GPT-2 (Radford et al. 2019). Left out: the key/value cache (chapter 2).
"""

import math
from functools import cache

import numpy as np

from appendix_b.functions import softmax
from appendix_b.layers import GELU, Dropout, LayerNorm, Linear
from appendix_b.nn import Module, Sequential
from appendix_b.tensor import Tensor


@cache
def causal_mask(T: int) -> np.ndarray:
    """(T, T), float32, to be added to the scores: 0 where row t may attend (columns up to t), minus
    infinity elsewhere.

    >>> causal_mask(2).tolist()
    [[0.0, -inf], [0.0, 0.0]]
    """
    return np.triu(np.full((T, T), -np.inf, dtype=np.float32), k=1)


def scaled_dot_product_attention(
    queries: Tensor, keys: Tensor, values: Tensor, mask: np.ndarray | None = None
) -> Tensor:
    """(..., T, D) queries, keys and values -> (..., T, D): softmax(Q Kᵀ / sqrt(D) + mask) V."""
    axes = (*range(keys.ndim - 2), keys.ndim - 1, keys.ndim - 2)  # swap the last two
    # Without the scaling, dot products grow with D and the softmax saturates. Dividing the queries
    # is cheaper than dividing the scores: (T, D) instead of (T, T) numbers.
    scores = (queries * (1 / math.sqrt(queries.shape[-1]))) @ keys.transpose(*axes)  # (..., T, T)
    return softmax(scores if mask is None else scores + mask) @ values


class AttentionHead(Module):
    """(B, T, C) -> (B, T, D): one head of causal self-attention."""

    def __init__(self, emb_dim: int, head_dim: int, rng: np.random.Generator):
        self.W_query = Linear(emb_dim, head_dim, rng, bias=False)
        self.W_key = Linear(emb_dim, head_dim, rng, bias=False)
        self.W_value = Linear(emb_dim, head_dim, rng, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return scaled_dot_product_attention(
            self.W_query(x), self.W_key(x), self.W_value(x), causal_mask(x.shape[1])
        )


class MultiHeadAttention(Module):
    """(B, T, C) -> (B, T, C): H heads in parallel, each C / H wide, and an output projection."""

    def __init__(self, emb_dim: int, n_heads: int, rng: np.random.Generator):
        if emb_dim % n_heads:
            raise ValueError(f"{n_heads} heads do not divide the width {emb_dim}; choose a divisor")
        self.n_heads = n_heads
        self.W_query = Linear(emb_dim, emb_dim, rng, bias=False)
        self.W_key = Linear(emb_dim, emb_dim, rng, bias=False)
        self.W_value = Linear(emb_dim, emb_dim, rng, bias=False)
        self.out_proj = Linear(emb_dim, emb_dim, rng)

    def _split_heads(self, x: Tensor) -> Tensor:
        B, T, C = x.shape
        return x.reshape(B, T, self.n_heads, C // self.n_heads).transpose(0, 2, 1, 3)

    def forward(self, x: Tensor) -> Tensor:
        queries, keys, values = (
            self._split_heads(project(x)) for project in (self.W_query, self.W_key, self.W_value)
        )  # (B, H, T, D)
        context_vec = scaled_dot_product_attention(
            queries, keys, values, causal_mask(x.shape[1])
        )  # (B, H, T, D)
        # Put the heads side by side again; out_proj then mixes them.
        return self.out_proj(context_vec.transpose(0, 2, 1, 3).reshape(*x.shape))  # (B, T, C)


class TransformerBlock(Module):
    """(B, T, C) -> (B, T, C): x + attention(norm(x)), then x + feed_forward(norm(x))."""

    def __init__(
        self, emb_dim: int, n_heads: int, rng: np.random.Generator, drop_rate: float = 0.0
    ):
        self.norm1, self.norm2 = LayerNorm(emb_dim), LayerNorm(emb_dim)
        self.att = MultiHeadAttention(emb_dim, n_heads, rng)
        self.ff = Sequential(
            Linear(emb_dim, 4 * emb_dim, rng), GELU(), Linear(4 * emb_dim, emb_dim, rng)
        )
        self.drop = Dropout(drop_rate, rng)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.drop(self.att(self.norm1(x)))
        return x + self.drop(self.ff(self.norm2(x)))
