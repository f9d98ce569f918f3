"""Attention and a transformer block, the shapes of chapters 2 and 3 on our own engine.

Every position asks (query), offers (key) and gives (value); a causal mask hides what comes later.
After Vaswani et al. 2017; the norm comes before each branch, as in GPT-2 (Radford et al. 2019).
Left out: the key/value cache (chapter 2).
"""

import math
from functools import cache

import numpy as np

from appendix_b.functions import softmax
from appendix_b.layers import GELU, Dropout, LayerNorm, Linear
from appendix_b.nn import Module, Sequential
from appendix_b.tensor import Tensor


@cache
def causal_bias(T: int) -> np.ndarray:
    """(T, T), float32, to add to scores: zero where row t may look (columns up to t), minus
    infinity elsewhere.

    >>> causal_bias(2).tolist()
    [[0.0, -inf], [0.0, 0.0]]
    """
    return np.triu(np.full((T, T), -np.inf, dtype=np.float32), k=1)


def attend(queries: Tensor, keys: Tensor, values: Tensor, bias: np.ndarray | None = None) -> Tensor:
    """(..., T, D) queries, keys, values -> (..., T, D): values, averaged by softmax(queries
    keys' / sqrt(D) + bias).
    """
    axes = (*range(keys.ndim - 2), keys.ndim - 1, keys.ndim - 2)
    scores = (queries * (1 / math.sqrt(queries.shape[-1]))) @ keys.transpose(*axes)  # (..., T, T)
    return softmax(scores if bias is None else scores + bias) @ values


class AttentionHead(Module):
    """(B, T, C) -> (B, T, head width): one head of causal attention."""

    def __init__(self, width: int, head_width: int, rng: np.random.Generator):
        self.query, self.key, self.value = (
            Linear(width, head_width, rng, bias=False) for _ in range(3)
        )

    def forward(self, x: Tensor) -> Tensor:
        return attend(self.query(x), self.key(x), self.value(x), causal_bias(x.shape[1]))


class MultiHeadAttention(Module):
    """(B, T, C) -> (B, T, C): several heads at once, each C / heads wide, and a matrix that
    mixes them.
    """

    def __init__(self, width: int, heads: int, rng: np.random.Generator):
        if width % heads:
            raise ValueError(f"{heads} heads do not divide the width {width}; choose a divisor")
        self.heads = heads
        self.query, self.key, self.value = (Linear(width, width, rng, bias=False) for _ in range(3))
        self.mix = Linear(width, width, rng)

    def split(self, x: Tensor) -> Tensor:
        B, T, C = x.shape
        return x.reshape(B, T, self.heads, C // self.heads).transpose(0, 2, 1, 3)  # (B, H, T, D)

    def forward(self, x: Tensor) -> Tensor:
        queries, keys, values = (self.split(one(x)) for one in (self.query, self.key, self.value))
        context_vec = attend(queries, keys, values, causal_bias(x.shape[1]))  # (B, H, T, D)
        return self.mix(context_vec.transpose(0, 2, 1, 3).reshape(*x.shape))


class TransformerBlock(Module):
    """(B, T, C) -> (B, T, C): x + attention(norm(x)), then x + feed_forward(norm(x))."""

    def __init__(self, width: int, heads: int, rng: np.random.Generator, dropout: float = 0.0):
        self.norm1, self.norm2 = LayerNorm(width), LayerNorm(width)
        self.attention = MultiHeadAttention(width, heads, rng)
        self.feed_forward = Sequential(
            Linear(width, 4 * width, rng), GELU(), Linear(4 * width, width, rng)
        )
        self.drop = Dropout(dropout, rng)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.drop(self.attention(self.norm1(x)))
        return x + self.drop(self.feed_forward(self.norm2(x)))
