"""RMSNorm (Zhang & Sennrich 2019): LayerNorm without the mean and without the shift.

Attention uses it on queries and keys (QK-norm), chapter 3 in every block.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def rms_norm_reference(x: Tensor, scale: Tensor, eps: float = 1e-5) -> Tensor:
    """(..., C) -> (..., C): divide by the root mean square over the last axis, then scale.

    >>> rms_norm_reference(torch.tensor([3.0, 3.0]), torch.ones(2), eps=0.0)
    tensor([1., 1.])
    """
    return scale * x / torch.sqrt(x.square().mean(dim=-1, keepdim=True) + eps)


class RMSNorm(nn.Module):
    """(..., C) -> (..., C), in x's dtype: `rms_norm_reference` with a learned scale."""

    def __init__(self, emb_dim: int, eps: float = 1e-5):
        super().__init__()
        self.eps = eps
        self.scale = nn.Parameter(torch.ones(emb_dim))

    def forward(self, x: Tensor) -> Tensor:
        # the kernel needs one dtype, and under autocast it may return float32
        return F.rms_norm(x, self.scale.shape, self.scale.to(x.dtype), self.eps).to(x.dtype)
