"""Exercises of appendix B, NumPy alone. Replace each `raise`, then:

    pytest tests/test_exercises.py --mine -k appendix_b

The first hint stands in the docstring, a second one behind `hint("name")`; answers are in
solutions.py.
"""

from collections.abc import Callable

import numpy as np

from ch01_text.practice import hints

hint = hints(
    {
        "central_difference": "(f(x + step) - f(x - step)) is the rise over a run of 2 * step.",
        "unbroadcast_gradient": (
            "First sum over the leading axes that the shape does not have, then, keeping the axis, "
            "over those where the shape has 1."
        ),
        "matmul_gradients": "grad @ b.T has the shape of a; for b multiply from the other side.",
        "softmax_gradient": (
            "p * (grad - (p * grad).sum(axis=-1, keepdims=True)), without ever building a matrix."
        ),
        "cross_entropy_gradient": (
            "The softmax, minus one at each row's label (probabilities[np.arange(B), labels] -= 1),"
            " divided by B."
        ),
        "layer_norm_gradient": (
            "With n the normalised rows and s their standard deviations: (grad - mean of grad - n *"
            " mean of (grad * n)) / s, all means over the last axis."
        ),
        "clip_by_norm": (
            "The norm is np.sqrt(sum((grad**2).sum() for grad in grads)); the factor min(1,"
            " max_norm / norm)."
        ),
        "adam_step": (
            "mean / (1 - beta1**step) and square / (1 - beta2**step) are the corrected averages."
        ),
        "dropout": "kept = rng.random(x.shape) >= rate; then x * kept / (1 - rate).",
        "cross_correlate": (
            "np.lib.stride_tricks.sliding_window_view(image, filter.shape) has four axes; np.einsum"
            " or a product summed over the last two gives the result."
        ),
        "lstm_step": (
            "gates = x @ from_input + h @ from_state + bias, then np.split(gates, 4, axis=-1)."
        ),
        "causal_attention": (
            "np.triu(np.ones((T, T), dtype=bool), k=1) marks the future; set those scores to"
            " -np.inf before the softmax."
        ),
    }
)


def central_difference(f: Callable[[float], float], x: float, step: float = 1e-5) -> float:
    """The slope of a function of one number at x, from two of its values. Hint: look both ways,
    not only ahead.
    """
    raise NotImplementedError


def unbroadcast_gradient(grad: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """An array of `shape` was broadcast to the shape of `grad`, the gradient there -> the gradient
    of the array itself, of `shape`. Hint: a number that was used several times gets the sum of the
    gradients of all its uses.
    """
    raise NotImplementedError


def matmul_gradients(
    a: np.ndarray, b: np.ndarray, grad: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """a (n, k), b (k, m), and the gradient of a loss with respect to a @ b (n, m) -> those with
    respect to a and b.
    Hint: the shapes leave only one way to multiply.
    """
    raise NotImplementedError


def softmax_gradient(p: np.ndarray, grad: np.ndarray) -> np.ndarray:
    """p (B, V), the softmax of some x along the last axis, and the gradient with respect to p ->
    that with respect to x. Hint: raising one logit raises its own probability and lowers all others
    in the ratio of their size.
    """
    raise NotImplementedError


def cross_entropy_gradient(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Logits (B, V) and integer labels (B,) -> the gradient (B, V) of the mean of -log
    softmax(logits)[label].
    Hint: what is predicted minus what is true.
    """
    raise NotImplementedError


def layer_norm_gradient(x: np.ndarray, grad: np.ndarray, eps: float = 1e-5) -> np.ndarray:
    """Rows x (B, C), normalised as (x - mean) / sqrt(variance + eps) along the last axis, and the
    gradient with respect to the result -> that with respect to x. Hint: mean and variance depend on
    x, too; shifting a row changes nothing, so the gradient of a row sums to zero.
    """
    raise NotImplementedError


def clip_by_norm(grads: list[np.ndarray], max_norm: float) -> list[np.ndarray]:
    """Gradients of several parameters -> new ones of the same direction whose length, all numbers
    of all of them taken together, is at most `max_norm`. Hint: one factor for all.
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
    """Parameter, gradient, running averages of the gradient and of its square, and the number of
    this step (from 1) -> the new parameter and the new averages. Hint: an average that began at
    zero is too small by 1 - beta**step.
    """
    raise NotImplementedError


def dropout(x: np.ndarray, rate: float, rng: np.random.Generator) -> np.ndarray:
    """Numbers of any shape -> the same, each zero with probability `rate`, so that every expected
    value stays.
    Hint: draw one number in [0, 1) for each with `rng.random`; scale what is left.
    """
    raise NotImplementedError


def cross_correlate(image: np.ndarray, filter: np.ndarray) -> np.ndarray:
    """An image (H, W) and a filter (h, w) -> (H - h + 1, W - w + 1): at each place the sum of the
    window times the filter, which is not turned around (what networks call convolution). Hint: view
    all windows at once.
    """
    raise NotImplementedError


def lstm_step(
    x: np.ndarray,
    h: np.ndarray,
    c: np.ndarray,
    from_input: np.ndarray,
    from_state: np.ndarray,
    bias: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Input (B, I), state and cell (B, C), weights (I, 4C), (C, 4C), (4C,), gates in the order
    forget, enter, candidate, leave -> the new state and cell. Hint: three gates go through a
    sigmoid, the candidate through tanh.
    """
    raise NotImplementedError


def causal_attention(queries: np.ndarray, keys: np.ndarray, values: np.ndarray) -> np.ndarray:
    """(T, D) each -> (T, D): row t is the average of the values up to t, weighted by the softmax of
    its query times the keys, divided by sqrt(D). Hint: hide the future before the softmax, not
    after it.
    """
    raise NotImplementedError
