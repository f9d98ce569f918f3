"""Solutions to the exercises of chapter 2: one way of many, each with the reason why it works."""

import math

import torch
from torch import Tensor


def stable_softmax(scores: list[float], temperature: float = 1.0) -> list[float]:
    """With the largest score subtracted, no exponential exceeds 1, and at least one is 1, so the
    sum is not 0.
    """
    scaled = [score / temperature for score in scores]
    largest = max(scaled)
    exponentials = [math.exp(score - largest) for score in scaled]
    total = sum(exponentials)
    return [e / total for e in exponentials]


def softmax_gradient(weights: Tensor, upstream: Tensor) -> Tensor:
    """Raising a score moves weight to it from all others, in proportion to what they have, so its
    gradient is its weight times the excess of its upstream gradient over the weighted mean. If one
    weight is 1, nothing can move.
    """
    return weights * (upstream - (weights * upstream).sum(dim=-1, keepdim=True))


def attend(queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """One matrix product compares every query with every key; another mixes the values by the
    weights of each row.
    """
    scores = queries @ keys.transpose(-2, -1) / math.sqrt(queries.shape[-1])  # (..., T, S)
    return scores.softmax(dim=-1) @ values


def causal_weights(scores: Tensor) -> Tensor:
    """Masking before the softmax leaves the rest of each row normalised, without dividing again."""
    future = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).triu(diagonal=1)
    return scores.masked_fill(future, float("-inf")).softmax(dim=-1)


def split_heads(x: Tensor, n_heads: int) -> Tensor:
    """A token's channels are contiguous, so a view can only split the last axis; the transpose then
    makes heads a batch dimension, without a copy.
    """
    B, T, C = x.shape
    return x.view(B, T, n_heads, C // n_heads).transpose(1, 2)


def count_weights(d_in: int, d_out: int, n_heads: int, n_kv_heads: int, qkv_bias: bool) -> int:
    """Only the ratio of key/value heads to query heads matters; if they are equal, the number of
    heads cancels.
    """
    kv_width = d_out // n_heads * n_kv_heads
    projected = d_out + 2 * kv_width
    return d_in * projected + (projected if qkv_bias else 0) + d_out * d_out + d_out


def online_softmax(blocks: list[tuple[Tensor, Tensor]]) -> Tensor:
    """Exponentials are taken relative to the largest score so far. When that grows, all earlier
    ones shrink by the same factor, so correcting two sums is enough: this is how fused attention
    avoids the T x T weights.
    """
    largest = torch.tensor(float("-inf"))
    total = torch.tensor(0.0)
    mixed = torch.zeros(blocks[0][1].shape[1])
    for scores, values in blocks:
        newest = torch.maximum(largest, scores.max())
        shrink, exponentials = (largest - newest).exp(), (scores - newest).exp()
        total = total * shrink + exponentials.sum()
        mixed = mixed * shrink + exponentials @ values
        largest = newest
    return mixed / total


def cache_bytes(
    n_texts: int,
    n_layers: int,
    n_kv_heads: int,
    head_dim: int,
    n_tokens: int,
    bytes_each: int = 2,
    window: int | None = None,
) -> int:
    """A key and a value for each token, layer and key/value head; queries are used only once."""
    kept = n_tokens if window is None else min(n_tokens, window)
    return 2 * n_texts * n_layers * n_kv_heads * head_dim * kept * bytes_each


def rotate(x: Tensor, positions: Tensor, base: float = 10_000.0) -> Tensor:
    """Each pair is rotated in its own plane. With both query and key rotated, their product depends
    only on the difference of the angles, and so of the positions.
    """
    half = x.shape[-1] // 2
    speeds = base ** (-torch.arange(half) / half)
    angles = torch.outer(positions.float(), speeds)  # (T, D / 2)
    cos, sin = angles.cos(), angles.sin()
    first, second = x.chunk(2, dim=-1)
    return torch.cat((first * cos - second * sin, first * sin + second * cos), dim=-1)


def repeat_kv(keys: Tensor, n_heads: int) -> Tensor:
    """Query head h uses key head h // (H / H_kv), so each key head is repeated H / H_kv times."""
    return keys.repeat_interleave(n_heads // keys.shape[1], dim=1)


def reach(n_layers: int, window: int, n_tokens: int) -> int:
    """In each layer a token attends to window - 1 earlier ones, and the oldest of those attended
    just as far back in the layer below: the reaches add up, they do not multiply.
    """
    return min(n_tokens, n_layers * (window - 1) + 1)


def last_mention_score(weights: Tensor, ids: list[int]) -> Tensor:
    """One pass over the text is enough, with a dictionary of each token's latest position."""
    found = []
    newest: dict[int, int] = {}
    for t, token in enumerate(ids):
        if token in newest:
            found.append(weights[:, t, newest[token]])
        newest[token] = t
    return torch.stack(found).mean(dim=0) if found else torch.zeros(len(weights))
