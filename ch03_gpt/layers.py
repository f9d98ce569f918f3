"""The small parts of a transformer block: normalisation, activation, feed-forward.

Each public layer runs PyTorch's kernel; its `*_reference` twin spells the formula out and is
asserted equal. Sources: LayerNorm (Ba et al. 2016), GELU (Hendrycks & Gimpel 2016), RMSNorm
(Zhang & Sennrich 2019), SwiGLU (Shazeer 2020).
"""

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ch02_attention import InputCache
from ch03_gpt.config import GPTConfig


def layer_norm_reference(x: Tensor, scale: Tensor, shift: Tensor, eps: float = 1e-5) -> Tensor:
    """(..., C) -> (..., C): zero mean and unit variance over the last axis, then scale and shift.

    >>> x = torch.tensor([1.0, 3.0])
    >>> layer_norm_reference(x, torch.ones(2), torch.zeros(2), eps=0.0)
    tensor([-1.,  1.])
    """
    mean = x.mean(dim=-1, keepdim=True)
    variance = x.var(dim=-1, keepdim=True, correction=0)
    return scale * (x - mean) / torch.sqrt(variance + eps) + shift


def rms_norm_reference(x: Tensor, scale: Tensor, eps: float = 1e-5) -> Tensor:
    """(..., C) -> (..., C): divide by the root mean square over the last axis, then scale.

    >>> rms_norm_reference(torch.tensor([3.0, 3.0]), torch.ones(2), eps=0.0)
    tensor([1., 1.])
    """
    return scale * x / torch.sqrt(x.square().mean(dim=-1, keepdim=True) + eps)


def gelu_reference(x: Tensor) -> Tensor:
    """The tanh approximation of GELU that GPT-2 was trained with, elementwise.

    >>> gelu_reference(torch.tensor([0.0, 1.0]))
    tensor([0.0000, 0.8412])
    """
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


class RMSNorm(nn.Module):
    """(..., C) -> (..., C): LayerNorm without the mean and the shift."""

    def __init__(self, emb_dim: int, eps: float = 1e-5):
        super().__init__()
        self.eps = eps
        self.scale = nn.Parameter(torch.ones(emb_dim))

    def forward(self, x: Tensor) -> Tensor:
        # the kernel wants one dtype
        return F.rms_norm(x, self.scale.shape, self.scale.to(x.dtype), self.eps)


class GELU(nn.Module):
    """Elementwise `gelu_reference`.

    In bfloat16 on a CPU it takes the exact form with the error function: the two differ by less
    than 5e-4, which bfloat16 cannot tell apart, and PyTorch's kernel for it is four times as fast.
    """

    def forward(self, x: Tensor) -> Tensor:
        bfloat16_on_cpu = x.dtype == torch.bfloat16 and x.device.type == "cpu"
        return F.gelu(x, approximate="none" if bfloat16_on_cpu else "tanh")


class FeedForward(nn.Module):
    """(B, T, C) -> (B, T, C): widen, GELU, narrow; every token for itself."""

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

    Gate and up projection are one matrix, so that the widening is one matrix product.
    """

    def __init__(self, config: GPTConfig | Mapping):
        super().__init__()
        config = GPTConfig.of(config)
        self.gate_up = nn.Linear(config.emb_dim, 2 * config.hidden_dim, bias=config.bias)
        self.down = nn.Linear(config.hidden_dim, config.emb_dim, bias=config.bias)

    def forward(self, x: Tensor) -> Tensor:
        gate, up = self.gate_up(x).chunk(2, dim=-1)  # (B, T, 8/3 C) each
        return self.down(F.silu(gate) * up)


def make_norm(config: GPTConfig) -> nn.Module:
    """Return the normalisation layer that `config.norm` names."""
    if config.norm == "rmsnorm":
        return RMSNorm(config.emb_dim, config.norm_eps)
    return LayerNorm(config.emb_dim, config.norm_eps, config.bias)


def make_feed_forward(config: GPTConfig) -> nn.Module:
    """Return the feed-forward layer that `config.ffn` names."""
    return SwiGLU(config) if config.ffn == "swiglu" else FeedForward(config)


class TokenShift(nn.Module):
    """(B, T, C) -> (B, T, C): what goes into a layer's attention also brings the inputs of the n
    tokens before, scaled channel by channel.

    A head can then find "what came after this word" at once, instead of first learning a head that
    looks one token back (Olsson et al. 2022; the same idea in RWKV, Peng et al. 2023, and as a
    short convolution in Canon layers, Allen-Zhu 2025). The scales begin as random signs, so that a
    word looks different at every distance, and none is fainter or blurred (Kanerva 1996 binds roles
    to words in this way); with equal ones the model would see the words before, but not their
    order.
    """

    def __init__(self, n: int, emb_dim: int):
        super().__init__()
        self.n = n
        self.scale = nn.Parameter(torch.empty(n, emb_dim))  # of the token 1, 2, ... back
        self.reset_parameters()

    def reset_parameters(self) -> None:
        with torch.no_grad():
            self.scale.bernoulli_(0.5).mul_(2).sub_(1)

    def forward(self, x: Tensor, cache: InputCache | None = None) -> Tensor:
        """With a cache, x continues the texts whose inputs it holds."""
        T = x.shape[1]
        # (B, n + T, C)
        every = F.pad(x, (0, 0, self.n, 0)) if cache is None else cache.append(x, self.n)
        for back, scale in enumerate(self.scale.to(x.dtype), 1):
            first = self.n - back
            x = torch.addcmul(x, scale, every[:, first : first + T])
        return x
