"""Where a tensor's numbers lie: one row of memory, and for each axis how far to step in it."""

import torch
from torch import Tensor


def places(x: Tensor) -> Tensor:
    """For every number of a tensor its place in the storage, int64, of x's shape: offset + sum of
    index * stride.

    >>> places(torch.zeros(2, 3).T).tolist()
    [[0, 3], [1, 4], [2, 5]]
    """
    result = torch.full(x.shape, x.storage_offset())
    for axis, (size, stride) in enumerate(zip(x.shape, x.stride(), strict=True)):
        steps = stride * torch.arange(size)
        result += steps.view(-1, *[1] * (x.ndim - axis - 1))
    return result


def stretched(x: Tensor, shape: torch.Size) -> Tensor:
    """Broadcast by hand: a view of `shape` in which every added or stretched axis has stride 0, so
    nothing is copied.

    ValueError where a size is neither 1 nor what is wanted.

    >>> stretched(torch.tensor([[1], [2]]), torch.Size((2, 3))).tolist()
    [[1, 1, 1], [2, 2, 2]]
    """
    added = len(shape) - x.ndim
    if added < 0 or any(
        have not in (1, want) for have, want in zip(x.shape, shape[added:], strict=True)
    ):
        raise ValueError(
            f"shape {tuple(x.shape)} does not broadcast to {tuple(shape)}; from the right, every"
            " size must be equal or 1"
        )
    strides = [0] * added + [
        stride if have == want else 0
        for have, want, stride in zip(x.shape, shape[added:], x.stride(), strict=True)
    ]
    return x.as_strided(shape, strides, x.storage_offset())
