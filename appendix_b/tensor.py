"""A NumPy array that remembers how it was computed, so that gradients can be: reverse-mode
automatic differentiation.

Each operation keeps, for every input, a rule that turns the gradient of its output into the
gradient of that input (a vector-Jacobian product). `backward` calls the rules from the last
operation to the first and adds up what meets. Left out: second derivatives, changes in place,
devices. Theory: Griewank & Walther 2008, chapter 3; the smallest engine of this kind is micrograd
(2020), for single numbers.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import reduce
from typing import NamedTuple

import numpy as np

Axis = int | tuple[int, ...] | None
_recording = [True]


@contextmanager
def no_grad() -> Iterator[None]:
    """Inside, operations remember nothing: for evaluation and sampling."""
    before, _recording[0] = _recording[0], False
    try:
        yield
    finally:
        _recording[0] = before


class Part(NamedTuple):
    """The gradient of some entries of an array; all others are zero. Keeps slicing in a loop
    cheap.
    """

    index: object
    grad: np.ndarray


def unbroadcast(grad: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Sum a gradient over the axes that broadcasting added or stretched, so that it has the input's
    `shape`.

    >>> unbroadcast(np.ones((2, 3)), (3,)), unbroadcast(np.ones((2, 3)), (2, 1)).tolist()
    (array([2., 2., 2.]), [[3.0], [3.0]])
    """
    if grad.shape == shape:
        return grad
    grad = grad.sum(axis=tuple(range(grad.ndim - len(shape))))
    stretched = tuple(
        axis for axis, size in enumerate(shape) if size == 1 and grad.shape[axis] != 1
    )
    return grad.sum(axis=stretched, keepdims=True)


def combined(grads: list[np.ndarray | Part], like: np.ndarray) -> np.ndarray:
    """The sum of all gradients that reached one tensor; inputs are never changed, they may be
    shared.
    """
    whole = [grad for grad in grads if not isinstance(grad, Part)]
    if len(whole) == len(grads):
        return reduce(np.add, whole)
    total = reduce(np.add, whole, np.zeros_like(like))
    for index, grad in (part for part in grads if isinstance(part, Part)):
        if _has_arrays(index):
            np.add.at(total, index, grad)  # an entry that was picked twice gets both
        else:
            total[index] += grad
    return total


def _has_arrays(index) -> bool:
    return any(
        isinstance(one, (np.ndarray, list))
        for one in (index if isinstance(index, tuple) else (index,))
    )


class Tensor:
    """Numbers with a gradient. NumPy float arrays keep their type and are not copied; anything else
    becomes float32.

    After `loss.backward()`, every tensor made with `requires_grad=True` has in `grad` the
    derivative of the loss with respect to each of its numbers. Several backward passes add up until
    `grad` is set to None.

    >>> x = Tensor([3.0], requires_grad=True)
    >>> (x * x + x).sum().backward()
    >>> x.grad
    array([7.], dtype=float32)
    """

    __array_ufunc__ = None  # array + tensor is the tensor's business

    def __init__(self, data, requires_grad: bool = False, name: str = ""):
        is_float = isinstance(data, (np.ndarray, np.generic)) and data.dtype.kind == "f"
        self.data = np.asarray(data) if is_float else np.asarray(data, dtype=np.float32)
        self.grad: np.ndarray | None = None
        self.requires_grad = requires_grad
        self.name = name  # of an operation's result: the operation
        self.rules: tuple[tuple[Tensor, Callable], ...] = ()

    def __repr__(self) -> str:
        values = np.array2string(self.data, precision=4, threshold=20)
        return f"Tensor({values}, {self.name})" if self.name else f"Tensor({values})"

    def __len__(self) -> int:
        return len(self.data)

    @property
    def shape(self) -> tuple[int, ...]:
        return self.data.shape

    @property
    def ndim(self) -> int:
        return self.data.ndim

    @property
    def dtype(self) -> np.dtype:
        return self.data.dtype

    def item(self) -> float:
        """The only number as a Python float."""
        return self.data.item()

    def graph(self) -> list["Tensor"]:
        """Every tensor that this one was computed from, each after its inputs, this one last."""
        order, seen, stack = [], {id(self)}, [(self, iter(self.rules))]
        # a loop of its own: the graph of a long text is deeper than Python's recursion limit
        while stack:
            node, inputs = stack[-1]
            for parent, _ in inputs:
                if id(parent) not in seen:
                    seen.add(id(parent))
                    stack.append((parent, iter(parent.rules)))
                    break
            else:
                order.append(node)
                stack.pop()
        return order

    def backward(self, grad: np.ndarray | None = None, keep_all: bool = False) -> None:
        """Add the gradient of this tensor to every leaf's `grad`; `grad` is that of the loss with
        respect to it.

        `keep_all` stores it on results between, too. ValueError where `grad` is missing and this is
        no single number.
        """
        if grad is None and self.data.size != 1:
            raise ValueError(
                f"backward starts from one number, not from shape {self.shape}; sum it, or pass"
                " grad"
            )
        grads = {
            id(self): [
                np.ones_like(self.data) if grad is None else np.asarray(grad, dtype=self.dtype)
            ]
        }
        for node in reversed(self.graph()):
            if id(node) not in grads:
                continue
            grad = combined(grads.pop(id(node)), node.data)
            if not node.rules or keep_all:
                node.grad = grad if node.grad is None else node.grad + grad
            for parent, rule in node.rules:
                if parent.requires_grad:
                    new = rule(grad)
                    new = new if isinstance(new, Part) else unbroadcast(new, parent.shape)
                    grads.setdefault(id(parent), []).append(new)

    def lift(self, other) -> "Tensor":
        """`other` as a tensor; plain numbers take this tensor's type."""
        return other if isinstance(other, Tensor) else Tensor(np.asarray(other, dtype=self.dtype))

    def __add__(self, other) -> "Tensor":
        other = self.lift(other)
        return record("+", self.data + other.data, (self, lambda g: g), (other, lambda g: g))

    def __mul__(self, other) -> "Tensor":
        other = self.lift(other)
        return record(
            "×",
            self.data * other.data,
            (self, lambda g: g * other.data),
            (other, lambda g: g * self.data),
        )

    def __truediv__(self, other) -> "Tensor":
        other = self.lift(other)
        quotient = self.data / other.data
        return record(
            "÷",
            quotient,
            (self, lambda g: g / other.data),
            (other, lambda g: -g * quotient / other.data),
        )

    def __pow__(self, exponent: float) -> "Tensor":
        power = self.data**exponent
        return record(
            f"^{exponent:g}", power, (self, lambda g: g * exponent * self.data ** (exponent - 1))
        )

    def __matmul__(self, other: "Tensor") -> "Tensor":
        """(..., n, k) @ (..., k, m) -> (..., n, m); ValueError where either is a plain vector."""
        if min(self.ndim, other.ndim) < 2:
            raise ValueError(
                f"@ multiplies matrices, not shapes {self.shape} and {other.shape}; add an axis"
            )
        left, right = self.data, other.data
        if right.ndim > 2:
            return record(
                "@",
                left @ right,
                (self, lambda g: g @ right.swapaxes(-1, -2)),
                (other, lambda g: left.swapaxes(-1, -2) @ g),
            )
        # one large product is faster than a batch of small ones
        rows = left.reshape(-1, left.shape[-1])
        product = (rows @ right).reshape(*left.shape[:-1], right.shape[1])
        return record(
            "@",
            product,
            (self, lambda g: (g.reshape(len(rows), -1) @ right.T).reshape(left.shape)),
            (other, lambda g: rows.T @ g.reshape(len(rows), -1)),
        )

    def __getitem__(self, index) -> "Tensor":
        return record("[ ]", self.data[index], (self, lambda g: Part(index, g)))

    def __neg__(self) -> "Tensor":
        return self * -1.0

    def __sub__(self, other) -> "Tensor":
        return self + -self.lift(other)

    def __rsub__(self, other) -> "Tensor":
        return self.lift(other) + -self

    def __rtruediv__(self, other) -> "Tensor":
        return self.lift(other) / self

    __radd__ = __add__
    __rmul__ = __mul__

    def sum(self, axis: Axis = None, keepdims: bool = False) -> "Tensor":
        kept = np.sum(self.data, axis=axis, keepdims=True)
        return record(
            "sum",
            kept if keepdims else np.sum(self.data, axis=axis),
            (self, lambda g: np.broadcast_to(g.reshape(kept.shape), self.shape)),
        )

    def mean(self, axis: Axis = None, keepdims: bool = False) -> "Tensor":
        total = self.sum(axis, keepdims)
        return total * (total.data.size / self.data.size)

    def max(self, axis: Axis = None, keepdims: bool = False) -> "Tensor":
        """The largest number; several equal ones share its gradient."""
        kept = np.max(self.data, axis=axis, keepdims=True)
        largest = self.data == kept
        share = largest / largest.sum(axis=axis, keepdims=True, dtype=self.dtype)
        return record(
            "max",
            kept if keepdims else np.max(self.data, axis=axis),
            (self, lambda g: g.reshape(kept.shape) * share),
        )

    def reshape(self, *shape: int) -> "Tensor":
        return record("reshape", self.data.reshape(shape), (self, lambda g: g.reshape(self.shape)))

    def transpose(self, *axes: int) -> "Tensor":
        """The axes in another order, all of them named, as NumPy does; without any: reversed."""
        axes = axes or tuple(reversed(range(self.ndim)))
        return record(
            "transpose", self.data.transpose(axes), (self, lambda g: g.transpose(np.argsort(axes)))
        )


def record(
    name: str, data: np.ndarray, *rules: tuple[Tensor, Callable[[np.ndarray], np.ndarray | Part]]
) -> Tensor:
    """The result of an operation: its numbers, and for every input the rule from the result's
    gradient to its own.
    """
    result = Tensor(data, name=name)
    if _recording[0] and any(parent.requires_grad for parent, _ in rules):
        result.requires_grad, result.rules = True, rules
    return result
