"""Exercises of chapter 4. Replace each `raise`, then:

    pytest tests/test_exercises.py --mine -k ch04

The docstring gives a first hint, `hint("name")` a second one; answers are in solutions.py.
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

    Targets of -100 count for nothing. Logits may be in the thousands. Do not use torch's loss
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
    """(m, n) -> (m, n): the nearest matrix whose singular values are all 1, accurate to 0.001. Muon
    uses it as its update.

    Do not use a decomposition: divide by the norm, then repeat X <- 1.5 X - 0.5 X X^T X
    (Newton-Schulz). The singular values of `matrix` differ by a factor of at most 1,000. Hint: what
    does one step do to a 1 x 1 matrix?
    """
    raise NotImplementedError


def averaged_weights(steps: list[Tensor], decay: float) -> Tensor:
    """A weight after each of n steps, oldest first -> its exponential moving average (same shape):
    a step that is k steps older counts decay ** k times as much, and the factors sum to 1. Hint:
    Adam's m / (1 - beta ** t).
    """
    raise NotImplementedError


def warm_restarts(progress: float, cycles: int, final: float) -> float:
    """Progress of training, in [0, 1) -> the multiplier of the learning rate: it falls from 1 to
    `final` along half a cosine and jumps back to 1, `cycles` times in all (Loshchilov and Hutter
    2017). Hint: one cycle is section 7's cosine without warm-up.
    """
    raise NotImplementedError


def clip_by_global_norm(gradients: list[Tensor], max_norm: float) -> tuple[list[Tensor], float]:
    """Tensors of any shapes -> (scaled copies, their joint norm before): one factor for all, such
    that the joint norm is at most max_norm. The given tensors are not changed; zeros stay zeros.
    Hint: think of one long vector.
    """
    raise NotImplementedError


def to_bfloat16(x: np.ndarray) -> np.ndarray:
    """Finite float32 numbers -> float32 numbers, rounded to the nearest that bfloat16 can hold, and
    in a tie to the one whose last bit is 0. Work on the bits. Hint: a bfloat16 is the upper half of
    a float32.
    """
    raise NotImplementedError


def longest_copied(text: list[int], source: list[int]) -> int:
    """The length of the longest run of tokens that occurs both in `text` and in `source`; 0 if they
    share no token. Hint: how does the longest common run that ends here follow from the one that
    ended one token ago?
    """
    raise NotImplementedError


def split_c_attn(weight: Tensor, n_heads: int) -> Tensor:
    """GPT-2's attention matrix (C, 3 C), stored as (in, out), queries first, then keys, then values
    -> (3, H, C, D): the matrix of each head, so that x @ result[0, h] are the queries of head h,
    (T, C) @ (C, D). Hint: each head has D adjacent columns.
    """
    raise NotImplementedError


def power_law(n: np.ndarray, loss: np.ndarray) -> tuple[float, float]:
    """Sizes (k,) and losses (k,) -> (a, b) of the power law loss = a * n ** -b, fitted by least
    squares in the logarithms. Hint: it is a straight line there.
    """
    raise NotImplementedError


def compute_optimal(
    flops: float, a: float, alpha: float, b: float, beta: float
) -> tuple[float, float]:
    """A budget of FLOPs, and the loss a * N ** -alpha + b * D ** -beta of N parameters after D
    tokens -> the (N, D) with the lowest loss. Training takes 6 N D FLOPs (Hoffmann et al. 2022,
    section 3.3). Hint: one unknown is left; where is the slope zero?
    """
    raise NotImplementedError
