"""Answers to the exercises of appendix A: one of several ways each, and why it works."""

from collections.abc import Callable
from itertools import zip_longest

import torch
from torch import Tensor, nn


def contiguous_strides(shape: tuple[int, ...]) -> tuple[int, ...]:
    """One step along an axis skips all elements of the axes to its right."""
    strides = []
    passed = 1
    for size in reversed(shape):
        strides.append(passed)
        passed *= size
    return tuple(reversed(strides))


def overlapping_windows(x: Tensor, size: int, step: int) -> Tensor:
    """Nothing forbids two indices to share an element, so windows may overlap. Writing into such a
    view would change several windows at once.
    """
    windows = (len(x) - size) // step + 1
    return x.as_strided((windows, size), (step * x.stride(0), x.stride(0)), x.storage_offset())


def broadcast_shape(a: tuple[int, ...], b: tuple[int, ...]) -> tuple[int, ...]:
    """Sizes are compared from the right. An axis of size 1, or a missing one, is stretched with
    stride 0; all other sizes must be equal.
    """
    sizes = []
    for left, right in zip_longest(reversed(a), reversed(b), fillvalue=1):
        if left != right and 1 not in (left, right):
            raise ValueError(
                f"shapes {a} and {b} do not broadcast: {left} is not {right}, and neither is 1"
            )
        sizes.append(right if left == 1 else left)
    return tuple(reversed(sizes))


def squared_distances(a: Tensor, b: Tensor) -> Tensor:
    """(n, 1, C) - (1, m, C) gives all differences. These (n, m, C) numbers exist in memory for a
    moment; for large n and m, expand the square and use a matrix product, as torch.cdist does.
    """
    return (a[:, None] - b[None]).square().sum(dim=2)


def round_to_bfloat16(x: Tensor) -> Tensor:
    """Adding half a unit of the last kept bit, minus one, plus that bit: more than half carries
    over, less does not, and exactly half does if the bit is 1, which makes it even. A carry into
    the exponent is correct too: the next number is a power of 2.
    """
    bits = x.view(torch.int32)
    return (bits + 0x7FFF + ((bits >> 16) & 1) & -0x10000).view(torch.float32)


def mean_gradient(
    network: nn.Module,
    loss_fn: Callable[[Tensor, Tensor], Tensor],
    batches: list[tuple[Tensor, Tensor]],
) -> list[Tensor]:
    """Each backward frees its graph, so memory holds one batch at a time. Weighted by their rows,
    the means of the batches add up to the mean over all rows.
    """
    rows = sum(len(labels) for _, labels in batches)
    network.zero_grad()
    for features, labels in batches:
        (loss_fn(network(features), labels) * len(labels) / rows).backward()
    return [one.grad for one in network.parameters() if one.grad is not None]


def straight_through_round(x: Tensor) -> Tensor:
    """In the forward pass, x + (round(x) - x) is round(x); in the backward pass, the bracket is a
    constant and only x remains. Quantization-aware training relies on this.
    """
    return x + (x.round() - x).detach()


def second_derivative(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """The gradient of the sum is the derivative at each point, because each point affects only its
    own term. `create_graph` records the first derivative, so that it can be differentiated again.
    """
    x = x.detach().requires_grad_()
    (slope,) = torch.autograd.grad(function(x).sum(), x, create_graph=True)
    (curvature,) = torch.autograd.grad(slope.sum(), x)
    return curvature


def decay_groups(network: nn.Module, weight_decay: float) -> list[dict]:
    """Weight decay pulls towards zero. That keeps matrices small, but zero is no sensible value for
    the scale of a norm, and biases cannot overfit much. Chapter 4 groups its parameters alike.
    """
    trainable = [parameter for parameter in network.parameters() if parameter.requires_grad]
    return [
        {"params": [one for one in trainable if one.ndim >= 2], "weight_decay": weight_decay},
        {"params": [one for one in trainable if one.ndim < 2], "weight_decay": 0.0},
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
    """A leaf may be changed in place only while nothing is recorded: the update is not part of the
    function that is differentiated. A trailing underscore means "in place".
    """
    velocity.mul_(momentum).add_(gradient)
    weight.sub_(lr * (gradient + momentum * velocity if nesterov else velocity))


def pad_and_collate(batch: list[tuple[Tensor, int]], pad: int) -> tuple[Tensor, Tensor, Tensor]:
    """The default collate_fn stacks, and stacking needs equal shapes. The lengths are returned as
    well, because padding cannot be told from real ids afterwards.
    """
    lengths = torch.tensor([len(ids) for ids, _ in batch])
    padded = torch.full((len(batch), int(lengths.max())), pad)
    for row, (ids, _) in zip(padded, batch, strict=True):
        row[: len(ids)] = ids
    return padded, lengths, torch.tensor([label for _, label in batch])


def slim_state(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """A view has its own shape and strides, but the storage of the tensor that it was taken from,
    and the storage is what torch.save writes.
    """
    return {
        name: tensor.clone(memory_format=torch.contiguous_format) for name, tensor in state.items()
    }


def combine_gradients(gradients: list[Tensor], rows: list[int]) -> Tensor:
    """Each mean is weighted by its number of rows. DDP averages with equal weights, so processes
    with unequal parts must weight their losses first, as `global_cross_entropy` does.
    """
    weighted = (n * gradient for gradient, n in zip(gradients, rows, strict=True))
    return sum(weighted, start=torch.zeros_like(gradients[0])) / sum(rows)
