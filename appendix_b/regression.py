"""The two oldest models, trained by gradient descent: a line through points, and a line between two
classes.

Both have an answer that needs no gradient (least squares; scikit-learn's solver), to hold ours
against. The third model has a hidden layer, because no line separates two moons.
"""

import numpy as np

from appendix_b.layers import Linear, Tanh
from appendix_b.losses import binary_cross_entropy, mean_squared_error
from appendix_b.nn import Module, Sequential
from appendix_b.optimizers import SGD, Adam
from appendix_b.tensor import Tensor, no_grad


def points_on_a_line(n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """x (n, 1) between -1 and 1, y (n, 1) = 2 x - 1 plus noise of standard deviation 0.3;
    float32.
    """
    x = rng.uniform(-1, 1, (n, 1)).astype(np.float32)
    return x, (2 * x - 1 + rng.normal(0, 0.3, (n, 1))).astype(np.float32)


def fit_line(
    x: np.ndarray, y: np.ndarray, rng: np.random.Generator, steps: int = 300
) -> tuple[Linear, list[float]]:
    """A linear layer fitted to points (n, inputs), (n, 1) by gradient descent with momentum, and
    the losses.
    """
    model = Linear(x.shape[1], 1, rng)
    optimizer = SGD(model.parameters(), lr=0.1, momentum=0.9)
    losses = []
    for _ in range(steps):
        loss = mean_squared_error(model(Tensor(x)), y)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return model, losses


def least_squares(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The closed form: slopes and, last, the offset, (inputs + 1,).

    >>> least_squares(np.array([[0.0], [1.0], [2.0]]), np.array([[1.0], [3.0], [5.0]])).round(6)
    array([2., 1.])
    """
    return np.linalg.lstsq(np.hstack([x, np.ones_like(x[:, :1])]), y, rcond=None)[0].ravel()


def fit_separator(
    x: np.ndarray,
    labels: np.ndarray,
    rng: np.random.Generator,
    hidden: int = 0,
    penalty: float = 0.0,
    steps: int = 400,
) -> Module:
    """A model of logits (n, 1) for labels (n,) of 0 and 1: logistic regression, or, with `hidden` >
    0, one hidden layer of that width. `penalty` times half the squared weights is added to the
    loss, the offset left free.
    """
    model = (
        Sequential(Linear(x.shape[1], hidden, rng), Tanh(), Linear(hidden, 1, rng))
        if hidden
        else Sequential(Linear(x.shape[1], 1, rng))
    )
    optimizer = Adam(model.parameters(), lr=0.05)
    weights = [one for one in model.parameters() if one.ndim == 2]
    for _ in range(steps):
        loss = binary_cross_entropy(model(Tensor(x)), labels[:, None])
        for weight in weights:
            loss = loss + (weight * weight).sum() * (0.5 * penalty)
        loss.backward()
        optimizer.step()
    return model


def separates(model: Module, x: np.ndarray, labels: np.ndarray) -> float:
    """The share of points (n, inputs) on the right side."""
    with no_grad():
        return float(((model(Tensor(x)).data[:, 0] > 0) == labels).mean())
