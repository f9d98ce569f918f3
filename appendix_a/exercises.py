"""Exercises of appendix A. Replace each `raise`, then:

    pytest tests/test_exercises.py --mine -k appendix_a

The first hint stands in the docstring, a second one behind `hint("name")`; answers are in
solutions.py.
"""

from collections.abc import Callable

from torch import Tensor, nn

from ch01_text.practice import hints

hint = hints(
    {
        "contiguous_strides": (
            "Walk from the last axis to the first and keep the product of the sizes passed so far."
        ),
        "overlapping_windows": (
            "x.as_strided(shape, strides): from window to window step * x.stride(0), within one "
            "x.stride(0)."
        ),
        "broadcast_shape": (
            "itertools.zip_longest(reversed(a), reversed(b), fillvalue=1) pairs the sizes from the"
            " right."
        ),
        "squared_distances": "a[:, None] - b[None] has shape (n, m, C).",
        "round_to_bfloat16": (
            "Add 0x7FFF plus the lowest bit that stays, then clear the lower 16 bits: "
            "bits + 0x7FFF + ((bits >> 16) & 1)."
        ),
        "mean_gradient": (
            "Multiply each batch's mean loss by its rows / all rows before backward(), and clear"
            " only at the beginning."
        ),
        "straight_through_round": (
            "x + something.detach(): what is it in the forward pass, and what is its derivative?"
        ),
        "second_derivative": (
            "torch.autograd.grad(y.sum(), x, create_graph=True) gives a gradient that has a graph"
            " itself."
        ),
        "decay_groups": (
            "parameter.ndim tells a matrix from a vector; network.parameters() names shared ones"
            " only once."
        ),
        "momentum_step": (
            "velocity.mul_(momentum).add_(gradient), then weight.sub_(...), under torch.no_grad()."
        ),
        "pad_and_collate": "torch.full((B, longest), pad) first, then one assignment a row.",
        "slim_state": "tensor.clone() has a storage of its own, just large enough.",
        "combine_gradients": "A mean times its rows is a sum; sums may be added.",
    }
)


def contiguous_strides(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The strides of a new tensor of this shape (no size is 0): how many numbers to step over in
    memory for one step along each axis. Hint: the last axis has stride 1.
    """
    raise NotImplementedError


def overlapping_windows(x: Tensor, size: int, step: int) -> Tensor:
    """A row (n,) -> all its windows (windows, size) that begin at 0, step, 2 step, ... and fit, as
    a view: nothing is copied. Hint: two axes may walk over the same memory.
    """
    raise NotImplementedError


def broadcast_shape(a: tuple[int, ...], b: tuple[int, ...]) -> tuple[int, ...]:
    """The shape of x + y where x has shape a and y has shape b; ValueError where they do not go
    together. Hint: compare from the right; a missing size counts as 1.
    """
    raise NotImplementedError


def squared_distances(a: Tensor, b: Tensor) -> Tensor:
    """Points (n, C) and (m, C) -> (n, m) squared distances of each to each, without a loop. Hint:
    give each an axis of size 1 where the other one has its points.
    """
    raise NotImplementedError


def round_to_bfloat16(x: Tensor) -> Tensor:
    """Round float32 numbers to what bfloat16 can hold (its upper 16 bits), to the nearest, ties to
    the even one, and return float32. Without .bfloat16(); infinite numbers and NaN do not occur.
    Hint: x.view(torch.int32) shows the bits.
    """
    raise NotImplementedError


def mean_gradient(
    network: nn.Module,
    loss_fn: Callable[[Tensor, Tensor], Tensor],
    batches: list[tuple[Tensor, Tensor]],
) -> list[Tensor]:
    """The gradients of the mean loss over all rows of several batches (features, labels) that
    together would not fit into memory, one for each parameter; `loss_fn` gives the mean over a
    batch. Batches may have different sizes. Hint: backward adds up, so let it.
    """
    raise NotImplementedError


def straight_through_round(x: Tensor) -> Tensor:
    """Round, but let the gradient pass as if nothing had been done (rounding itself has gradient 0
    nearly everywhere).
    Hint: what is detached has a value and no gradient.
    """
    raise NotImplementedError


def second_derivative(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """An elementwise function and points x (n,) -> its second derivative at each of them (n,).
    Hint: derive twice; the first time must leave a graph behind.
    """
    raise NotImplementedError


def decay_groups(network: nn.Module, weight_decay: float) -> list[dict]:
    """Two parameter groups for an optimizer: {"params": [...], "weight_decay": weight_decay} with
    everything of two axes or more, and one with weight_decay 0.0 for the rest (biases, norms);
    frozen parameters (requires_grad False) in neither, shared ones once. Hint: what does ndim say?
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
    """One step of SGD with momentum that changes `weight` (a leaf that requires grad) and
    `velocity` in place, as torch.optim.SGD does: velocity = momentum * velocity + gradient; weight
    -= lr * velocity. With nesterov the step is along gradient + momentum * velocity. Hint: autograd
    must not watch.
    """
    raise NotImplementedError


def pad_and_collate(batch: list[tuple[Tensor, int]], pad: int) -> tuple[Tensor, Tensor, Tensor]:
    """What a DataLoader's collate_fn does for rows of different length: B pairs of ids (n_i,),
    int64, and a class -> ids (B, longest) filled up on the right with `pad`, lengths (B,), classes
    (B,), all int64. Hint: make the filled matrix first.
    """
    raise NotImplementedError


def slim_state(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Named tensors, some of them views of much larger ones -> the same numbers such that
    torch.save writes no others. (It saves whole storages, to keep views together.) Hint: who owns
    the memory?
    """
    raise NotImplementedError


def combine_gradients(gradients: list[Tensor], rows: list[int]) -> Tensor:
    """Processes computed the gradient of the mean loss over their rows, of which some have more ->
    the gradient of the mean over all rows. Hint: the mean of the means is wrong.
    """
    raise NotImplementedError
