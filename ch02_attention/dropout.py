"""Dropout (Srivastava et al. 2014) with cheap random bits on a CPU.

PyTorch draws a float for every number on a CPU, which costs more than the layers around it. Four
numbers of 16 bits from one random integer of 64 decide just as well, with a rate exact to 1 /
65,536. A fused attention kernel with dropout exists on GPUs only, so on a CPU
`attention_with_dropout` writes the weights out.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

LEVELS = 2**16  # values of 16 random bits


def keep_mask(shape: torch.Size, rate: float, dtype: torch.dtype) -> Tensor:
    """Zeros with probability `rate`, elsewhere 1 / (1 - rate), drawn with PyTorch's global
    generator on the CPU.
    """
    n, dropped = math.prod(shape), round(rate * LEVELS)
    if dropped == LEVELS:  # its threshold would not fit 16 bits
        return torch.zeros(shape, dtype=dtype)
    words = torch.empty(-(-n // 4), dtype=torch.int64).random_(-(2**63), None)
    bits = words.view(torch.int16)[:n].view(shape)  # uniform from -32,768 to 32,767
    return (bits >= dropped - LEVELS // 2).to(dtype).mul_(LEVELS / (LEVELS - dropped))


def dropout(x: Tensor, rate: float, training: bool = True) -> Tensor:
    """`torch.nn.functional.dropout`: same distribution, other random numbers, several times as
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


def attention_with_dropout(
    queries: Tensor, keys: Tensor, values: Tensor, allowed: Tensor | None, rate: float
) -> Tensor:
    """(B, H, T, D), (B, H_kv, S, D) twice -> (B, H, T, D): attention that drops its weights with
    probability `rate`.

    `allowed`: (T, S) booleans, True where a query attends to a key; None: everywhere.
    """
    groups = queries.shape[1] // keys.shape[1]
    if groups > 1:
        keys, values = (x.repeat_interleave(groups, dim=1) for x in (keys, values))
    scores = queries @ keys.transpose(-2, -1) / math.sqrt(queries.shape[-1])  # (B, H, T, S)
    if allowed is not None:
        scores = scores.masked_fill(~allowed, float("-inf"))
    return dropout(scores.softmax(dim=-1), rate) @ values
