"""Chapter 4's checks: oracles are torch's own losses, optimizers and number formats, scipy,
difflib and numpy.
"""

import math
from collections.abc import Callable
from difflib import SequenceMatcher

import numpy as np
import torch
from scipy.optimize import minimize_scalar
from scipy.stats import linregress
from torch import nn
from torch.nn import functional as F
from torch.optim.lr_scheduler import CosineAnnealingWarmRestarts

from ch02_attention import CacheLayout, MultiHeadAttention
from exercise_checks.expect import expect, expect_same


def parts_of(what: str, got, n: int) -> tuple:
    """What should be a tuple of n parts, or a failure that says so."""
    expect_same(f"{what}: how many parts", len(got) if isinstance(got, tuple) else got, n)
    return got


def masked_cross_entropy(function: Callable) -> None:
    generator = torch.Generator().manual_seed(0)
    for scale in (1.0, 5000.0):
        logits = scale * torch.randn(6, 5, generator=generator)
        targets = torch.tensor([0, 4, -100, 2, -100, 1])
        what = f"logits of size {scale}, targets {targets.tolist()}"
        total, count = parts_of(what, function(logits, targets), 2)
        expect(
            f"{what}: sum", total, F.cross_entropy(logits, targets, reduction="sum"), 1e-4 * scale
        )
        expect(f"{what}: count", count, 4)


def pooled_perplexity(function: Callable) -> None:
    for losses, counts in (([1.0, 4.0], [3, 1]), ([2.0], [7]), ([0.5, 3.0, 2.5], [10, 1000, 40])):
        every = np.repeat(losses, counts)
        expect(
            f"losses {losses}, counts {counts}",
            function(losses, counts),
            np.exp(every.mean()),
            1e-6,
        )


def orthogonalize(function: Callable) -> None:
    for shape in ((3, 3), (4, 7), (6, 2)):
        U, _, V = torch.linalg.svd(
            torch.randn(shape, generator=torch.Generator().manual_seed(1)), full_matrices=False
        )
        strengths = torch.logspace(0, -3, min(shape))
        expect(
            f"a {shape[0]} x {shape[1]} matrix with singular values from 1 to 0.001",
            function(U @ torch.diag(strengths) @ V),
            U @ V,
            2e-3,
        )


def averaged_weights(function: Callable) -> None:
    for n, decay in ((1, 0.9), (5, 0.5), (30, 0.99)):
        steps = torch.randn(n, 2, 3, generator=torch.Generator().manual_seed(n))
        shares = [decay ** (n - 1 - i) for i in range(n)]
        expect(
            f"{n} steps, decay {decay}",
            function(list(steps), decay),
            np.average(steps.numpy(), axis=0, weights=shares),
            1e-5,
        )


def warm_restarts(function: Callable) -> None:
    for cycles, final in ((1, 0.0), (4, 0.1)):
        optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
        scheduler = CosineAnnealingWarmRestarts(optimizer, 8, eta_min=final)
        for t in range(8 * cycles):
            progress = t / (8 * cycles)
            expect(
                f"progress {progress}, {cycles} cycles, final {final}",
                function(progress, cycles, final),
                scheduler.get_last_lr()[0],
                1e-9,
            )
            optimizer.step()
            scheduler.step()


def clip_by_global_norm(function: Callable) -> None:
    for values, max_norm in (
        ([[3.0], [4.0, 0.0]], 1.0),
        ([[0.3], [-0.4]], 1.0),
        ([[0.0, 0.0]], 1.0),
        ([[1.0, -2.0, 2.0], [30.0], [0.01]], 2.5),
    ):
        what = f"gradients {values}, max_norm {max_norm}"
        gradients = [torch.tensor(row) for row in values]
        clipped, norm = parts_of(what, function(gradients, max_norm), 2)
        parameters = [nn.Parameter(torch.zeros(len(row))) for row in values]
        for parameter, row in zip(parameters, values, strict=True):
            parameter.grad = torch.tensor(row)
        expect(f"{what}: their length", norm, nn.utils.clip_grad_norm_(parameters, max_norm))
        for got, parameter in zip(clipped, parameters, strict=True):
            expect(f"{what}: clipped", got, parameter.grad)
        expect_same(
            f"{what}: the given ones afterwards",
            [row.tolist() for row in gradients],
            [torch.tensor(row).tolist() for row in values],
        )


def to_bfloat16(function: Callable) -> None:
    ties = np.array([1 + 2**-8, 1 + 3 * 2**-8, -1 - 2**-8, 0.0, 1e-40, 3e38], dtype=np.float32)
    many = np.random.default_rng(0).normal(size=1000).astype(np.float32)
    for what, x in (
        ("1 + 1/256, 1 + 3/256, -1 - 1/256, 0, 1e-40, 3e38", ties),
        ("1,000 random numbers", many),
    ):
        expect(what, function(x.copy()), torch.from_numpy(x).bfloat16().float().numpy(), 0.0)


def longest_copied(function: Callable) -> None:
    rng = np.random.default_rng(0)
    for text, source in (
        ([1, 2, 3, 9], [0, 1, 2, 3]),
        ([5], [6, 7]),
        ([1, 1, 1], [1, 1]),
        (rng.integers(3, size=200).tolist(), rng.integers(3, size=300).tolist()),
    ):
        match = SequenceMatcher(None, text, source, autojunk=False).find_longest_match()
        shown = (
            f"{text}, source {source}"
            if len(text) < 10
            else "of 200 random tokens, a source of 300"
        )
        expect_same(f"text {shown}", function(text, source), match.size)


def split_c_attn(function: Callable) -> None:
    torch.manual_seed(0)
    attention, x = MultiHeadAttention(12, 12, 8, 0.0, num_heads=3), torch.randn(1, 5, 12)
    # three of (1, H, T, D)
    expected = attention.split_heads(attention.qkv(x), CacheLayout.contiguous(0, 5))
    got = function(attention.qkv.weight.detach().T, 3)
    expect_same("C = 12, 3 heads: shape", tuple(np.shape(got)), (3, 3, 12, 4))
    expect("C = 12, 3 heads: x @ result", x @ got, torch.cat(expected).detach())


def power_law(function: Callable) -> None:
    n = np.array([1e3, 3e3, 1e4, 5e4])
    for loss in (4 * n**-0.1, np.array([3.1, 2.8, 2.65, 2.2])):
        a, b = parts_of(f"losses {loss.round(3).tolist()}", function(n, loss), 2)
        line = linregress(np.log(n), np.log(loss))
        expect(
            f"sizes {n.tolist()}, losses {loss.round(3).tolist()}",
            [a, b],
            [math.exp(line.intercept), -line.slope],
            1e-6,
        )


def compute_optimal(function: Callable) -> None:
    for flops, a, alpha, b, beta in ((1e18, 400.0, 0.34, 410.0, 0.28), (6e12, 5.0, 0.1, 5.0, 0.1)):

        def loss(log_n, flops=flops, a=a, alpha=alpha, b=b, beta=beta) -> float:
            return a * math.exp(-alpha * log_n) + b * (flops / 6 / math.exp(log_n)) ** -beta

        what = f"flops {flops:g}, a {a}, alpha {alpha}, b {b}, beta {beta}"
        N, D = parts_of(what, function(flops, a, alpha, b, beta), 2)
        best = minimize_scalar(
            loss, bounds=(0, math.log(flops / 6)), method="bounded", options={"xatol": 1e-9}
        ).x
        expect(f"{what}: log N", math.log(N), best, 1e-3)
        expect(f"{what}: 6 N D / flops", 6 * N * D / flops, 1.0)


CHECKS = [
    masked_cross_entropy,
    pooled_perplexity,
    orthogonalize,
    averaged_weights,
    warm_restarts,
    clip_by_global_norm,
    to_bfloat16,
    longest_copied,
    split_c_attn,
    power_law,
    compute_optimal,
]
