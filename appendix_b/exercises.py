"""Exercises of appendix B, with NumPy alone. Replace each `raise`, then run

    pytest tests/test_exercises.py --mine -k appendix_b

A first hint is in each docstring, `hint("name")` prints a second one, and the answers are in
solutions.py.
"""

from collections.abc import Callable

import numpy as np

from ch01_text.practice import hints

hint = hints(
    {
        "central_difference": "f(x + step) - f(x - step) is the rise over a run of 2 * step.",
        "unbroadcast_gradient": (
            "First sum over the leading axes that `shape` does not have; then, with keepdims=True, "
            "over those where `shape` has a 1."
        ),
        "matmul_gradients": "grad @ b.T has the shape of a; for b, multiply from the other side.",
        "softmax_gradient": (
            "p * (grad - (p * grad).sum(axis=-1, keepdims=True)); no Jacobian matrix is needed."
        ),
        "cross_entropy_gradient": (
            "The softmax, minus 1 at the label of each row (probabilities[np.arange(B), labels] -="
            " 1), divided by B."
        ),
        "layer_norm_gradient": (
            "With n the normalised rows and s their standard deviations: (grad - mean(grad) - n *"
            " mean(grad * n)) / s, all means over the last axis."
        ),
        "clip_by_norm": (
            "The norm is np.sqrt(sum((grad**2).sum() for grad in grads)), the factor min(1,"
            " max_norm / norm)."
        ),
        "adam_step": (
            "The corrected averages are mean / (1 - beta1**step) and square / (1 - beta2**step)."
        ),
        "dropout": "kept = rng.random(x.shape) >= rate; then x * kept / (1 - rate).",
        "cross_correlate": (
            "np.lib.stride_tricks.sliding_window_view(image, filter.shape) has four axes; multiply"
            " by the filter and sum over the last two, for example with np.einsum."
        ),
        "lstm_step": (
            "gates = x @ weight_ih + h @ weight_hh + bias, then np.split(gates, 4, axis=-1) gives"
            " i, f, g and o; the new cell state is sigmoid(f) * c + sigmoid(i) * tanh(g)."
        ),
        "causal_attention": (
            "np.triu(np.ones((T, T), dtype=bool), k=1) marks the future; set these scores to"
            " -np.inf before the softmax."
        ),
    }
)


def central_difference(f: Callable[[float], float], x: float, step: float = 1e-5) -> float:
    """The slope of f at x, estimated from two values of f. Hint: evaluate f on both sides of x."""
    raise NotImplementedError


def unbroadcast_gradient(grad: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """An array of `shape` was broadcast to the shape of `grad`. Given the gradient of the broadcast
    array, return that of the original one. Hint: a number that was used several times gets the sum
    of the gradients of all its uses.
    """
    raise NotImplementedError


def matmul_gradients(
    a: np.ndarray, b: np.ndarray, grad: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """a (n, k), b (k, m) and the gradient of a loss with respect to a @ b (n, m) -> the gradients
    with respect to a and b. Hint: the shapes leave only one way to multiply.
    """
    raise NotImplementedError


def softmax_gradient(p: np.ndarray, grad: np.ndarray) -> np.ndarray:
    """p (B, V), the softmax of some x along the last axis, and the gradient with respect to p ->
    the gradient with respect to x. Hint: raising one logit raises its own probability and lowers
    all others, in proportion to their size.
    """
    raise NotImplementedError


def cross_entropy_gradient(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Logits (B, V) and integer labels (B,) -> the gradient (B, V) of the mean of
    -log softmax(logits)[label]. Hint: predicted minus true probabilities.
    """
    raise NotImplementedError


def layer_norm_gradient(x: np.ndarray, grad: np.ndarray, eps: float = 1e-5) -> np.ndarray:
    """Rows x (B, C) are normalised as (x - mean) / sqrt(variance + eps) along the last axis. Given
    the gradient with respect to the result, return the gradient with respect to x. Hint: mean and
    variance depend on x too. Shifting or scaling a row changes nothing, so subtract from the
    gradient its mean and its projection on the normalised row.
    """
    raise NotImplementedError


def clip_by_norm(grads: list[np.ndarray], max_norm: float) -> list[np.ndarray]:
    """Gradients of several parameters -> new gradients of the same direction whose joint norm (over
    all numbers of all arrays) is at most `max_norm`. Hint: one factor for all.
    """
    raise NotImplementedError


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
    """A parameter, its gradient, the running averages of the gradient and of its square, and the
    number of this step (from 1) -> the new parameter and the two new averages. Hint: an average
    that starts at zero is too small by the factor 1 - beta**step.
    """
    raise NotImplementedError


def dropout(x: np.ndarray, rate: float, rng: np.random.Generator) -> np.ndarray:
    """Set each number of x to zero with probability `rate`, without changing its expected value.
    Hint: draw one number in [0, 1) for each with `rng.random`, and scale the survivors.
    """
    raise NotImplementedError


def cross_correlate(image: np.ndarray, filter: np.ndarray) -> np.ndarray:
    """An image (H, W) and a filter (h, w) -> (H - h + 1, W - w + 1): at each position the sum of
    the window times the filter. (Neural networks call this a convolution; a mathematician would
    flip the filter first.) Hint: view all windows at once.
    """
    raise NotImplementedError


def lstm_step(
    x: np.ndarray,
    h: np.ndarray,
    c: np.ndarray,
    weight_ih: np.ndarray,
    weight_hh: np.ndarray,
    bias: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Input x (B, I), hidden state h and cell state c (B, C), weights (I, 4C), (C, 4C) and (4C,)
    whose columns are the input gate, forget gate, candidate and output gate -> the new hidden state
    and cell state. Hint: the gates go through a sigmoid, the candidate through tanh.
    """
    raise NotImplementedError


def causal_attention(queries: np.ndarray, keys: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Queries, keys and values (T, D) -> (T, D): row t is the average of the values up to t,
    weighted by the softmax of its query times the keys, divided by sqrt(D). Hint: hide the future
    before the softmax, not after it.
    """
    raise NotImplementedError
