"""The small parts of a transformer block: normalisation, activation, feed-forward.

LayerNorm and GELU run PyTorch's kernels; their `*_reference` twins spell the formulas out, and
tests compare them. Sources: LayerNorm (Ba et al. 2016), GELU (Hendrycks & Gimpel 2016), SwiGLU
(Shazeer 2020). RMSNorm is chapter 2's, where attention uses it.
"""

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ch02_attention import RMSNorm
from ch03_gpt.config import GPTConfig


def layer_norm_reference(x: Tensor, scale: Tensor, shift: Tensor, eps: float = 1e-5) -> Tensor:
    """(..., C) -> (..., C): zero mean and unit variance over the last axis, then scale and shift.

    >>> x = torch.tensor([1.0, 3.0])
    >>> layer_norm_reference(x, torch.ones(2), torch.zeros(2), eps=0.0)
    tensor([-1.,  1.])
    """
    mean = x.mean(dim=-1, keepdim=True)  # (..., 1)
    # correction=0 divides by C, not by C - 1: these are all the values, not a sample
    variance = x.var(dim=-1, keepdim=True, correction=0)
    return scale * (x - mean) / torch.sqrt(variance + eps) + shift


def gelu_reference(x: Tensor) -> Tensor:
    """The tanh approximation of GELU that GPT-2 was trained with, elementwise.

    >>> gelu_reference(torch.tensor([0.0, 1.0]))
    tensor([0.0000, 0.8412])
    """
    # GELU is x times the probability that a standard normal variable is below x. The tanh formula
    # approximates that probability; 0.044715 is a fitted constant.
    return 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


class LayerNorm(nn.Module):
    """(..., C) -> (..., C). `bias=False` leaves the shift at zero."""

    def __init__(self, emb_dim: int, eps: float = 1e-5, bias: bool = True):
        super().__init__()
        self.eps = eps
        self.scale = nn.Parameter(torch.ones(emb_dim))
        self.shift = nn.Parameter(torch.zeros(emb_dim)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        return F.layer_norm(x, self.scale.shape, self.scale, self.shift, self.eps)


class GELU(nn.Module):
    """Elementwise `gelu_reference`.

    In bfloat16 on a CPU it is the exact form with the error function. The two differ by less than
    5e-4, and PyTorch's kernel for the exact form is four times as fast.
    """

    def forward(self, x: Tensor) -> Tensor:
        bfloat16_on_cpu = x.dtype == torch.bfloat16 and x.device.type == "cpu"
        return F.gelu(x, approximate="none" if bfloat16_on_cpu else "tanh")


class FeedForward(nn.Module):
    """(B, T, C) -> (B, T, C): widen, GELU, narrow; each token on its own."""

    def __init__(self, config: GPTConfig | Mapping):
        super().__init__()
        config = GPTConfig.of(config)
        self.layers = nn.Sequential(
            nn.Linear(config.emb_dim, config.hidden_dim, bias=config.bias),  # (B, T, 4C)
            GELU(),
            nn.Linear(config.hidden_dim, config.emb_dim, bias=config.bias),  # (B, T, C)
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


class SwiGLU(nn.Module):
    """(B, T, C) -> (B, T, C): one half of the widened input gates the other, down(silu(gate) * up).

    The gate and up projections are one matrix, and so one matrix product.
    """

    def __init__(self, config: GPTConfig | Mapping):
        super().__init__()
        config = GPTConfig.of(config)
        self.gate_up = nn.Linear(config.emb_dim, 2 * config.hidden_dim, bias=config.bias)
        self.down = nn.Linear(config.hidden_dim, config.emb_dim, bias=config.bias)

    def forward(self, x: Tensor) -> Tensor:
        # silu(gate) = gate * sigmoid(gate) decides how much of each value of `up` passes
        gate, up = self.gate_up(x).chunk(2, dim=-1)  # (B, T, 8/3 C) each
        return self.down(F.silu(gate) * up)


def make_norm(config: GPTConfig) -> nn.Module:
    """Return the normalisation layer that `config.norm` names."""
    # RMSNorm has neither mean nor shift, so `config.bias` does not concern it
    if config.norm == "rmsnorm":
        return RMSNorm(config.emb_dim, config.norm_eps)
    return LayerNorm(config.emb_dim, config.norm_eps, config.bias)


def make_feed_forward(config: GPTConfig) -> nn.Module:
    """Return the feed-forward layer that `config.ffn` names."""
    return SwiGLU(config) if config.ffn == "swiglu" else FeedForward(config)
