"""Exercises of chapter 5. Replace each `raise`, then:

    pytest tests/test_exercises.py --mine -k ch05

The first hint stands in the docstring, a second one behind `hint("name")`; answers are in
solutions.py.
"""

import numpy as np
from torch import Tensor

from ch01_text.practice import hints

hint = hints(
    {
        "last_real_token": "hidden[torch.arange(B), lengths - 1] picks one position of every row.",
        "majority_accuracy": "np.bincount(train_labels).argmax() is the most frequent class.",
        "merged_weight": (
            "B @ A has the shape of W; the scale is alpha divided by the rank, A's number of rows."
        ),
        "balanced_weights": (
            "n / (number of classes * count of the class): check that they average 1 over the rows."
        ),
        "calibration_gap": (
            "A boolean mask for each step; the step of confidence 1.0 is the last one, not one"
            " more."
        ),
        "bootstrap_interval": (
            "right[draws] has the shape of draws; its mean over axis 1 is one accuracy a draw."
        ),
        "mcnemar_p": (
            "Sum math.comb(n, k) for k up to the smaller count, double it, divide by 2 ** n, and"
            " never exceed 1."
        ),
        "stratified_rows": (
            "Shuffle the rows of each class by themselves, take the first round(share * count) of"
            " each."
        ),
        "order_features": (
            "The last sentence says how it ends, and the wish what was hoped for: mark the last"
            ' sentence\'s words ("last:carrot"), and say whether a thing or person of the wish is'
            " among them."
        ),
    }
)


def last_real_token(hidden: Tensor, lengths: Tensor) -> Tensor:
    """Hidden states (B, T, C) and true lengths (B,) -> the state of the last real token of each row
    (B, C).

    Rows are filled up on the right, so position T - 1 is often filling. Hint: index with two
    tensors at once.
    """
    raise NotImplementedError


def majority_accuracy(train_labels: np.ndarray, test_labels: np.ndarray) -> float:
    """The accuracy of always saying the class that is most frequent among the training labels (n,),
    on the test labels (m,). Class numbers begin at 0. Hint: look at the test labels only for the
    score.
    """
    raise NotImplementedError


def merged_weight(weight: Tensor, A: Tensor, B: Tensor, alpha: float) -> Tensor:
    """A matrix (out, in) and its LoRA correction, A (rank, in) and B (out, rank) -> the one matrix
    (out, in) that does what both do: W x + alpha / rank B (A x). Hint: matrix products are
    associative.
    """
    raise NotImplementedError


def balanced_weights(labels: np.ndarray, n_classes: int) -> np.ndarray:
    """Class numbers (n,) -> (n_classes,) weights that let each class count as much as any other,
    and average 1 over the rows. Every class occurs. Hint: a class that is twice as frequent gets
    half the weight.
    """
    raise NotImplementedError


def calibration_gap(confidence: np.ndarray, right: np.ndarray, bins: int = 10) -> float:
    """Expected calibration error. Confidences (n,) in [0, 1] are sorted into `bins` equal steps; a
    step's gap is the distance of its mean confidence and the share of `right` (n,) booleans in it;
    the result is the mean gap, weighted by rows. Hint: the step's number is int(confidence * bins),
    except for one value.
    """
    raise NotImplementedError


def bootstrap_interval(right: np.ndarray, draws: np.ndarray) -> tuple[float, float]:
    """Which answers are right (n,) booleans, row numbers drawn with replacement (R, n) -> the 2.5th
    and 97.5th percentile of the R accuracies. Hint: no loop is needed.
    """
    raise NotImplementedError


def mcnemar_p(only_first: int, only_second: int) -> float:
    """Two classifiers disagree on only_first + only_second rows: the first alone is right on the
    former, the second alone on the latter. The probability of a split at least as uneven if each
    were a fair coin's toss (two-sided). Without disagreement it is 1. Hint: a binomial tail,
    doubled.
    """
    raise NotImplementedError


def stratified_rows(labels: np.ndarray, share: float, generator: np.random.Generator) -> np.ndarray:
    """Class numbers (n,) -> sorted row numbers of a test set: of every class `share` of its rows
    (rounded), drawn by `generator`. Hint: np.flatnonzero(labels == c), one class at a time.
    """
    raise NotImplementedError


def order_features(text: str) -> list[str]:
    """A story before its end is told -> features for a logistic regression that counts them (any
    strings).

    Plain words fall well short of it on "does it end well?", because their order decides: make it
    better than 80 %.
    Hint: mark some words by where they stand.
    """
    raise NotImplementedError
