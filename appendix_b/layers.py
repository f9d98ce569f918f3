"""Layers without a time axis: linear maps, activations, dropout, normalisation, embeddings.

All randomness comes from the generator that a layer is given. Sources: He et al. 2015 (scale of
the initial weights), Srivastava et al. 2014 (dropout), Ioffe & Szegedy 2015 (batch normalisation),
Ba et al. 2016 (layer normalisation).
"""

import numpy as np

from appendix_b.functions import embedding, gelu, layer_norm, relu, tanh
from appendix_b.nn import Module, Parameter
from appendix_b.tensor import Tensor


def uniform(rng: np.random.Generator, fan_in: int, *shape: int) -> Parameter:
    """Initial weights, uniform between -1 / sqrt(fan_in) and 1 / sqrt(fan_in).

    An output is a sum of `fan_in` products. The factor keeps its variance independent of `fan_in`;
    with weights of fixed size, wide layers would produce large outputs. This is PyTorch's default
    for linear and convolutional layers.
    """
    return Parameter(rng.uniform(-1, 1, shape).astype(np.float32) / np.float32(np.sqrt(fan_in)))


def zeros(*shape: int) -> Parameter:
    return Parameter(np.zeros(shape, dtype=np.float32))


def ones(*shape: int) -> Parameter:
    return Parameter(np.ones(shape, dtype=np.float32))


class Linear(Module):
    """(..., in_features) -> (..., out_features): x @ weight + bias."""

    def __init__(
        self, in_features: int, out_features: int, rng: np.random.Generator, bias: bool = True
    ):
        # Weights are random: with equal weights, all outputs would get equal gradients and stay
        # equal forever. PyTorch stores the transpose, (out, in), and computes x @ weight.T.
        self.weight = uniform(rng, in_features, in_features, out_features)
        self.bias = uniform(rng, in_features, out_features) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        product = x @ self.weight
        return product if self.bias is None else product + self.bias


class ReLU(Module):
    """max(x, 0), elementwise."""

    def forward(self, x: Tensor) -> Tensor:
        return relu(x)


class GELU(Module):
    """A smooth version of ReLU, elementwise."""

    def forward(self, x: Tensor) -> Tensor:
        return gelu(x)


class Tanh(Module):
    """The hyperbolic tangent, elementwise."""

    def forward(self, x: Tensor) -> Tensor:
        return tanh(x)


class Flatten(Module):
    """(B, ...) -> (B, product of the other axes)."""

    def forward(self, x: Tensor) -> Tensor:
        return x.reshape(len(x), -1)


class Dropout(Module):
    """In training, set each element to zero with probability `rate`; in evaluation, do nothing."""

    def __init__(self, rate: float, rng: np.random.Generator):
        if not 0 <= rate < 1:
            raise ValueError(f"the dropout rate must be in [0, 1), not {rate}")
        self.rate, self.rng = rate, rng

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.rate == 0:
            return x
        # A new random mask in every forward pass; the backward pass multiplies by the same mask.
        kept = self.rng.random(x.shape, dtype=np.float32) >= self.rate
        # "Inverted" dropout: scaling the survivors up keeps the expected value the same, so
        # evaluation needs no correction.
        return x * Tensor(kept * x.dtype.type(1 / (1 - self.rate)))


class BatchNorm(Module):
    """(B, C) or (B, C, H, W), same shape out: zero mean and unit variance per channel, then scale
    and shift. Training uses the statistics of the batch, evaluation their running averages.
    """

    def __init__(self, num_features: int, momentum: float = 0.1, eps: float = 1e-5):
        # With scale 1 and shift 0 the layer starts as plain normalisation. Training can undo the
        # normalisation where it hurts.
        self.scale, self.shift = ones(num_features), zeros(num_features)
        self.momentum, self.eps = momentum, eps
        self.running_mean = np.zeros(num_features, dtype=np.float32)
        self.running_var = np.ones(num_features, dtype=np.float32)

    def forward(self, x: Tensor) -> Tensor:
        # Reshaped to (1, C) or (1, C, 1, 1), the per-channel numbers broadcast along axis 1.
        column = (1, -1) + (1,) * (x.ndim - 2)
        axes = (0, *range(2, x.ndim))  # all but the channel axis
        if self.training:
            # Mean and variance are part of the graph: a change of one example changes the outputs
            # of all others in the batch, and the gradient accounts for that.
            mean = x.mean(axes, keepdims=True)
            centred = x - mean
            variance = (centred * centred).mean(axes, keepdims=True)
            # Outside the graph (.data): no gradient flows into the running averages.
            self._update_running(
                mean.data.ravel(), variance.data.ravel(), x.data.size // x.shape[1]
            )
        else:
            # A prediction must not depend on which other examples happen to be in its batch.
            centred = x - self.running_mean.reshape(column)
            variance = Tensor(self.running_var.reshape(column))
        normal = centred * (variance + self.eps) ** -0.5
        return normal * self.scale.reshape(*column) + self.shift.reshape(*column)

    def _update_running(self, mean: np.ndarray, variance: np.ndarray, n: int) -> None:
        if n < 2:
            raise ValueError(
                "batch normalisation needs at least 2 values per channel in training, not 1"
            )
        self.running_mean += self.momentum * (mean - self.running_mean)
        # The batch is normalised with the biased variance (divided by n), but the running average
        # estimates the variance of the population, hence n / (n - 1). PyTorch does the same.
        self.running_var += self.momentum * (variance * (n / (n - 1)) - self.running_var)


class LayerNorm(Module):
    """(..., C) -> (..., C): normalise each position over its own C numbers.

    No other example is involved, so training and evaluation are the same.
    """

    def __init__(self, emb_dim: int, eps: float = 1e-5):
        # eps keeps the division finite for a row of equal numbers, whose variance is zero.
        self.scale, self.shift, self.eps = ones(emb_dim), zeros(emb_dim), eps

    def forward(self, x: Tensor) -> Tensor:
        return layer_norm(x, self.scale, self.shift, self.eps)


class Embedding(Module):
    """Integer ids (...) -> vectors (..., emb_dim), the rows of a trainable table."""

    def __init__(
        self, num_embeddings: int, emb_dim: int, rng: np.random.Generator, std: float = 1.0
    ):
        # Selecting row i equals multiplying a one-hot vector by the table, so an embedding is a
        # linear layer without the product. Only rows that were selected receive a gradient.
        self.weight = Parameter(rng.normal(0, std, (num_embeddings, emb_dim)).astype(np.float32))

    def forward(self, ids: np.ndarray) -> Tensor:
        return embedding(self.weight, ids)
