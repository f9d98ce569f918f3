"""Exercises of appendix A. Replace each `raise`, then run

    pytest tests/test_exercises.py --mine -k appendix_a

A first hint is in each docstring, `hint("name")` prints a second one, and the answers are in
solutions.py.
"""

from collections.abc import Callable

from torch import Tensor, nn

from ch01_text.practice import hints

hint = hints(
    {
        "contiguous_strides": (
            "Go from the last axis to the first and keep the product of the sizes so far."
        ),
        "overlapping_windows": (
            "x.as_strided(shape, strides): step * x.stride(0) from window to window, x.stride(0) "
            "within a window."
        ),
        "broadcast_shape": (
            "itertools.zip_longest(reversed(a), reversed(b), fillvalue=1) pairs the sizes from the"
            " right."
        ),
        "squared_distances": "a[:, None] - b[None] has shape (n, m, C).",
        "round_to_bfloat16": (
            "Add 0x7FFF plus the lowest bit that is kept, then clear the lower 16 bits: "
            "bits + 0x7FFF + ((bits >> 16) & 1)."
        ),
        "mean_gradient": (
            "Multiply each batch's mean loss by its rows / all rows before backward(), and clear"
            " the gradients only at the start."
        ),
        "straight_through_round": (
            "x + something.detach(): what is its value in the forward pass, and its derivative?"
        ),
        "second_derivative": (
            "torch.autograd.grad(y.sum(), x, create_graph=True) returns a gradient that has a graph"
            " of its own."
        ),
        "decay_groups": (
            "parameter.ndim tells a matrix from a vector; network.parameters() yields a shared"
            " parameter once."
        ),
        "momentum_step": (
            "velocity.mul_(momentum).add_(gradient), then weight.sub_(...), under torch.no_grad()."
        ),
        "pad_and_collate": "torch.full((B, longest), pad) first, then one assignment per row.",
        "slim_state": "tensor.clone() has its own storage, exactly as large as needed.",
        "combine_gradients": "A mean times its number of rows is a sum, and sums may be added.",
    }
)


def contiguous_strides(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The strides of a new tensor of this shape (no size is 0): how far to move in memory for one
    step along each axis. Hint: the last axis has stride 1.
    """
    raise NotImplementedError


def overlapping_windows(x: Tensor, size: int, step: int) -> Tensor:
    """A vector (n,) -> its windows (number of windows, size) that start at 0, step, 2 step, ... and
    fit, as a view without a copy. Hint: two axes may step through the same memory.
    """
    raise NotImplementedError


def broadcast_shape(a: tuple[int, ...], b: tuple[int, ...]) -> tuple[int, ...]:
    """The shape of x + y for x of shape a and y of shape b; ValueError if they do not broadcast.
    Hint: compare from the right; a missing size counts as 1.
    """
    raise NotImplementedError


def squared_distances(a: Tensor, b: Tensor) -> Tensor:
    """Points (n, C) and (m, C) -> the squared distances (n, m) of all pairs, without a loop. Hint:
    give each an axis of size 1 where the other has its points.
    """
    raise NotImplementedError


def round_to_bfloat16(x: Tensor) -> Tensor:
    """Round float32 numbers to the nearest bfloat16 number (the upper 16 bits of a float32), with
    ties to even, and return float32; do not use .bfloat16(). Infinity and NaN do not occur. Hint:
    x.view(torch.int32) shows the bits.
    """
    raise NotImplementedError


def mean_gradient(
    network: nn.Module,
    loss_fn: Callable[[Tensor, Tensor], Tensor],
    batches: list[tuple[Tensor, Tensor]],
) -> list[Tensor]:
    """The gradient, for each parameter, of the mean loss over all rows of several batches
    (features, labels), which together would not fit into memory. `loss_fn` returns the mean over a
    batch, and batches may differ in size. Hint: backward accumulates gradients, so let it.
    """
    raise NotImplementedError


def straight_through_round(x: Tensor) -> Tensor:
    """Round, but let the gradient pass as if nothing had been done (the gradient of rounding is 0
    almost everywhere). Hint: a detached tensor has a value and no gradient.
    """
    raise NotImplementedError


def second_derivative(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """An elementwise function and points x (n,) -> its second derivative at each point (n,). Hint:
    differentiate twice; the first derivative must keep a graph.
    """
    raise NotImplementedError


def decay_groups(network: nn.Module, weight_decay: float) -> list[dict]:
    """Two parameter groups for an optimizer: {"params": [...], "weight_decay": weight_decay} with
    all parameters of two or more axes, and one with weight_decay 0.0 for the rest (biases, norms).
    Frozen parameters (requires_grad False) are in neither, shared ones appear once. Hint: ndim.
    """
    raise NotImplementedError


def momentum_step(
    weight: Tensor,
    gradient: Tensor,
    velocity: Tensor,
    lr: float,
    momentum: float,
    nesterov: bool = False,
) -> None:
    """One step of SGD with momentum, as in torch.optim.SGD, which changes `weight` (a leaf that
    requires grad) and `velocity` in place: velocity = momentum * velocity + gradient, then weight
    -= lr * velocity. With nesterov, the step follows gradient + momentum * velocity instead. Hint:
    autograd must not record the update.
    """
    raise NotImplementedError


def pad_and_collate(batch: list[tuple[Tensor, int]], pad: int) -> tuple[Tensor, Tensor, Tensor]:
    """A collate_fn for rows of different length: B pairs of ids (n_i,), int64, and a class -> ids
    (B, longest) padded on the right with `pad`, lengths (B,) and classes (B,), all int64. Hint:
    create the padded matrix first.
    """
    raise NotImplementedError


def slim_state(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Named tensors, some of them views of much larger ones -> tensors with the same numbers for
    which torch.save writes nothing else. (It saves whole storages, so that views stay views.) Hint:
    which tensor owns the memory?
    """
    raise NotImplementedError


def combine_gradients(gradients: list[Tensor], rows: list[int]) -> Tensor:
    """Each process computed the gradient of the mean loss over its rows, and some have more rows
    than others -> the gradient of the mean over all rows. Hint: the mean of the means is wrong.
    """
    raise NotImplementedError
