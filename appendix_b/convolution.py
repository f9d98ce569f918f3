"""Convolution and pooling over images (B, C, H, W).

A convolution is a matrix product: every window of the image becomes a row ("im2col"), every filter
a column. The view of all windows costs nothing (`sliding_window_view`); only the rows are copied
once. After LeCun et al. 1989.
"""

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from appendix_b.layers import uniform
from appendix_b.nn import Module
from appendix_b.tensor import Tensor, record


def windows(x: Tensor, size: int, stride: int = 1, padding: int = 0) -> Tensor:
    """(B, C, H, W) -> (B, H', W', C, size, size): every window of the zero-padded image.

    The gradient of a pixel is the sum over all windows that it is in. ValueError where no window
    fits.
    """
    H, W = x.shape[2:]
    if min(H, W) + 2 * padding < size:
        raise ValueError(
            f"a window of {size} does not fit into {H} x {W} with padding {padding}; take a"
            " smaller one"
        )
    padded = np.pad(x.data, ((0, 0), (0, 0), (padding, padding), (padding, padding)))
    # (B, C, H', W', k, k)
    view = sliding_window_view(padded, (size, size), axis=(2, 3))[:, :, ::stride, ::stride]
    rows, columns = view.shape[2:4]

    def rule(g: np.ndarray) -> np.ndarray:
        total = np.zeros_like(padded)
        # one pass for each place in the window: no two windows meet in the same pass
        for i in range(size):
            for j in range(size):
                total[:, :, i : i + stride * rows : stride, j : j + stride * columns : stride] += g[
                    ..., i, j
                ].transpose(0, 3, 1, 2)
        return total[:, :, padding : padding + H, padding : padding + W]

    return record("windows", view.transpose(0, 2, 3, 1, 4, 5), (x, rule))


class Conv2d(Module):
    """(B, inputs, H, W) -> (B, outputs, H', W') with H' = (H + 2 padding - size) // stride + 1."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        size: int,
        rng: np.random.Generator,
        stride: int = 1,
        padding: int = 0,
    ):
        self.size, self.stride, self.padding = size, stride, padding
        fan_in = inputs * size * size
        self.weight = uniform(rng, fan_in, outputs, inputs, size, size)
        self.bias = uniform(rng, fan_in, outputs)

    def forward(self, x: Tensor) -> Tensor:
        patches = windows(x, self.size, self.stride, self.padding)  # (B, H', W', C, k, k)
        filters = self.weight.reshape(len(self.weight), -1).transpose()  # (C k k, O)
        out = patches.reshape(*patches.shape[:3], -1) @ filters + self.bias  # (B, H', W', O)
        return out.transpose(0, 3, 1, 2)  # (B, O, H', W')


class MaxPool(Module):
    """(B, C, H, W) -> (B, C, H // size, W // size): the largest number of each of the windows,
    which lie side by side; rows and columns that fill no window are left out.
    """

    def __init__(self, size: int):
        self.size = size

    def forward(self, x: Tensor) -> Tensor:
        B, C, H, W = x.shape
        k = self.size
        if min(H, W) < k:
            raise ValueError(f"a window of {k} does not fit into {H} x {W}; take a smaller one")
        tiles = x[:, :, : H // k * k, : W // k * k].reshape(B, C, H // k, k, W // k, k)
        return tiles.max(axis=(3, 5))
