"""The slow way to a gradient: change one number a little and see how the loss changes. It is the
oracle for every other gradient of this appendix.

Needs float64: the difference of two nearly equal losses loses about half of the digits.
"""

from collections.abc import Callable

import numpy as np


def numerical_gradient(
    loss: Callable[[np.ndarray], float], x: np.ndarray, step: float = 1e-5
) -> np.ndarray:
    """The gradient of `loss` at `x` (float64) by central differences: two evaluations per number.

    >>> numerical_gradient(lambda x: float((x**2).sum()), np.array([1.0, -3.0])).round(6)
    array([ 2., -6.])
    """
    grad = np.empty_like(x)
    for index in np.ndindex(x.shape):
        moved = x.copy()
        moved[index] = x[index] + step
        higher = loss(moved)
        moved[index] = x[index] - step
        grad[index] = (higher - loss(moved)) / (2 * step)
    return grad
