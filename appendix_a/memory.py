"""Where the elements of a tensor lie in memory: a flat storage, and per axis the step between
neighbours.
"""

import torch
from torch import Tensor


def storage_indices(x: Tensor) -> Tensor:
    """The index of each element in the storage, int64, in the shape of x: offset + the sum of
    index * stride over the axes.

    >>> storage_indices(torch.zeros(2, 3).T).tolist()
    [[0, 3], [1, 4], [2, 5]]
    """
    indices = torch.full(x.shape, int(x.storage_offset()))
    for axis, (size, stride) in enumerate(zip(x.shape, x.stride(), strict=True)):
        steps = stride * torch.arange(size)
        indices += steps.view(-1, *[1] * (x.ndim - axis - 1))  # broadcast along the other axes
    return indices


def broadcast_view(x: Tensor, shape: torch.Size) -> Tensor:
    """Broadcasting by hand: a view of x with `shape`, without a copy. ValueError if a size of x is
    neither 1 nor the requested one.

    >>> broadcast_view(torch.tensor([[1], [2]]), torch.Size((2, 3))).tolist()
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
    # A stride of 0 stays on the same number: this is how an axis is stretched or added.
    strides = [0] * added + [
        stride if have == want else 0
        for have, want, stride in zip(x.shape, shape[added:], x.stride(), strict=True)
    ]
    return x.as_strided(shape, strides, x.storage_offset())
