"""Exercises of chapter 4. Replace each `raise`, then:

    pytest tests/test_exercises.py --mine -k ch04

The first hint stands in the docstring, a second one behind `hint("name")`; answers are in
solutions.py.
"""

import numpy as np
from torch import Tensor

from ch01_text.practice import hints

hint = hints(
    {
        "masked_cross_entropy": (
            "log of a sum of exponentials = largest + log(sum(exp(logits - largest))). gather needs"
            " valid indices: clamp the targets at 0 first, and multiply with (targets != -100)"
            " last."
        ),
        "pooled_perplexity": (
            "exp(sum(loss * count) / sum(count)): average first, exponentiate last."
        ),
        "orthogonalize": (
            "Dividing by the norm brings all singular values below 1; then each step takes a"
            " singular value s to 1.5 s - 0.5 s^3, which grows towards 1. Small ones need some"
            " thirty steps."
        ),
        "averaged_weights": (
            "Begin with average = 0; after n steps the weights given away sum to 1 - decay ** n."
        ),
        "warm_restarts": "(progress * cycles) % 1 is how far the current cycle has come.",
        "clip_by_global_norm": (
            "sqrt of the sum of all squares of all tensors; max_norm / max(norm, max_norm) is never"
            " above 1, and never a division by zero."
        ),
        "to_bfloat16": (
            "x.view(np.uint32): the upper 16 bits stay. Add 0x7FFF before you cut the lower ones"
            " off, and one more where the last kept bit is 1: a tie goes to the even number."
        ),
        "longest_copied": (
            "A table of len(text) x len(source): the run that ends at i and j is one longer than"
            " the one at i - 1 and j - 1 where the two tokens agree, else 0. Only the row before is"
            " needed."
        ),
        "split_c_attn": (
            "chunk(3, dim=1) gives queries, keys, values, each (C, C); .view(C, H, D) cuts the"
            " columns into heads; permute puts the heads first."
        ),
        "power_law": (
            "np.polyfit(np.log(n), np.log(loss), 1) gives the slope -b and the intercept log a."
        ),
        "compute_optimal": (
            "At the best point alpha * a * N**-alpha = beta * b * D**-beta. Put D = flops / (6 N)"
            " into it."
        ),
    }
)


def masked_cross_entropy(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Logits (N, V), targets (N,) int64 -> (sum of the losses in nats, number of targets that
    count), scalars.

    Targets of -100 count for nothing. Logits may be in the thousands. Without torch's own loss
    functions. Hint: what is exp(1000.0)?
    """
    raise NotImplementedError


def pooled_perplexity(losses: list[float], counts: list[int]) -> float:
    """Mean losses (nats per token) of several texts and their numbers of tokens -> the perplexity
    of all texts together. Hint: not the mean of the perplexities, nor the perplexity of the mean of
    the losses.
    """
    raise NotImplementedError


def orthogonalize(matrix: Tensor) -> Tensor:
    """(m, n) -> (m, n): the nearest matrix with all singular values 1, as Muon uses it, to a
    thousandth.

    Without a decomposition: divide by the norm, then repeat X <- 1.5 X - 0.5 X X^T X
    (Newton-Schulz). The singular values of `matrix` differ by a factor of at most a thousand. Hint:
    what does one step do to a 1 x 1 matrix?
    """
    raise NotImplementedError


def averaged_weights(steps: list[Tensor], decay: float) -> Tensor:
    """A weight after each of n steps, oldest first -> its exponential average (same shape): a step
    that is k steps older counts decay ** k as much, and the shares sum to 1. Hint: as Adam's m / (1
    - beta ** t).
    """
    raise NotImplementedError


def warm_restarts(progress: float, cycles: int, final: float) -> float:
    """The share of training that is over, in [0, 1) -> the multiplier of the rate: it falls from 1
    to `final` along half a cosine and jumps up again, `cycles` times in all (Loshchilov and Hutter
    2017). Hint: one cycle is section 7's cosine without warm-up.
    """
    raise NotImplementedError


def clip_by_global_norm(gradients: list[Tensor], max_norm: float) -> tuple[list[Tensor], float]:
    """Tensors of any shapes -> (the same, all scaled by one factor so that together they are no
    longer than max_norm; their length before). The given tensors stay as they are; zeros stay
    zeros. Hint: one long vector.
    """
    raise NotImplementedError


def to_bfloat16(x: np.ndarray) -> np.ndarray:
    """Finite float32 numbers -> float32 numbers, rounded to what bfloat16 can hold: the nearest,
    and of two equally near ones that whose last bit is 0. By the bits. Hint: a bfloat16 is the
    upper half of a float32.
    """
    raise NotImplementedError


def longest_copied(text: list[int], source: list[int]) -> int:
    """The length of the longest run of tokens that stands in `text` and, word for word, in
    `source`; 0 where there is none. Hint: how does the longest common run that ends here follow
    from the one that ended one token ago?
    """
    raise NotImplementedError


def split_c_attn(weight: Tensor, n_heads: int) -> Tensor:
    """GPT-2's attention matrix (C, 3 C), stored as (in, out), queries first, then keys, then values
    -> (3, H, C, D): the matrix of each head, so that x @ result[0, h] are the queries of head h,
    (T, C) @ (C, D). Hint: a head owns D neighbouring columns.
    """
    raise NotImplementedError


def power_law(n: np.ndarray, loss: np.ndarray) -> tuple[float, float]:
    """Sizes (k,) and losses (k,) -> (a, b) of the law loss = a * n ** -b that fits best in
    logarithms (least squares).
    Hint: a straight line.
    """
    raise NotImplementedError


def compute_optimal(
    flops: float, a: float, alpha: float, b: float, beta: float
) -> tuple[float, float]:
    """A budget of work, and a loss of a * N ** -alpha + b * D ** -beta with N parameters after D
    tokens -> the best (N, D). Training takes 6 N D FLOPs (Hoffmann et al. 2022, section 3.3). Hint:
    one unknown is left; where is the slope zero?
    """
    raise NotImplementedError
