"""Layers without a time axis: linear maps, activations, dropout, normalisation, embeddings.

Random numbers come from the generator that a layer is given. Sources: He et al. 2015 (initial
spread), Srivastava et al. 2014 (dropout), Ioffe & Szegedy 2015 (batch normalisation), Ba et al.
2016 (layer normalisation).
"""

import numpy as np

from appendix_b.functions import gelu, layer_norm, lookup, relu, tanh
from appendix_b.nn import Module, Parameter
from appendix_b.tensor import Tensor


def uniform(rng: np.random.Generator, inputs: int, *shape: int) -> Parameter:
    """Initial weights between -1 / sqrt(inputs) and 1 / sqrt(inputs): outputs start about as
    large as inputs.
    """
    return Parameter(rng.uniform(-1, 1, shape).astype(np.float32) / np.float32(np.sqrt(inputs)))


def zeros(*shape: int) -> Parameter:
    return Parameter(np.zeros(shape, dtype=np.float32))


def ones(*shape: int) -> Parameter:
    return Parameter(np.ones(shape, dtype=np.float32))


class Linear(Module):
    """(..., inputs) -> (..., outputs): x @ weight + bias."""

    def __init__(self, inputs: int, outputs: int, rng: np.random.Generator, bias: bool = True):
        self.weight = uniform(rng, inputs, inputs, outputs)
        self.bias = uniform(rng, inputs, outputs) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        product = x @ self.weight
        return product if self.bias is None else product + self.bias


class ReLU(Module):
    """Elementwise max(x, 0)."""

    def forward(self, x: Tensor) -> Tensor:
        return relu(x)


class GELU(Module):
    """Elementwise, smooth near zero where ReLU has a corner."""

    def forward(self, x: Tensor) -> Tensor:
        return gelu(x)


class Tanh(Module):
    """Elementwise hyperbolic tangent."""

    def forward(self, x: Tensor) -> Tensor:
        return tanh(x)


class Flatten(Module):
    """(B, ...) -> (B, the rest in one axis)."""

    def forward(self, x: Tensor) -> Tensor:
        return x.reshape(len(x), -1)


class Dropout(Module):
    """In training, each number is zero with probability `rate`, the others grow by 1 / (1 - rate),
    so that the expected value stays; otherwise nothing happens.
    """

    def __init__(self, rate: float, rng: np.random.Generator):
        if not 0 <= rate < 1:
            raise ValueError(f"the dropout rate must be in [0, 1), not {rate}")
        self.rate, self.rng = rate, rng

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.rate == 0:
            return x
        kept = self.rng.random(x.shape, dtype=np.float32) >= self.rate
        return x * Tensor(kept * x.dtype.type(1 / (1 - self.rate)))


class BatchNorm(Module):
    """(B, C) or (B, C, H, W), the same shape out: zero mean and unit variance of each channel over
    the batch, then scale and shift. Outside training, running averages take the place of the
    batch's own.
    """

    def __init__(self, channels: int, momentum: float = 0.1, eps: float = 1e-5):
        self.scale, self.shift = ones(channels), zeros(channels)
        self.momentum, self.eps = momentum, eps
        self.running_mean = np.zeros(channels, dtype=np.float32)
        self.running_variance = np.ones(channels, dtype=np.float32)

    def forward(self, x: Tensor) -> Tensor:
        # the shape that puts a number per channel along axis 1
        column = (1, -1) + (1,) * (x.ndim - 2)
        axes = (0, *range(2, x.ndim))
        if self.training:
            mean = x.mean(axes, keepdims=True)
            centred = x - mean
            variance = (centred * centred).mean(axes, keepdims=True)
            self._remember(mean.data.ravel(), variance.data.ravel(), x.data.size // x.shape[1])
        else:
            centred = x - self.running_mean.reshape(column)
            variance = Tensor(self.running_variance.reshape(column))
        normal = centred * (variance + self.eps) ** -0.5
        return normal * self.scale.reshape(*column) + self.shift.reshape(*column)

    def _remember(self, mean: np.ndarray, variance: np.ndarray, n: int) -> None:
        if n < 2:
            raise ValueError(
                "batch normalisation needs at least 2 values a channel in training, not 1"
            )
        self.running_mean += self.momentum * (mean - self.running_mean)
        self.running_variance += self.momentum * (variance * (n / (n - 1)) - self.running_variance)


class LayerNorm(Module):
    """(..., C) -> (..., C): each position by itself, the same in training and after."""

    def __init__(self, width: int, eps: float = 1e-5):
        self.scale, self.shift, self.eps = ones(width), zeros(width), eps

    def forward(self, x: Tensor) -> Tensor:
        return layer_norm(x, self.scale, self.shift, self.eps)


class Embedding(Module):
    """Integer ids (...) -> their rows (..., width) of a table (rows, width)."""

    def __init__(self, rows: int, width: int, rng: np.random.Generator, spread: float = 1.0):
        self.weight = Parameter(rng.normal(0, spread, (rows, width)).astype(np.float32))

    def forward(self, ids: np.ndarray) -> Tensor:
        return lookup(self.weight, ids)
