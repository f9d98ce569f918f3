"""Convolution and pooling for images (B, C, H, W).

A convolution is a matrix product: each window of the image becomes a row ("im2col"), each filter a
column. The view of all windows costs nothing (`sliding_window_view`); only the rows are copied,
once. After LeCun et al. 1989.
"""

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from appendix_b.layers import uniform
from appendix_b.nn import Module
from appendix_b.tensor import Tensor, apply_op


def unfold(x: Tensor, kernel_size: int, stride: int = 1, padding: int = 0) -> Tensor:
    """(B, C, H, W) -> (B, H', W', C, k, k): all windows of the zero-padded image. ValueError if
    no window fits.
    """
    H, W = x.shape[2:]
    if min(H, W) + 2 * padding < kernel_size:
        raise ValueError(
            f"a window of {kernel_size} does not fit into {H} x {W} with padding {padding}; take a"
            " smaller one"
        )
    padded = np.pad(x.data, ((0, 0), (0, 0), (padding, padding), (padding, padding)))
    view = sliding_window_view(padded, (kernel_size, kernel_size), axis=(2, 3))
    view = view[:, :, ::stride, ::stride]  # (B, C, H', W', k, k)
    rows, columns = view.shape[2:4]

    def vjp(g: np.ndarray) -> np.ndarray:
        # A pixel lies in several windows, and its gradient is the sum over them. For one fixed
        # offset (i, j) inside the window no two windows share a pixel, so a slice can be added.
        total = np.zeros_like(padded)
        for i in range(kernel_size):
            for j in range(kernel_size):
                target = total[
                    :, :, i : i + stride * rows : stride, j : j + stride * columns : stride
                ]
                target += g[..., i, j].transpose(0, 3, 1, 2)
        return total[:, :, padding : padding + H, padding : padding + W]

    return apply_op("unfold", view.transpose(0, 2, 3, 1, 4, 5), (x, vjp))


class Conv2d(Module):
    """(B, in_channels, H, W) -> (B, out_channels, H', W') with
    H' = (H + 2 padding - kernel_size) // stride + 1.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        rng: np.random.Generator,
        stride: int = 1,
        padding: int = 0,
    ):
        self.kernel_size, self.stride, self.padding = kernel_size, stride, padding
        fan_in = in_channels * kernel_size * kernel_size
        self.weight = uniform(rng, fan_in, out_channels, in_channels, kernel_size, kernel_size)
        self.bias = uniform(rng, fan_in, out_channels)

    def forward(self, x: Tensor) -> Tensor:
        patches = unfold(x, self.kernel_size, self.stride, self.padding)  # (B, H', W', C, k, k)
        filters = self.weight.reshape(len(self.weight), -1).transpose()  # (C k k, O)
        out = patches.reshape(*patches.shape[:3], -1) @ filters + self.bias  # (B, H', W', O)
        return out.transpose(0, 3, 1, 2)  # (B, O, H', W')


class MaxPool2d(Module):
    """(B, C, H, W) -> (B, C, H // k, W // k): the maximum of each k x k tile. Rows and columns that
    do not fill a tile are dropped.
    """

    def __init__(self, kernel_size: int):
        self.kernel_size = kernel_size

    def forward(self, x: Tensor) -> Tensor:
        B, C, H, W = x.shape
        k = self.kernel_size
        if min(H, W) < k:
            raise ValueError(f"a window of {k} does not fit into {H} x {W}; take a smaller one")
        # Tiles do not overlap, so splitting each axis in two is enough; no `unfold` is needed.
        tiles = x[:, :, : H // k * k, : W // k * k].reshape(B, C, H // k, k, W // k, k)
        return tiles.max(axis=(3, 5))
