"""Exercises of chapter 5. Replace each `raise`, then:

    pytest tests/test_exercises.py --mine -k ch05

The docstring gives a first hint, `hint("name")` a second one; the answers are in solutions.py.
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
            "A boolean mask for each bin; a confidence of 1.0 belongs to the last bin."
        ),
        "bootstrap_interval": (
            "right[draws] has the shape of draws; its mean over axis 1 is one accuracy per draw."
        ),
        "mcnemar_p": (
            "Sum math.comb(n, k) for k up to the smaller count, double it, divide by 2 ** n, and"
            " never exceed 1."
        ),
        "stratified_rows": (
            "Shuffle the rows of each class separately and take the first round(share * count) of"
            " each."
        ),
        "order_features": (
            "The wish names the hero. The last sentence that names a thing says who has it: look"
            " for the hero's name there, and for the word that follows it."
        ),
    }
)


def last_real_token(hidden: Tensor, lengths: Tensor) -> Tensor:
    """Hidden states (B, T, C) and true lengths (B,) -> the state of each row's last real token
    (B, C).

    Rows are padded on the right, so position T - 1 is often padding. Hint: index with two tensors
    at once.
    """
    raise NotImplementedError


def majority_accuracy(train_labels: np.ndarray, test_labels: np.ndarray) -> float:
    """The accuracy on the test labels (m,) of always predicting the most frequent class of the
    training labels (n,). Class numbers begin at 0. Hint: use the test labels only for the score.
    """
    raise NotImplementedError


def merged_weight(weight: Tensor, A: Tensor, B: Tensor, alpha: float) -> Tensor:
    """A matrix (out, in) and its LoRA update, A (rank, in) and B (out, rank) -> the single matrix
    (out, in) that computes W x + alpha / rank B (A x). Hint: matrix products are associative.
    """
    raise NotImplementedError


def balanced_weights(labels: np.ndarray, n_classes: int) -> np.ndarray:
    """Class numbers (n,) -> (n_classes,) weights that give every class the same total and average 1
    over the rows. Every class occurs. Hint: a class that is twice as frequent gets half the weight.
    """
    raise NotImplementedError


def calibration_gap(confidence: np.ndarray, right: np.ndarray, bins: int = 10) -> float:
    """Expected calibration error. Confidences (n,) in [0, 1] are sorted into `bins` bins of equal
    width. The gap of a bin is the distance between its mean confidence and its accuracy, the mean
    of `right` (n,) booleans. The result is the mean gap, weighted by rows. Hint: a bin's number is
    int(confidence * bins), except for one value.
    """
    raise NotImplementedError


def bootstrap_interval(right: np.ndarray, draws: np.ndarray) -> tuple[float, float]:
    """Which predictions are right (n,) booleans, row numbers drawn with replacement (R, n) -> the
    2.5th and 97.5th percentile of the R accuracies. Hint: no loop is needed.
    """
    raise NotImplementedError


def mcnemar_p(only_first: int, only_second: int) -> float:
    """The p-value of McNemar's exact test. Only the first of two classifiers is right on
    `only_first` rows, only the second on `only_second`. If each of these rows were a fair coin
    toss, how probable would a split at least as uneven be (two-sided)? Without such rows the answer
    is 1. Hint: a binomial tail, doubled.
    """
    raise NotImplementedError


def stratified_rows(labels: np.ndarray, share: float, generator: np.random.Generator) -> np.ndarray:
    """Class numbers (n,) -> sorted row numbers of a test set with a fraction `share` of the rows of
    each class (rounded), drawn by `generator`. Hint: np.flatnonzero(labels == c), class by class.
    """
    raise NotImplementedError


def order_features(text: str) -> list[str]:
    """A story without its ending -> features (any strings) for a logistic regression that counts
    them.

    On "does it end well?" plain words are no better than chance, because their order decides.
    Do better than 80 %. Hint: the story ends well if the hero has something in the end.
    """
    raise NotImplementedError
