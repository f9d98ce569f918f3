"""Chapter 2's checks: oracles are PyTorch, autograd, the shipped layer and cache, and brute
force.
"""

from collections.abc import Callable

import numpy as np
import torch
from torch.nn import functional as F

from ch02_attention import (
    AttentionOptions,
    KVCache,
    MultiHeadAttention,
    causal_mask,
    rope_reference,
)
from exercise_checks.expect import expect


def normal(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def stable_softmax(function: Callable) -> None:
    for scores, temperature in (
        ([1.0, 2.0, 3.0], 1.0),
        ([1.0, 2.0, 3.0], 0.5),
        ([-4000.0, 4000.0, 3999.0], 2.0),
        ([-9000.0, -9001.0], 1.0),
    ):
        expected = (torch.tensor(scores, dtype=torch.float64) / temperature).softmax(0)
        expect(
            f"scores {scores}, temperature {temperature}",
            function(list(scores), temperature),
            expected,
        )


def softmax_gradient(function: Callable) -> None:
    scores, upstream = (2 * normal(3, 5)).requires_grad_(), normal(3, 5).flip(1)
    weights = scores.softmax(dim=-1)
    weights.backward(upstream)
    expect(
        "weights and upstream of shape (3, 5)", function(weights.detach(), upstream), scores.grad
    )


def attend(function: Callable) -> None:
    for batch in ((), (2, 3)):
        queries, keys, values = normal(*batch, 4, 9), 2 * normal(*batch, 7, 9), normal(*batch, 7, 5)
        expect(
            f"queries {tuple(queries.shape)}, keys {tuple(keys.shape)}, values"
            f" {tuple(values.shape)}",
            function(queries, keys, values),
            F.scaled_dot_product_attention(queries, keys, values),
        )


def causal_weights(function: Callable) -> None:
    for shape in ((4, 4), (2, 3, 5, 5)):
        scores = normal(*shape)
        expected = torch.zeros(shape)
        for t in range(shape[-1]):
            expected[..., t, : t + 1] = scores[..., t, : t + 1].softmax(dim=-1)
        expect(f"scores {shape}", function(scores), expected)


def split_heads(function: Callable) -> None:
    x = torch.arange(24.0).view(1, 3, 8)
    expected = [
        [[[x[0, t, head * 4 + d].item() for d in range(4)] for t in range(3)] for head in range(2)]
    ]
    expect("x (1, 3, 8) = arange(24), n_heads 2", function(x, 2), expected)


def count_weights(function: Callable) -> None:
    for d_in, d_out, heads, kv_heads, bias in (
        (6, 8, 2, 2, False),
        (6, 8, 4, 2, True),
        (12, 12, 6, 1, False),
    ):
        options = AttentionOptions(num_kv_heads=kv_heads)
        layer = MultiHeadAttention(d_in, d_out, 4, 0.0, heads, bias, options)
        expect(
            f"d_in {d_in}, d_out {d_out}, n_heads {heads}, n_kv_heads {kv_heads}, qkv_bias {bias}",
            function(d_in, d_out, heads, kv_heads, bias),
            sum(p.numel() for p in layer.parameters()),
        )


def online_softmax(function: Callable) -> None:
    for size in (1.0, 3000.0):
        scores, values = size * normal(23), normal(23, 4)
        blocks = list(zip(scores.split(5), values.split(5), strict=True))
        expect(
            f"23 scores of about {size:.0f} in blocks of 5, values (5, 4)",
            function(blocks),
            scores.softmax(0) @ values,
        )


def cache_bytes(function: Callable) -> None:
    half, full = torch.bfloat16, torch.float32
    for texts, layers, heads, width, n, dtype, window in (
        (1, 2, 4, 8, 10, half, None),
        (3, 1, 2, 4, 7, full, None),
        (2, 2, 2, 4, 30, full, 6),
        (1, 1, 1, 4, 3, full, 6),
    ):
        cache = KVCache(texts, layers, heads, min(n, window or n), width, dtype=dtype)
        expected = sum(
            tensor[:, :, :-1].numel() * dtype.itemsize
            for one in cache.layers
            for tensor in one.tensors.values()
        )
        expect(
            f"{texts} texts, {layers} layers, {heads} key/value heads of {width}, {n} tokens,"
            f" {dtype.itemsize} bytes each, window {window}",
            function(texts, layers, heads, width, n, dtype.itemsize, window),
            expected,
        )


def rotate(function: Callable) -> None:
    for D, positions, base in ((2, [0, 1, 5], 10_000.0), (8, [3, 40, 41, 900], 500.0)):
        x, places = normal(2, 3, len(positions), D), torch.tensor(positions)
        expect(
            f"x {tuple(x.shape)}, positions {positions}, base {base}",
            function(x, places, base),
            rope_reference(x, places, base),
            1e-4,
        )


def repeat_kv(function: Callable) -> None:
    keys = torch.arange(12.0).view(1, 2, 3, 2)
    expected = torch.stack([keys[:, head // 3] for head in range(6)], dim=1)
    expect("keys (1, 2, 3, 2) = arange(12), n_heads 6", function(keys, 6), expected)


def reach(function: Callable) -> None:
    for layers, window, n in ((1, 3, 20), (4, 3, 20), (5, 1, 9), (6, 5, 12)):
        through = np.linalg.matrix_power(causal_mask(n, n, window).numpy().astype(int), layers)
        expect(
            f"{layers} layers, window {window}, {n} tokens",
            function(layers, window, n),
            (through[-1] > 0).sum(),
        )


def last_mention_score(function: Callable) -> None:
    for ids in ([7, 3, 7, 7, 5, 3], [1, 2, 3]):
        weights = normal(2, len(ids), len(ids)).softmax(dim=-1)
        pairs = [
            (t, max(s for s in range(t) if ids[s] == ids[t]))
            for t in range(len(ids))
            if ids[t] in ids[:t]
        ]
        expected = [
            np.mean([weights[head, t, s].item() for t, s in pairs] or [0]) for head in range(2)
        ]
        expect(
            f"weights (2, {len(ids)}, {len(ids)}), ids {ids}",
            function(weights, list(ids)),
            expected,
        )


CHECKS = [
    stable_softmax,
    softmax_gradient,
    attend,
    causal_weights,
    split_heads,
    count_weights,
    online_softmax,
    cache_bytes,
    rotate,
    repeat_kv,
    reach,
    last_mention_score,
]
