"""A short causal convolution: every token also brings the inputs of the few tokens before it.

Known as token shift (Peng et al. 2023, RWKV) and as Canon layers (Allen-Zhu 2025). In front of
attention, a head finds "what came after this word" at once, instead of first learning a head that
attends to the previous token (Olsson et al. 2022).
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ch02_attention import LayerCache


class ShortConvolution(nn.Module):
    """(B, T, C) -> (B, T, C): x plus a depthwise convolution of the kernel - 1 inputs before it.

    The weights start as random signs, which give each offset a distinct code of equal norm (Kanerva
    1996); equal weights would keep the previous words, but not their order.
    """

    def __init__(self, emb_dim: int, kernel: int):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(kernel - 1, emb_dim))  # the oldest input first
        self.reset_parameters()

    def reset_parameters(self) -> None:
        with torch.no_grad():
            self.weight.bernoulli_(0.5).mul_(2).sub_(1)

    def forward(self, x: Tensor, cache: LayerCache | None = None) -> Tensor:
        n, T = len(self.weight), x.shape[1]
        padded = F.pad(x, (0, 0, n, 0)) if cache is None else cache.append_state("conv", x, n)
        for offset, weight in enumerate(self.weight.to(x.dtype)):  # faster than conv1d on a CPU
            x = torch.addcmul(x, weight, padded[:, offset : offset + T])
        return x
