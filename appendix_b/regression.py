"""The two oldest models, trained by gradient descent: linear regression and logistic regression.

Both have a solution that needs no gradient descent of ours (least squares; scikit-learn's solver),
and the tests compare with it. A third model has a hidden layer, because no straight line separates
two moons.
"""

import numpy as np

from appendix_b.layers import Linear, Tanh
from appendix_b.losses import binary_cross_entropy, mean_squared_error
from appendix_b.nn import Module, Sequential
from appendix_b.optimizers import SGD, Adam
from appendix_b.tensor import Tensor, no_grad


def noisy_line(n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """x (n, 1) between -1 and 1, and y (n, 1) = 2 x - 1 plus noise with standard deviation 0.3;
    float32.
    """
    x = rng.uniform(-1, 1, (n, 1)).astype(np.float32)
    return x, (2 * x - 1 + rng.normal(0, 0.3, (n, 1))).astype(np.float32)


def fit_line(
    x: np.ndarray, y: np.ndarray, rng: np.random.Generator, steps: int = 300
) -> tuple[Linear, list[float]]:
    """A linear layer fitted to inputs (n, d) and targets (n, 1) by gradient descent with momentum,
    and its losses.
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
    """The closed-form solution: slopes, then the intercept, (d + 1,).

    >>> least_squares(np.array([[0.0], [1.0], [2.0]]), np.array([[1.0], [3.0], [5.0]])).round(6)
    array([2., 1.])
    """
    return np.linalg.lstsq(np.hstack([x, np.ones_like(x[:, :1])]), y, rcond=None)[0].ravel()


def fit_binary_classifier(
    x: np.ndarray,
    labels: np.ndarray,
    rng: np.random.Generator,
    hidden_size: int = 0,
    l2: float = 0.0,
    steps: int = 400,
) -> Sequential:
    """A model that maps points (n, d) to logits (n, 1), fitted to labels (n,) of 0 and 1: logistic
    regression or, with `hidden_size` > 0, a network with one hidden layer. `l2` / 2 times the
    squared weights is added to the loss; biases are not penalised.
    """
    model = (
        Sequential(Linear(x.shape[1], hidden_size, rng), Tanh(), Linear(hidden_size, 1, rng))
        if hidden_size
        else Sequential(Linear(x.shape[1], 1, rng))
    )
    optimizer = Adam(model.parameters(), lr=0.05)
    weights = [one for one in model.parameters() if one.ndim == 2]
    for _ in range(steps):
        loss = binary_cross_entropy(model(Tensor(x)), labels[:, None])
        for weight in weights:
            loss = loss + (weight * weight).sum() * (0.5 * l2)
        loss.backward()
        optimizer.step()
    return model


def binary_accuracy(model: Module, x: np.ndarray, labels: np.ndarray) -> float:
    """The fraction of points (n, d) whose logit has the sign of their label."""
    with no_grad():
        return float(((model(Tensor(x)).data[:, 0] > 0) == labels).mean())
