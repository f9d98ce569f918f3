"""Answers to the exercises of appendix B: one of several ways each, and why it works."""

from collections.abc import Callable

import numpy as np


def central_difference(f: Callable[[float], float], x: float, step: float = 1e-5) -> float:
    """On both sides the quadratic term of f is the same and cancels. The error shrinks with step²,
    that of a one-sided difference only with step.
    """
    return (f(x + step) - f(x - step)) / (2 * step)


def unbroadcast_gradient(grad: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Each copy contributes to the loss by itself, so the contributions are added: over the new
    leading axes, and over the axes that were stretched from size 1.
    """
    while grad.ndim > len(shape):
        grad = grad.sum(axis=0)
    for axis, size in enumerate(shape):
        if size == 1:
            grad = grad.sum(axis=axis, keepdims=True)
    return grad


def matmul_gradients(
    a: np.ndarray, b: np.ndarray, grad: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """a[i, k] enters the result in row i, multiplied by b[k, j]: the sum over j of
    grad[i, j] b[k, j] is (grad @ b.T)[i, k]. Likewise for b.
    """
    return grad @ b.T, a.T @ grad


def softmax_gradient(p: np.ndarray, grad: np.ndarray) -> np.ndarray:
    """The Jacobian is diag(p) - p pᵀ. Its product with a vector needs only one sum per row, never
    the (V, V) matrix.
    """
    return p * (grad - (p * grad).sum(axis=-1, keepdims=True))


def cross_entropy_gradient(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """-log softmax(z)[y] = logsumexp(z) - z[y]. The derivative of the first term is the softmax,
    that of the second is 1 at the label.
    """
    probabilities = np.exp(logits - logits.max(axis=1, keepdims=True))
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    probabilities[np.arange(len(labels)), labels] -= 1
    return probabilities / len(labels)


def layer_norm_gradient(x: np.ndarray, grad: np.ndarray, eps: float = 1e-5) -> np.ndarray:
    """The result does not change if a row is shifted, so its gradient must have mean zero; nor if
    it is scaled, so its gradient must be orthogonal to the normalised row. Subtracting the mean and
    the projection does both, and 1 / deviation is the slope of what remains.
    """
    deviation = np.sqrt(x.var(axis=-1, keepdims=True) + eps)
    normal = (x - x.mean(axis=-1, keepdims=True)) / deviation
    projection = (grad * normal).mean(axis=-1, keepdims=True)
    return (grad - grad.mean(axis=-1, keepdims=True) - normal * projection) / deviation


def clip_by_norm(grads: list[np.ndarray], max_norm: float) -> list[np.ndarray]:
    """A common factor keeps the direction of the step. Clipping each array by itself would change
    the ratios between the parameters.
    """
    norm = np.sqrt(sum((grad**2).sum() for grad in grads))
    return [grad * min(1.0, max_norm / norm) for grad in grads] if norm else grads


def adam_step(
    x: np.ndarray,
    grad: np.ndarray,
    mean: np.ndarray,
    square: np.ndarray,
    step: int,
    lr: float,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
) -> tuple[np.ndarray, ...]:
    """After `step` updates the weights in an average that started at zero sum to 1 - beta**step.
    Dividing by that makes it a true weighted mean, already in the first step.
    """
    mean = betas[0] * mean + (1 - betas[0]) * grad
    square = betas[1] * square + (1 - betas[1]) * grad**2
    corrected = mean / (1 - betas[0] ** step), square / (1 - betas[1] ** step)
    return x - lr * corrected[0] / (np.sqrt(corrected[1]) + eps), mean, square


def dropout(x: np.ndarray, rate: float, rng: np.random.Generator) -> np.ndarray:
    """A number survives with probability 1 - rate. Divided by this, its expected value is x again,
    and evaluation can use the network unchanged.
    """
    return x * (rng.random(x.shape) >= rate) / (1 - rate)


def cross_correlate(image: np.ndarray, filter: np.ndarray) -> np.ndarray:
    """The view of all windows needs no copy; einsum multiplies and sums over the last two axes."""
    windows = np.lib.stride_tricks.sliding_window_view(image, filter.shape)  # (H', W', h, w)
    return np.einsum("yxij,ij->yx", windows, filter)


def lstm_step(
    x: np.ndarray,
    h: np.ndarray,
    c: np.ndarray,
    weight_ih: np.ndarray,
    weight_hh: np.ndarray,
    bias: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """One product computes all four parts. The forget gate scales the old cell state, the input
    gate the candidate, and the output gate decides how much of the cell state is shown.
    """
    i, f, g, o = np.split(x @ weight_ih + h @ weight_hh + bias, 4, axis=-1)
    i, f, o = (1 / (1 + np.exp(-gate)) for gate in (i, f, o))
    c = f * c + i * np.tanh(g)
    return o * np.tanh(c), c


def causal_attention(queries: np.ndarray, keys: np.ndarray, values: np.ndarray) -> np.ndarray:
    """A score of minus infinity becomes a weight of exactly zero, and the softmax still sums to 1
    over the rest. Zeroing weights after the softmax would leave rows with smaller sums.
    """
    T, D = queries.shape
    scores = queries @ keys.T / np.sqrt(D)
    scores[np.triu(np.ones((T, T), dtype=bool), k=1)] = -np.inf
    weights = np.exp(scores - scores.max(axis=1, keepdims=True))
    return weights / weights.sum(axis=1, keepdims=True) @ values
