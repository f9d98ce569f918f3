"""Answers to the exercises of appendix A: one way of many, each with the reason why it works."""

from collections.abc import Callable
from itertools import zip_longest

import torch
from torch import Tensor, nn


def contiguous_strides(shape: tuple[int, ...]) -> tuple[int, ...]:
    """One step along an axis passes everything that the axes to its right hold: the product of
    their sizes.
    """
    strides = []
    passed = 1
    for size in reversed(shape):
        strides.append(passed)
        passed *= size
    return tuple(reversed(strides))


def overlapping_windows(x: Tensor, size: int, step: int) -> Tensor:
    """Strides say nothing about who else looks at a number, so windows may share them. Writing into
    such a view would change several windows at once.
    """
    windows = (len(x) - size) // step + 1
    return x.as_strided((windows, size), (step * x.stride(0), x.stride(0)), x.storage_offset())


def broadcast_shape(a: tuple[int, ...], b: tuple[int, ...]) -> tuple[int, ...]:
    """Sizes meet from the right; a size of 1 (or none) is stretched by giving it stride 0, any
    other must be equal.
    """
    sizes = []
    for left, right in zip_longest(reversed(a), reversed(b), fillvalue=1):
        if left != right and 1 not in (left, right):
            raise ValueError(
                f"shapes {a} and {b} do not go together: {left} is not {right}, and neither is 1"
            )
        sizes.append(right if left == 1 else left)
    return tuple(reversed(sizes))


def squared_distances(a: Tensor, b: Tensor) -> Tensor:
    """(n, 1, C) - (1, m, C) is every difference. The (n, m, C) numbers do exist for a moment: for
    large n and m expand the square instead and let a matrix product do it, which is what
    torch.cdist does.
    """
    return (a[:, None] - b[None]).square().sum(dim=2)


def round_to_bfloat16(x: Tensor) -> Tensor:
    """Half a unit of the last bit that stays, minus one, plus that bit: more than half carries
    over, less does not, and exactly half does where the bit is odd. A carry into the exponent is
    right, too: the next number is a power of 2.
    """
    bits = x.view(torch.int32)
    return (bits + 0x7FFF + ((bits >> 16) & 1) & -0x10000).view(torch.float32)


def mean_gradient(
    network: nn.Module,
    loss_fn: Callable[[Tensor, Tensor], Tensor],
    batches: list[tuple[Tensor, Tensor]],
) -> list[Tensor]:
    """Each batch's graph is freed by its own backward, so memory holds one at a time; weighting by
    rows makes the sum of means the mean of all.
    """
    rows = sum(len(labels) for _, labels in batches)
    network.zero_grad()
    for features, labels in batches:
        (loss_fn(network(features), labels) * len(labels) / rows).backward()
    return [parameter.grad for parameter in network.parameters()]


def straight_through_round(x: Tensor) -> Tensor:
    """Forward, x + (round(x) - x) is round(x); backward, the bracket is a constant and only x is
    left. Training with quantized weights rests on this.
    """
    return x + (x.round() - x).detach()


def second_derivative(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """The sum keeps the points apart, because each affects only its own term. `create_graph` makes
    the gradient a result like any other, which can be derived again.
    """
    x = x.detach().requires_grad_()
    (slope,) = torch.autograd.grad(function(x).sum(), x, create_graph=True)
    (curvature,) = torch.autograd.grad(slope.sum(), x)
    return curvature


def decay_groups(network: nn.Module, weight_decay: float) -> list[dict]:
    """Decay pulls towards zero: that keeps matrices small, but zero is no natural place for the
    gain of a norm or an offset. Chapter 4 groups its parameters the same way.
    """
    learned = [parameter for parameter in network.parameters() if parameter.requires_grad]
    return [
        {"params": [one for one in learned if one.ndim >= 2], "weight_decay": weight_decay},
        {"params": [one for one in learned if one.ndim < 2], "weight_decay": 0.0},
    ]


@torch.no_grad()
def momentum_step(
    weight: Tensor,
    gradient: Tensor,
    velocity: Tensor,
    lr: float,
    momentum: float,
    nesterov: bool = False,
) -> None:
    """A leaf may be changed in place only where nothing is recorded: the update is no part of the
    function that is derived. The trailing underscore says "in place".
    """
    velocity.mul_(momentum).add_(gradient)
    weight.sub_(lr * (gradient + momentum * velocity if nesterov else velocity))


def pad_and_collate(batch: list[tuple[Tensor, int]], pad: int) -> tuple[Tensor, Tensor, Tensor]:
    """The default collate_fn stacks, and stacking needs equal shapes. The lengths go along, because
    nobody can tell filling from a real id afterwards.
    """
    lengths = torch.tensor([len(ids) for ids, _ in batch])
    filled = torch.full((len(batch), int(lengths.max())), pad)
    for row, (ids, _) in zip(filled, batch, strict=True):
        row[: len(ids)] = ids
    return filled, lengths, torch.tensor([label for _, label in batch])


def slim_state(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """A view has a shape and strides of its own but the storage of the tensor that it was cut from,
    and the storage is what gets written.
    """
    return {
        name: tensor.clone(memory_format=torch.contiguous_format) for name, tensor in state.items()
    }


def combine_gradients(gradients: list[Tensor], rows: list[int]) -> Tensor:
    """Means are weighted by what they are means of. DDP averages with equal weights, so whoever has
    unequal parts must weight the losses before, as `shared_cross_entropy` does.
    """
    return sum(n * gradient for gradient, n in zip(gradients, rows, strict=True)) / sum(rows)
