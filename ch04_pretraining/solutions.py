"""Answers to the exercises of chapter 4: one way of many."""

import math

import numpy as np
import torch
from torch import Tensor


def masked_cross_entropy(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Subtracting the largest logit changes no probability and keeps exponentials at most 1."""
    largest = logits.amax(dim=1, keepdim=True)
    log_sum = largest.squeeze(1) + (logits - largest).exp().sum(dim=1).log()
    counts = targets != -100
    right = logits.gather(1, targets.clamp(min=0).unsqueeze(1)).squeeze(1)
    return ((log_sum - right) * counts).sum(), counts.sum()


def pooled_perplexity(losses: list[float], counts: list[int]) -> float:
    """Only sums over tokens add up; each text counts with its length."""
    return math.exp(
        sum(loss * count for loss, count in zip(losses, counts, strict=True)) / sum(counts)
    )


def orthogonalize(matrix: Tensor) -> Tensor:
    """A step keeps the singular vectors and maps each singular value s to 1.5 s - 0.5 s^3, whose
    fixed point is 1. Muon takes other coefficients and five steps, which is less exact and faster.
    """
    x = matrix / matrix.norm()
    for _ in range(40):
        x = 1.5 * x - 0.5 * x @ x.mT @ x
    return x


def averaged_weights(steps: list[Tensor], decay: float) -> Tensor:
    """Without the division the average would start near 0 and be too small for the first
    1 / (1 - decay) steps.
    """
    average = torch.zeros_like(steps[0])
    for weight in steps:
        average = decay * average + (1 - decay) * weight
    return average / (1 - decay ** len(steps))


def warm_restarts(progress: float, cycles: int, final: float) -> float:
    """Each restart moves the weights away from where they settled; the end of each cycle is a model
    worth keeping.
    """
    return final + (1 - final) * 0.5 * (1 + math.cos(math.pi * (progress * cycles % 1)))


def clip_by_global_norm(gradients: list[Tensor], max_norm: float) -> tuple[list[Tensor], float]:
    """One factor for all keeps the direction; clipping each tensor separately would change it."""
    norm = math.sqrt(sum(float(gradient.square().sum()) for gradient in gradients))
    factor = max_norm / max(norm, max_norm)
    return [gradient * factor for gradient in gradients], norm


def to_bfloat16(x: np.ndarray) -> np.ndarray:
    """Adding just under half of the last kept bit turns truncation into rounding to nearest; that
    bit itself decides a tie.
    """
    bits = x.view(np.uint32)
    rounded = bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))
    return (rounded & np.uint32(0xFFFF0000)).view(np.float32)


def longest_copied(text: list[int], source: list[int]) -> int:
    """This takes len(text) * len(source) steps; for a whole data set one hashes n-grams instead, as
    memorisation.py does.
    """
    longest, before = 0, [0] * (len(source) + 1)
    for token in text:
        row = [0] * (len(source) + 1)
        for j, other in enumerate(source):
            if token == other:
                row[j + 1] = before[j] + 1
        longest, before = max(longest, *row), row
    return longest


def split_c_attn(weight: Tensor, n_heads: int) -> Tensor:
    """The heads' matrices lie side by side in one matrix, so that one product gives all queries,
    keys and values.
    """
    C = len(weight)
    parts = [
        part.view(C, n_heads, C // n_heads).permute(1, 0, 2) for part in weight.chunk(3, dim=1)
    ]
    return torch.stack(parts)


def power_law(n: np.ndarray, loss: np.ndarray) -> tuple[float, float]:
    """In logarithms a power law is a straight line, and least squares weighs relative errors."""
    slope, intercept = np.polyfit(np.log(n), np.log(loss), 1)
    return math.exp(intercept), -slope


def compute_optimal(
    flops: float, a: float, alpha: float, b: float, beta: float
) -> tuple[float, float]:
    """At the optimum, spending a little more on one gains exactly what the other loses. If alpha
    equals beta, model and data grow by the same factor.
    """
    N = (alpha * a / (beta * b) * (flops / 6) ** beta) ** (1 / (alpha + beta))
    return N, flops / 6 / N
