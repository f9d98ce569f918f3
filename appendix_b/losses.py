"""Loss functions: squared error for numbers, cross-entropy for classes.

Each is a mean over the batch. The classification losses take raw scores (logits) rather than
probabilities, so that they never compute the logarithm of zero.
"""

import numpy as np

from appendix_b.tensor import Tensor, apply_op


def mean_squared_error(predictions: Tensor, targets: np.ndarray) -> Tensor:
    """The mean squared difference of two arrays of equal shape (ValueError otherwise).

    >>> mean_squared_error(Tensor([1.0, 3.0]), np.array([1.0, 1.0])).item()
    2.0
    """
    # (n, 1) minus (n,) would broadcast to (n, n) and give a wrong loss without complaint.
    if predictions.shape != np.shape(targets):
        raise ValueError(
            f"predictions have shape {predictions.shape}, targets {np.shape(targets)}; reshape one"
            " of them"
        )
    difference = predictions - targets
    return (difference * difference).mean()


def binary_cross_entropy(logits: Tensor, labels: np.ndarray) -> Tensor:
    """The mean of -log p for label 1 and of -log(1 - p) for label 0, where p = sigmoid(logit).

    >>> round(binary_cross_entropy(Tensor([0.0, 200.0]), np.array([1, 1])).item(), 4)
    0.3466
    """
    x = logits.data
    labels = np.asarray(labels, dtype=x.dtype)
    # -log sigmoid(x) = log(1 + e^-x) overflows for large negative x. This form never does, since
    # its exponent is never positive: log(1 + e^-|x|) + max(x, 0) - x * label.
    losses = np.log1p(np.exp(-np.abs(x))) + np.maximum(x, 0) - x * labels
    return apply_op(
        "binary cross-entropy",
        losses.mean(),
        # sigmoid(x) - label: predicted minus true probability
        (logits, lambda g: g * (0.5 * (1 + np.tanh(0.5 * x)) - labels) / x.size),
    )


def cross_entropy(logits: Tensor, labels: np.ndarray, weights: np.ndarray | None = None) -> Tensor:
    """Logits (..., V) and integer labels (...) -> the mean of -log softmax(logits)[label].

    `weights` (...) turns it into a weighted mean: weights of 0 and 1 select positions.

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
    shifted = flat - flat.max(axis=1, keepdims=True)  # cancels in the softmax; avoids overflow
    exps = np.exp(shifted)
    totals = exps.sum(axis=1)
    losses = np.log(totals) - shifted[rows, labels]

    def vjp(g: np.ndarray) -> np.ndarray:
        # The gradient of one row is its probabilities, minus 1 at the label: predicted minus true.
        grad = exps * (share / totals)[:, None]
        grad[rows, labels] -= share
        grad *= g
        return grad.reshape(logits.shape)

    return apply_op("cross-entropy", np.sum(losses * share), (logits, vjp))
