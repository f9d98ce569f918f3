"""Attention without the causal mask: every token sees the whole text, but none of the filling.

Takes the place of a key/value cache: it remembers nothing, and only says who may look at whom.
"""

import numpy as np
import torch
from torch import Tensor

from ch02_attention import Place


class WholeText:
    """`model.hidden_states(ids, WholeText(lengths))`: lengths (B,) of the rows of ids (B, T)."""

    place: Place

    def __init__(self, lengths: Tensor):
        self.real = lengths
        self.lengths = np.zeros(len(lengths), dtype=np.int64)  # nothing was read before

    def begin(self, T: int, counts=None) -> Place:
        # (B, 1, 1, T)
        mask = torch.arange(T, device=self.real.device) < self.real[:, None, None, None]
        self.place = Place(T, T, mask, start=0)
        return self.place

    def append(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        return keys, values

    def of_layer(self, layer: int) -> tuple["WholeText", None]:
        return self, None
