"""What training makes small: squared error for numbers, cross-entropy for classes.

All are means over the batch and take raw scores (logits), not probabilities, so that no logarithm
of zero occurs.
"""

import numpy as np

from appendix_b.tensor import Tensor, record


def mean_squared_error(predicted: Tensor, wanted: np.ndarray) -> Tensor:
    """The mean of squared differences; both of one shape (ValueError otherwise: broadcasting would
    hide a mistake).

    >>> mean_squared_error(Tensor([1.0, 3.0]), np.array([1.0, 1.0])).item()
    2.0
    """
    if predicted.shape != np.shape(wanted):
        raise ValueError(
            f"predictions have shape {predicted.shape}, targets {np.shape(wanted)}; reshape one of"
            " them"
        )
    difference = predicted - wanted
    return (difference * difference).mean()


def binary_cross_entropy(logits: Tensor, labels: np.ndarray) -> Tensor:
    """The mean of -log sigmoid(logit) where the label is 1 and of -log(1 - sigmoid(logit)) where it
    is 0, as log(1 + e^-|x|) + max(x, 0) - x * label, which overflows nowhere.

    >>> round(binary_cross_entropy(Tensor([0.0, 200.0]), np.array([1, 1])).item(), 4)
    0.3466
    """
    x = logits.data
    labels = np.asarray(labels, dtype=x.dtype)
    each = np.log1p(np.exp(-np.abs(x))) + np.maximum(x, 0) - x * labels
    return record(
        "binary cross-entropy",
        each.mean(),
        (logits, lambda g: g * (0.5 * (1 + np.tanh(0.5 * x)) - labels) / x.size),
    )


def cross_entropy(logits: Tensor, labels: np.ndarray, weights: np.ndarray | None = None) -> Tensor:
    """Logits (..., V) and integer labels (...) -> the mean of -log softmax(logits)[label].

    `weights` (...) makes it a weighted mean: with zeros and ones, only the ones count. Its gradient
    is the probabilities minus one at the label: what is predicted minus what is true.

    >>> round(cross_entropy(Tensor([[0.0, 0.0], [0.0, 50.0]]), np.array([0, 1])).item(), 4)
    0.3466
    """
    flat = logits.data.reshape(-1, logits.shape[-1])
    rows, labels = np.arange(len(flat)), np.reshape(labels, -1)
    share = (
        np.full(len(flat), 1 / len(flat))
        if weights is None
        else np.reshape(weights, -1) / np.sum(weights)
    )
    share = share.astype(flat.dtype)
    shifted = flat - flat.max(axis=1, keepdims=True)
    exps = np.exp(shifted)
    totals = exps.sum(axis=1)
    each = np.log(totals) - shifted[rows, labels]

    def rule(g: np.ndarray) -> np.ndarray:
        grad = exps * (share / totals)[:, None]
        grad[rows, labels] -= share
        grad *= g
        return grad.reshape(logits.shape)

    return record("cross-entropy", np.sum(each * share), (logits, rule))
