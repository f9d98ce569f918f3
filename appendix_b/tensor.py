"""A NumPy array that remembers how it was computed: reverse-mode automatic differentiation.

Every operation stores one function per input, its vector-Jacobian product (VJP): it turns the
gradient of the output into the gradient of that input. `backward` walks the graph from the loss to
the leaves, calls these functions and sums the gradients that meet. Left out: second derivatives,
in-place operations and devices. Theory: Griewank & Walther 2008, chapter 3. The smallest engine of
this kind, for single numbers, is micrograd (2020).
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import reduce
from typing import Any, NamedTuple

import numpy as np

Axis = int | tuple[int, ...] | None

# Whether operations record the graph. A list, because `no_grad` has to change the value that
# `apply_op` reads.
_grad_enabled = [True]


@contextmanager
def no_grad() -> Iterator[None]:
    """Record no graph inside this block: for evaluation and sampling."""
    before, _grad_enabled[0] = _grad_enabled[0], False
    try:
        yield
    finally:
        _grad_enabled[0] = before


class SlicedGrad(NamedTuple):
    """A gradient that is zero outside `array[place]`.

    An RNN slices its input once per time step. If every slice returned a full array of zeros with
    a few entries set, the backward pass would be quadratic in the number of steps.
    """

    place: Any  # what NumPy takes as an index
    grad: np.ndarray


VJP = Callable[[np.ndarray], np.ndarray | SlicedGrad]


def unbroadcast(grad: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Undo broadcasting: sum a gradient over the axes that were added or stretched.

    A number that broadcasting repeated contributes to the loss once per copy, so its gradient is
    the sum over the copies.

    >>> unbroadcast(np.ones((2, 3)), (3,)), unbroadcast(np.ones((2, 3)), (2, 1)).tolist()
    (array([2., 2., 2.]), [[3.0], [3.0]])
    """
    if grad.shape == shape:
        return grad
    # Axes that broadcasting put in front: (2, 3) came from (3,).
    grad = grad.sum(axis=tuple(range(grad.ndim - len(shape))))
    # Axes of size 1 that broadcasting stretched: (2, 3) came from (2, 1).
    stretched = tuple(
        axis for axis, size in enumerate(shape) if size == 1 and grad.shape[axis] != 1
    )
    return grad.sum(axis=stretched, keepdims=True)


def accumulate(grads: list[np.ndarray | SlicedGrad], like: np.ndarray) -> np.ndarray:
    """The sum of all gradients of one tensor, with the shape of `like`.

    The inputs are never modified: a VJP may hand the same array to several tensors.
    """
    full = [grad for grad in grads if not isinstance(grad, SlicedGrad)]
    if len(full) == len(grads):
        return reduce(np.add, full)
    total = reduce(np.add, full, np.zeros_like(like))
    for index, grad in (one for one in grads if isinstance(one, SlicedGrad)):
        if _is_fancy(index):
            # `total[index] += grad` would count an entry that was picked twice only once.
            np.add.at(total, index, grad)
        else:
            total[index] += grad
    return total


def _is_fancy(index) -> bool:
    """Whether NumPy copies for this index (it contains an array or a list) instead of slicing."""
    parts = index if isinstance(index, tuple) else (index,)
    return any(isinstance(part, (np.ndarray, list)) for part in parts)


class Tensor:
    """An array with a gradient. NumPy float arrays are kept as they are, without a copy; all other
    data becomes float32.

    After `loss.backward()`, each tensor that was created with `requires_grad=True` holds the
    derivative of the loss with respect to its numbers in `grad`. Further backward passes add to
    it; set `grad` to None to start again.

    >>> x = Tensor([3.0], requires_grad=True)
    >>> (x * x + x).sum().backward()
    >>> x.grad
    array([7.], dtype=float32)
    """

    # Makes `array + tensor` call Tensor.__radd__ instead of NumPy's elementwise loop.
    __array_ufunc__ = None

    def __init__(self, data, requires_grad: bool = False, name: str = ""):
        is_float = isinstance(data, (np.ndarray, np.generic)) and data.dtype.kind == "f"
        self.data = np.asarray(data) if is_float else np.asarray(data, dtype=np.float32)
        # The gradient is an array, not a tensor: it has no graph of its own.
        self.grad: np.ndarray | None = None
        self.requires_grad = requires_grad
        self.name = name  # shown in drawings; the result of an operation is named after it
        # The edges of the graph: each input of the operation with its VJP. Empty for a leaf.
        self.vjps: tuple[tuple[Tensor, VJP], ...] = ()

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
        """The value of a tensor with a single element, as a Python float."""
        return self.data.item()

    # --- the backward pass ---

    def topological_order(self) -> list["Tensor"]:
        """All tensors that this one was computed from, inputs before results, itself last."""
        # Depth-first search with an explicit stack: the graph of an RNN over a long text is deeper
        # than Python's recursion limit.
        order, seen, stack = [], {id(self)}, [(self, iter(self.vjps))]
        while stack:
            node, inputs = stack[-1]
            for parent, _ in inputs:
                if id(parent) not in seen:
                    seen.add(id(parent))
                    stack.append((parent, iter(parent.vjps)))
                    break
            else:  # every input is in `order` already
                order.append(node)
                stack.pop()
        return order

    def backward(self, grad: np.ndarray | None = None, retain_grads: bool = False) -> None:
        """Add the gradient of the loss to the `grad` of every leaf.

        `grad` is the gradient of the loss with respect to this tensor; it may be omitted if this
        tensor is the loss, a single number (ValueError otherwise). `retain_grads` also stores the
        gradients of intermediate results.
        """
        if grad is None and self.data.size != 1:
            raise ValueError(
                f"backward starts from one number, not from shape {self.shape}; sum it, or pass"
                " grad"
            )
        start = np.ones_like(self.data) if grad is None else np.asarray(grad, dtype=self.dtype)
        grads: dict[int, list[np.ndarray | SlicedGrad]] = {id(self): [start]}
        # In reverse topological order, all gradients of a tensor have arrived before it is its
        # turn: everything that was computed from it comes earlier in the loop.
        for node in reversed(self.topological_order()):
            if id(node) not in grads:
                continue  # a constant, or computed from constants only
            grad = accumulate(grads.pop(id(node)), node.data)
            if not node.vjps or retain_grads:
                node.grad = grad if node.grad is None else node.grad + grad
            for parent, vjp in node.vjps:
                if parent.requires_grad:
                    new = vjp(grad)
                    # The VJPs below ignore broadcasting. It is undone here, once for all of them.
                    new = new if isinstance(new, SlicedGrad) else unbroadcast(new, parent.shape)
                    grads.setdefault(id(parent), []).append(new)

    # --- arithmetic ---
    # g is always the gradient of the loss with respect to the result of the operation.

    def as_tensor(self, other) -> "Tensor":
        """`other` as a tensor; plain numbers and lists take the dtype of this tensor."""
        return other if isinstance(other, Tensor) else Tensor(np.asarray(other, dtype=self.dtype))

    def __add__(self, other) -> "Tensor":
        other = self.as_tensor(other)
        # d(a + b)/da = d(a + b)/db = 1: both inputs receive g unchanged.
        return apply_op("+", self.data + other.data, (self, lambda g: g), (other, lambda g: g))

    def __mul__(self, other) -> "Tensor":
        other = self.as_tensor(other)
        # d(a b)/da = b and d(a b)/db = a
        return apply_op(
            "×",
            self.data * other.data,
            (self, lambda g: g * other.data),
            (other, lambda g: g * self.data),
        )

    def __truediv__(self, other) -> "Tensor":
        other = self.as_tensor(other)
        quotient = self.data / other.data
        # d(a / b)/da = 1 / b and d(a / b)/db = -a / b² = -(a / b) / b
        return apply_op(
            "÷",
            quotient,
            (self, lambda g: g / other.data),
            (other, lambda g: -g * quotient / other.data),
        )

    def __pow__(self, exponent: float) -> "Tensor":
        power = self.data**exponent
        # d(a^n)/da = n a^(n - 1), for a constant exponent only
        return apply_op(
            f"^{exponent:g}", power, (self, lambda g: g * exponent * self.data ** (exponent - 1))
        )

    def __matmul__(self, other: "Tensor") -> "Tensor":
        """(..., n, k) @ (..., k, m) -> (..., n, m); ValueError if either has fewer than 2 axes."""
        if min(self.ndim, other.ndim) < 2:
            raise ValueError(
                f"@ multiplies matrices, not shapes {self.shape} and {other.shape}; add an axis"
            )
        # Y = A B has dL/dA = G Bᵀ and dL/dB = Aᵀ G, where G = dL/dY. All axes before the last two
        # are a batch, and transposing means swapping the last two.
        left, right = self.data, other.data
        if right.ndim > 2:
            return apply_op(
                "@",
                left @ right,
                (self, lambda g: g @ right.swapaxes(-1, -2)),
                (other, lambda g: left.swapaxes(-1, -2) @ g),
            )
        # A batch times one weight matrix: merge the batch axes into rows. NumPy hands the single
        # large product to BLAS, and the gradient of the weights needs no sum over the batch.
        rows = left.reshape(-1, left.shape[-1])
        product = (rows @ right).reshape(*left.shape[:-1], right.shape[1])
        return apply_op(
            "@",
            product,
            (self, lambda g: (g.reshape(len(rows), -1) @ right.T).reshape(left.shape)),
            (other, lambda g: rows.T @ g.reshape(len(rows), -1)),
        )

    def __getitem__(self, index) -> "Tensor":
        # Entries that were not selected do not influence the result: their gradient is zero.
        return apply_op("[ ]", self.data[index], (self, lambda g: SlicedGrad(index, g)))

    # Negation and subtraction are composed of the operations above and need no VJPs of their own.

    def __neg__(self) -> "Tensor":
        return self * -1.0

    def __sub__(self, other) -> "Tensor":
        return self + -self.as_tensor(other)

    def __rsub__(self, other) -> "Tensor":
        return self.as_tensor(other) + -self

    def __rtruediv__(self, other) -> "Tensor":
        return self.as_tensor(other) / self

    # For `2 + x` and `2 * x`, where the left operand is not a tensor.
    __radd__ = __add__
    __rmul__ = __mul__

    # --- reductions and shapes ---

    def sum(self, axis: Axis = None, keepdims: bool = False) -> "Tensor":
        kept = np.sum(self.data, axis=axis, keepdims=True)
        return apply_op(
            "sum",
            kept if keepdims else np.sum(self.data, axis=axis),
            # Every summand has derivative 1: copy g to all of them.
            (self, lambda g: np.broadcast_to(g.reshape(kept.shape), self.shape)),
        )

    def mean(self, axis: Axis = None, keepdims: bool = False) -> "Tensor":
        # 1 / n is the ratio of the number of results to the number of inputs.
        total = self.sum(axis, keepdims)
        return total * (total.data.size / self.data.size)

    def max(self, axis: Axis = None, keepdims: bool = False) -> "Tensor":
        """The maximum; elements that tie for it share its gradient equally."""
        kept = np.max(self.data, axis=axis, keepdims=True)
        # The derivative is 1 at the maximum and 0 elsewhere, or 1 / k at each of k equal maxima.
        largest = self.data == kept
        share = largest / largest.sum(axis=axis, keepdims=True, dtype=self.dtype)
        return apply_op(
            "max",
            kept if keepdims else np.max(self.data, axis=axis),
            (self, lambda g: g.reshape(kept.shape) * share),
        )

    # Moving elements around does not change them, so their gradients are moved back.

    def reshape(self, *shape: int) -> "Tensor":
        return apply_op(
            "reshape", self.data.reshape(shape), (self, lambda g: g.reshape(self.shape))
        )

    def transpose(self, *axes: int) -> "Tensor":
        """The axes in a new order, all of them named; without arguments, in reverse order."""
        axes = axes or tuple(reversed(range(self.ndim)))
        # The argsort of a permutation is its inverse.
        return apply_op(
            "transpose", self.data.transpose(axes), (self, lambda g: g.transpose(np.argsort(axes)))
        )


def apply_op(name: str, data: np.ndarray, *vjps: tuple[Tensor, VJP]) -> Tensor:
    """The result `data` of an operation as a tensor that is connected to the graph.

    `vjps` pairs each input with its vector-Jacobian product.
    """
    result = Tensor(data, name=name)
    # A result of constants is a constant: without VJPs, `backward` never visits what lies behind.
    if _grad_enabled[0] and any(parent.requires_grad for parent, _ in vjps):
        result.requires_grad, result.vjps = True, vjps
    return result
