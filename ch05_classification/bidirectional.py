"""Attention without the causal mask: every token sees the whole text, but none of the filling.

Takes the place of a key/value cache: it remembers nothing, and only says who may look at whom.
"""

import numpy as np
import torch
from torch import Tensor

from ch02_attention import CacheLayout


class WholeText:
    """`model.hidden_states(ids, WholeText(lengths))`: lengths (B,) of the rows of ids (B, T)."""

    layout: CacheLayout

    def __init__(self, lengths: Tensor):
        self.real = lengths
        self.cache_seqlens = np.zeros(len(lengths), dtype=np.int64)  # no earlier tokens

    def prepare(self, T: int, counts=None) -> CacheLayout:
        # (B, 1, 1, T)
        mask = torch.arange(T, device=self.real.device) < self.real[:, None, None, None]
        self.layout = CacheLayout(T, slice(0, T), slice(0, T), attn_mask=mask)
        return self.layout

    def append(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        return keys, values

    def layer_cache(self, layer: int) -> "WholeText":
        return self
