"""The ladder to multi-head attention: each rung adds one idea and is proved equal to the next.

From plain Python lists to weight matrices, `nn.Linear`, the causal mask, several heads, and finally
the one fused layer in attention.py. Class names and signatures are the book's.
"""

import math

import torch
from torch import Tensor, nn

from ch02_attention.attention import MultiHeadAttention

Vector = list[float]


def dot(a: Vector, b: Vector) -> float:
    """The sum of products: large where two vectors point the same way.

    >>> dot([1.0, 2.0], [3.0, 4.0])
    11.0
    """
    return sum(x * y for x, y in zip(a, b, strict=True))


def softmax(scores: Vector) -> Vector:
    """Positive numbers in the same order that sum to one; the largest is subtracted against
    overflow.

    >>> [round(p, 3) for p in softmax([1.0, 2.0, 1000.0])]
    [0.0, 0.0, 1.0]
    """
    largest = max(scores)
    exponentials = [math.exp(score - largest) for score in scores]
    total = sum(exponentials)
    return [e / total for e in exponentials]


def attention_lists(
    queries: list[Vector], keys: list[Vector], values: list[Vector], causal: bool = False
) -> tuple[list[Vector], list[Vector]]:
    """Scaled dot-product attention in plain Python: T vectors each -> (T context vectors, T rows of
    weights).

    >>> x = [[1.0, 0.0], [0.0, 1.0]]
    >>> context, weights = attention_lists(x, x, x, causal=True)
    >>> weights[0]
    [1.0, 0.0]
    """
    contexts, all_weights = [], []
    for i, query in enumerate(queries):
        visible = i + 1 if causal else len(keys)
        scores = [dot(query, key) / math.sqrt(len(query)) for key in keys[:visible]]
        weights = softmax(scores)
        contexts.append(
            [dot(weights, [value[d] for value in values[:visible]]) for d in range(len(values[0]))]
        )
        all_weights.append(weights + [0.0] * (len(keys) - visible))
    return contexts, all_weights


def project_lists(x: list[Vector], matrix: list[Vector]) -> list[Vector]:
    """(T, d_in) @ (d_in, d_out) in plain Python."""
    columns = list(zip(*matrix, strict=True))
    return [[dot(row, list(column)) for column in columns] for row in x]


class SelfAttention_v1(nn.Module):
    """One head with bare weight matrices: (T, d_in) or (B, T, d_in) -> the same with d_out, no
    mask.
    """

    def __init__(self, d_in: int, d_out: int):
        super().__init__()
        self.W_query = nn.Parameter(torch.rand(d_in, d_out))
        self.W_key = nn.Parameter(torch.rand(d_in, d_out))
        self.W_value = nn.Parameter(torch.rand(d_in, d_out))

    def forward(self, x: Tensor) -> Tensor:
        queries, keys, values = x @ self.W_query, x @ self.W_key, x @ self.W_value
        scores = queries @ keys.transpose(-2, -1)  # (..., T, T)
        weights = torch.softmax(scores / keys.shape[-1] ** 0.5, dim=-1)
        return weights @ values


class SelfAttention_v2(nn.Module):
    """SelfAttention_v1 with `nn.Linear`, which is initialised better and stores transposes."""

    def __init__(self, d_in: int, d_out: int, qkv_bias: bool = False):
        super().__init__()
        self.W_query = nn.Linear(d_in, d_out, bias=qkv_bias)
        self.W_key = nn.Linear(d_in, d_out, bias=qkv_bias)
        self.W_value = nn.Linear(d_in, d_out, bias=qkv_bias)

    def forward(self, x: Tensor) -> Tensor:
        queries, keys, values = self.W_query(x), self.W_key(x), self.W_value(x)
        scores = queries @ keys.transpose(-2, -1)  # (..., T, T)
        weights = torch.softmax(scores / keys.shape[-1] ** 0.5, dim=-1)
        return weights @ values


class CausalAttention(nn.Module):
    """(B, T, d_in) -> (B, T, d_out): a token attends to itself and earlier ones; dropout on the
    weights.
    """

    mask: Tensor

    def __init__(
        self, d_in: int, d_out: int, context_length: int, dropout: float, qkv_bias: bool = False
    ):
        super().__init__()
        self.W_query = nn.Linear(d_in, d_out, bias=qkv_bias)
        self.W_key = nn.Linear(d_in, d_out, bias=qkv_bias)
        self.W_value = nn.Linear(d_in, d_out, bias=qkv_bias)
        self.dropout = nn.Dropout(dropout)
        future = torch.triu(
            torch.ones(context_length, context_length, dtype=torch.bool), diagonal=1
        )
        self.register_buffer("mask", future, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        T = x.shape[1]
        queries, keys, values = self.W_query(x), self.W_key(x), self.W_value(x)
        scores = queries @ keys.transpose(1, 2)  # (B, T, T)
        scores = scores.masked_fill(self.mask[:T, :T], float("-inf"))
        weights = self.dropout(torch.softmax(scores / keys.shape[-1] ** 0.5, dim=-1))
        return weights @ values


class MultiHeadAttentionWrapper(nn.Module):
    """Several CausalAttention heads side by side: (B, T, d_in) -> (B, T, num_heads * d_out)."""

    def __init__(
        self,
        d_in: int,
        d_out: int,
        context_length: int,
        dropout: float,
        num_heads: int,
        qkv_bias: bool = False,
    ):
        super().__init__()
        self.heads = nn.ModuleList(
            CausalAttention(d_in, d_out, context_length, dropout, qkv_bias)
            for _ in range(num_heads)
        )

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([head(x) for head in self.heads], dim=-1)


@torch.no_grad()
def copy_matrices(source: SelfAttention_v1, target: SelfAttention_v2 | CausalAttention) -> None:
    """Copy the matrices of SelfAttention_v1 to a layer with `nn.Linear`."""
    for name in ("W_query", "W_key", "W_value"):
        getattr(target, name).weight.copy_(getattr(source, name).T)


@torch.no_grad()
def copy_heads(wrapper: MultiHeadAttentionWrapper, layer: MultiHeadAttention) -> None:
    """Copy the wrapper's heads to the fused layer, with the identity as its output projection."""
    names = ("W_query", "W_key", "W_value")
    layer.qkv.weight.copy_(
        torch.cat([getattr(head, name).weight for name in names for head in wrapper.heads])
    )
    if layer.qkv.bias is not None:
        layer.qkv.bias.copy_(
            torch.cat([getattr(head, name).bias for name in names for head in wrapper.heads])
        )
    layer.out_proj.weight.copy_(torch.eye(len(layer.out_proj.weight)))
    if layer.out_proj.bias is not None:
        layer.out_proj.bias.zero_()
