"""Functions of tensors: curves, softmax and its relatives, normalisation, joining, looking up.

Softmax, log-sum-exp and layer normalisation could be composed of the operations in tensor.py; here
each is one operation with a gradient derived by hand, several times as fast because it writes fewer
arrays. The tests hold each against its composition, finite differences and PyTorch.
"""

import math
from collections.abc import Sequence

import numpy as np

from appendix_b.tensor import Tensor, record


def exp(x: Tensor) -> Tensor:
    """e^x, elementwise."""
    y = np.exp(x.data)
    return record("exp", y, (x, lambda g: g * y))


def log(x: Tensor) -> Tensor:
    """The natural logarithm, elementwise."""
    return record("log", np.log(x.data), (x, lambda g: g / x.data))


def tanh(x: Tensor) -> Tensor:
    """The hyperbolic tangent, elementwise, between -1 and 1."""
    y = np.tanh(x.data)
    return record("tanh", y, (x, lambda g: g * (1 - y * y)))


def sigmoid(x: Tensor) -> Tensor:
    """1 / (1 + e^-x), elementwise, between 0 and 1; through tanh, which does not overflow.

    >>> sigmoid(Tensor([0.0, -1000.0])).data.tolist()
    [0.5, 0.0]
    """
    y = 0.5 * (1 + np.tanh(0.5 * x.data))
    return record("sigmoid", y, (x, lambda g: g * y * (1 - y)))


def relu(x: Tensor) -> Tensor:
    """max(x, 0), elementwise."""
    return record("relu", np.maximum(x.data, 0), (x, lambda g: g * (x.data > 0)))


def gelu(x: Tensor) -> Tensor:
    """The tanh approximation of x times the normal distribution function (Hendrycks & Gimpel 2016),
    elementwise.

    >>> gelu(Tensor([0.0, 1.0])).data.round(4).tolist()
    [0.0, 0.8411999940872192]
    """
    c, cubic = math.sqrt(2 / math.pi), 0.044715
    square = x.data * x.data
    bent = np.tanh(c * x.data * (1 + cubic * square))
    half = 0.5 * (1 + bent)

    def rule(g: np.ndarray) -> np.ndarray:
        slope = (1 - bent * bent) * x.data
        slope *= 0.5 * c * (1 + 3 * cubic * square)
        slope += half
        slope *= g
        return slope

    return record("gelu", x.data * half, (x, rule))


def softmax(x: Tensor, axis: int = -1) -> Tensor:
    """Positive numbers that sum to one along `axis`, in the ratios of e^x; the maximum is taken off
    first, so that nothing overflows.

    >>> softmax(Tensor([0.0, math.log(3.0)])).data.tolist()
    [0.25, 0.75]
    """
    y = x.data - x.data.max(axis=axis, keepdims=True)
    np.exp(y, out=y)
    y /= y.sum(axis=axis, keepdims=True)

    def rule(g: np.ndarray) -> np.ndarray:
        product = g * y
        product -= y * product.sum(axis=axis, keepdims=True)
        return product

    return record("softmax", y, (x, rule))


def logsumexp(x: Tensor, axis: int = -1, keepdims: bool = False) -> Tensor:
    """log of the sum of e^x along `axis`; its gradient is the softmax.

    >>> round(logsumexp(Tensor([1000.0, 1000.0])).item() - 1000, 3)
    0.693
    """
    largest = x.data.max(axis=axis, keepdims=True)
    y = np.exp(x.data - largest)
    total = y.sum(axis=axis, keepdims=True)
    kept = np.log(total) + largest
    return record(
        "logsumexp",
        kept if keepdims else kept.squeeze(axis),
        (x, lambda g: g.reshape(kept.shape) * (y / total)),
    )


def log_softmax(x: Tensor, axis: int = -1) -> Tensor:
    """The logarithm of `softmax`."""
    return x - logsumexp(x, axis, keepdims=True)


def layer_norm(x: Tensor, scale: Tensor, shift: Tensor, eps: float = 1e-5) -> Tensor:
    """(..., C) -> (..., C): zero mean and unit variance over the last axis, then scale and shift
    (C,) (Ba et al. 2016).

    The gradient of the normalised input has two parts taken off: its mean, and its share along the
    output.
    """
    width = x.shape[-1]
    centred = x.data - x.data.mean(axis=-1, keepdims=True)
    inverse = 1 / np.sqrt(np.einsum("...c,...c->...", centred, centred)[..., None] / width + eps)
    normal = centred * inverse

    def rule(g: np.ndarray) -> np.ndarray:
        g = g * scale.data
        along = np.einsum("...c,...c->...", g, normal)[..., None] / width
        g -= g.mean(axis=-1, keepdims=True)
        g -= normal * along
        g *= inverse
        return g

    return record(
        "layer norm",
        normal * scale.data + shift.data,
        (x, rule),
        (scale, lambda g: np.einsum("nc,nc->c", g.reshape(-1, width), normal.reshape(-1, width))),
        (shift, lambda g: g),
    )


def lookup(table: Tensor, ids: np.ndarray) -> Tensor:
    """Rows of a table (V, C) by integer ids (...) -> (..., C). Rows that are asked for twice add up
    their gradients: sorted first, because NumPy sums runs of rows much faster than single ones.
    """

    def rule(g: np.ndarray) -> np.ndarray:
        order = np.argsort(ids, axis=None, kind="stable")
        in_order = ids.reshape(-1)[order]
        starts = np.flatnonzero(np.diff(in_order, prepend=-1))
        grad = np.zeros_like(table.data)
        grad[in_order[starts]] = np.add.reduceat(
            g.reshape(-1, table.shape[1])[order], starts, axis=0
        )
        return grad

    return record("lookup", table.data[ids], (table, rule))


def concatenate(tensors: Sequence[Tensor], axis: int = -1) -> Tensor:
    """Tensors one after the other along an axis that exists."""
    ends = np.cumsum([one.shape[axis] for one in tensors])[:-1]
    rules = [(one, lambda g, i=i: np.split(g, ends, axis=axis)[i]) for i, one in enumerate(tensors)]
    return record("concatenate", np.concatenate([one.data for one in tensors], axis=axis), *rules)


def stack(tensors: Sequence[Tensor], axis: int = 0) -> Tensor:
    """Tensors of one shape side by side along a new axis."""
    rules = [(one, lambda g, i=i: np.take(g, i, axis=axis)) for i, one in enumerate(tensors)]
    return record("stack", np.stack([one.data for one in tensors], axis=axis), *rules)


def where(condition: np.ndarray, yes: Tensor, no: Tensor) -> Tensor:
    """From `yes` where the boolean `condition` holds, else from `no`; all three broadcast."""
    return record(
        "where",
        np.where(condition, yes.data, no.data),
        (yes, lambda g: g * condition),
        (no, lambda g: g * ~condition),
    )
