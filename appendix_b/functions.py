"""Functions of tensors: activations, softmax and its relatives, normalisation, embedding lookup.

Softmax, log-sum-exp and layer normalisation could be composed of the operations in tensor.py. Here
each is a single operation with a gradient derived by hand, because a composition would write many
more intermediate arrays. The tests compare each with its composition, with finite differences and
with PyTorch.
"""

import math
from collections.abc import Sequence

import numpy as np

from appendix_b.tensor import Tensor, apply_op


def exp(x: Tensor) -> Tensor:
    """e^x, elementwise."""
    y = np.exp(x.data)  # its own derivative
    return apply_op("exp", y, (x, lambda g: g * y))


def log(x: Tensor) -> Tensor:
    """The natural logarithm, elementwise."""
    return apply_op("log", np.log(x.data), (x, lambda g: g / x.data))


def tanh(x: Tensor) -> Tensor:
    """The hyperbolic tangent, elementwise, between -1 and 1."""
    y = np.tanh(x.data)
    # dy/dx = 1 - y², so the result is all that the backward pass needs
    return apply_op("tanh", y, (x, lambda g: g * (1 - y * y)))


def sigmoid(x: Tensor) -> Tensor:
    """1 / (1 + e^-x), elementwise, between 0 and 1.

    >>> sigmoid(Tensor([0.0, -1000.0])).data.tolist()
    [0.5, 0.0]
    """
    # The same curve written with tanh, which cannot overflow: e^1000 would.
    y = 0.5 * (1 + np.tanh(0.5 * x.data))
    # dy/dx = y (1 - y), at most 1/4
    return apply_op("sigmoid", y, (x, lambda g: g * y * (1 - y)))


def relu(x: Tensor) -> Tensor:
    """max(x, 0), elementwise."""
    # The slope is 1 for x > 0 and 0 for x < 0. At 0 there is none; like PyTorch, we take 0.
    return apply_op("relu", np.maximum(x.data, 0), (x, lambda g: g * (x.data > 0)))


def gelu(x: Tensor) -> Tensor:
    """GELU, x times the normal distribution function of x, in the tanh approximation (Hendrycks &
    Gimpel 2016), elementwise.

    >>> gelu(Tensor([0.0, 1.0])).data.round(4).tolist()
    [0.0, 0.8411999940872192]
    """
    # y = x * cdf with cdf = 0.5 * (1 + tanh(u)) and u = c * (x + 0.044715 x³)
    c, cubic = math.sqrt(2 / math.pi), 0.044715
    square = x.data * x.data
    tanh_u = np.tanh(c * x.data * (1 + cubic * square))
    cdf = 0.5 * (1 + tanh_u)

    def vjp(g: np.ndarray) -> np.ndarray:
        # Product rule: dy/dx = cdf + x * 0.5 * (1 - tanh²(u)) * du/dx. Computed in place, because
        # this is one of the largest arrays of a GPT.
        slope = (1 - tanh_u * tanh_u) * x.data
        slope *= 0.5 * c * (1 + 3 * cubic * square)
        slope += cdf
        slope *= g
        return slope

    return apply_op("gelu", x.data * cdf, (x, vjp))


def softmax(x: Tensor, axis: int = -1) -> Tensor:
    """Positive numbers proportional to e^x that sum to 1 along `axis`.

    >>> softmax(Tensor([0.0, math.log(3.0)])).data.tolist()
    [0.25, 0.75]
    """
    # Subtracting the maximum cancels in the quotient and keeps every power at most 1.
    y = x.data - x.data.max(axis=axis, keepdims=True)
    np.exp(y, out=y)
    y /= y.sum(axis=axis, keepdims=True)

    def vjp(g: np.ndarray) -> np.ndarray:
        # dy_i/dx_j = y_i (1[i = j] - y_j), so the sum over i of g_i dy_i/dx_j is
        # y_j (g_j - sum_i g_i y_i). The Jacobian matrix itself is never needed.
        product = g * y
        product -= y * product.sum(axis=axis, keepdims=True)
        return product

    return apply_op("softmax", y, (x, vjp))


def logsumexp(x: Tensor, axis: int = -1, keepdims: bool = False) -> Tensor:
    """The logarithm of the sum of e^x along `axis`.

    >>> round(logsumexp(Tensor([1000.0, 1000.0])).item() - 1000, 3)
    0.693
    """
    largest = x.data.max(axis=axis, keepdims=True)
    y = np.exp(x.data - largest)
    total = y.sum(axis=axis, keepdims=True)
    kept = np.log(total) + largest
    return apply_op(
        "logsumexp",
        kept if keepdims else kept.squeeze(axis),
        (x, lambda g: g.reshape(kept.shape) * (y / total)),  # its derivative is the softmax
    )


def log_softmax(x: Tensor, axis: int = -1) -> Tensor:
    """The logarithm of `softmax`, without ever computing the logarithm of a tiny probability."""
    return x - logsumexp(x, axis, keepdims=True)


def layer_norm(x: Tensor, scale: Tensor, shift: Tensor, eps: float = 1e-5) -> Tensor:
    """(..., C) -> (..., C): zero mean and unit variance over the last axis, then scale and shift
    (C,) (Ba et al. 2016).
    """
    C = x.shape[-1]
    centred = x.data - x.data.mean(axis=-1, keepdims=True)
    # einsum computes the sum of squares without writing the squares to memory first.
    variance = np.einsum("...c,...c->...", centred, centred)[..., None] / C
    inverse = 1 / np.sqrt(variance + eps)
    normal = centred * inverse

    def vjp(g: np.ndarray) -> np.ndarray:
        # Adding a constant to x, or scaling x, changes nothing in the output. The gradient must
        # therefore have no component along either direction: subtract its mean, and its
        # projection on the normalised vector.
        g = g * scale.data
        projection = np.einsum("...c,...c->...", g, normal)[..., None] / C
        g -= g.mean(axis=-1, keepdims=True)
        g -= normal * projection
        g *= inverse
        return g

    return apply_op(
        "layer norm",
        normal * scale.data + shift.data,
        (x, vjp),
        (scale, lambda g: np.einsum("nc,nc->c", g.reshape(-1, C), normal.reshape(-1, C))),
        (shift, lambda g: g),  # summed over the positions by `unbroadcast`
    )


def embedding(table: Tensor, ids: np.ndarray) -> Tensor:
    """The rows of a table (V, C) at integer ids (...) -> (..., C)."""

    def vjp(g: np.ndarray) -> np.ndarray:
        # A row that was looked up several times gets the sum of its gradients. `np.add.at` does
        # that one row at a time; sorting the ids first lets `reduceat` sum whole runs at once.
        order = np.argsort(ids, axis=None, kind="stable")
        sorted_ids = ids.reshape(-1)[order]
        starts = np.flatnonzero(np.diff(sorted_ids, prepend=-1))
        sums = np.add.reduceat(g.reshape(-1, table.shape[1])[order], starts, axis=0)
        grad = np.zeros_like(table.data)
        grad[sorted_ids[starts]] = sums
        return grad

    return apply_op("embedding", table.data[ids], (table, vjp))


def stack(tensors: Sequence[Tensor], axis: int = 0) -> Tensor:
    """Join tensors of equal shape along a new axis."""
    # Slice i of the gradient belongs to tensor i. The default argument i=i stores the current i;
    # a plain `i` would be looked up later, when the loop is over, and be the last one for all.
    vjps = [(one, lambda g, i=i: np.take(g, i, axis=axis)) for i, one in enumerate(tensors)]
    return apply_op("stack", np.stack([one.data for one in tensors], axis=axis), *vjps)
