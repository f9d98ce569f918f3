"""Answers to the exercises of appendix B: one way of many."""

from collections.abc import Callable

import numpy as np


def central_difference(f: Callable[[float], float], x: float, step: float = 1e-5) -> float:
    return (f(x + step) - f(x - step)) / (2 * step)


def unbroadcast_gradient(grad: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    while grad.ndim > len(shape):
        grad = grad.sum(axis=0)
    for axis, size in enumerate(shape):
        if size == 1:
            grad = grad.sum(axis=axis, keepdims=True)
    return grad


def matmul_gradients(
    a: np.ndarray, b: np.ndarray, grad: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    return grad @ b.T, a.T @ grad


def softmax_gradient(p: np.ndarray, grad: np.ndarray) -> np.ndarray:
    return p * (grad - (p * grad).sum(axis=-1, keepdims=True))


def cross_entropy_gradient(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    probabilities = np.exp(logits - logits.max(axis=1, keepdims=True))
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    probabilities[np.arange(len(labels)), labels] -= 1
    return probabilities / len(labels)


def layer_norm_gradient(x: np.ndarray, grad: np.ndarray, eps: float = 1e-5) -> np.ndarray:
    deviation = np.sqrt(x.var(axis=-1, keepdims=True) + eps)
    normal = (x - x.mean(axis=-1, keepdims=True)) / deviation
    along = (grad * normal).mean(axis=-1, keepdims=True)
    return (grad - grad.mean(axis=-1, keepdims=True) - normal * along) / deviation


def clip_by_norm(grads: list[np.ndarray], max_norm: float) -> list[np.ndarray]:
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
    mean = betas[0] * mean + (1 - betas[0]) * grad
    square = betas[1] * square + (1 - betas[1]) * grad**2
    corrected = mean / (1 - betas[0] ** step), square / (1 - betas[1] ** step)
    return x - lr * corrected[0] / (np.sqrt(corrected[1]) + eps), mean, square


def dropout(x: np.ndarray, rate: float, rng: np.random.Generator) -> np.ndarray:
    return x * (rng.random(x.shape) >= rate) / (1 - rate)


def cross_correlate(image: np.ndarray, filter: np.ndarray) -> np.ndarray:
    windows = np.lib.stride_tricks.sliding_window_view(image, filter.shape)  # (H', W', h, w)
    return np.einsum("yxij,ij->yx", windows, filter)


def lstm_step(
    x: np.ndarray,
    h: np.ndarray,
    c: np.ndarray,
    from_input: np.ndarray,
    from_state: np.ndarray,
    bias: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    forget, enter, candidate, leave = np.split(x @ from_input + h @ from_state + bias, 4, axis=-1)
    forget, enter, leave = (1 / (1 + np.exp(-gate)) for gate in (forget, enter, leave))
    c = forget * c + enter * np.tanh(candidate)
    return leave * np.tanh(c), c


def causal_attention(queries: np.ndarray, keys: np.ndarray, values: np.ndarray) -> np.ndarray:
    T, D = queries.shape
    scores = queries @ keys.T / np.sqrt(D)
    scores[np.triu(np.ones((T, T), dtype=bool), k=1)] = -np.inf
    weights = np.exp(scores - scores.max(axis=1, keepdims=True))
    return weights / weights.sum(axis=1, keepdims=True) @ values
