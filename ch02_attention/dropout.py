"""Dropout (Srivastava et al. 2014) with cheap random bits on a CPU.

On a CPU, PyTorch draws a float for every number, which costs more than the layers around it. Four
numbers of 16 bits from one random integer of 64 decide just as well, with a rate exact to 1 /
65,536.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

LEVELS = 2**16  # values of 16 random bits


def keep_mask(shape: torch.Size, rate: float, dtype: torch.dtype) -> Tensor:
    """0 with probability `rate`, otherwise 1 / (1 - rate), drawn on the CPU with PyTorch's global
    generator.
    """
    n, dropped = math.prod(shape), round(rate * LEVELS)
    if dropped == LEVELS:  # its threshold would not fit 16 bits
        return torch.zeros(shape, dtype=dtype)
    words = torch.empty(-(-n // 4), dtype=torch.int64).random_(-(2**63), None)
    bits = words.view(torch.int16)[:n].view(shape)  # uniform from -32,768 to 32,767
    return (bits >= dropped - LEVELS // 2).to(dtype).mul_(LEVELS / (LEVELS - dropped))


def dropout(x: Tensor, rate: float, training: bool = True) -> Tensor:
    """`torch.nn.functional.dropout`: the same distribution, other random numbers, several times as
    fast on a CPU.
    """
    if not training or rate == 0:
        return x
    if x.device.type != "cpu":
        return F.dropout(x, rate)
    return x * keep_mask(x.shape, rate, x.dtype)


class Dropout(nn.Dropout):
    """`torch.nn.Dropout` on `dropout`."""

    def forward(self, x: Tensor) -> Tensor:
        return dropout(x, self.p, self.training)
