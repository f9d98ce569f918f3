"""The causal mask, and the layout of one forward pass: positions, cache slots, attention mask."""

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor


def causal_mask(T: int, S: int, window: int | None = None, device=None) -> Tensor:
    """(T, S) booleans: may query i, one of the last T of S tokens, attend to key j? Only to itself
    and to earlier tokens, at most `window` in all.

    >>> causal_mask(2, 3).int()
    tensor([[1, 1, 0],
            [1, 1, 1]], dtype=torch.int32)
    """
    queries = torch.arange(S - T, S, device=device).unsqueeze(1)  # (T, 1) positions
    keys = torch.arange(S, device=device)  # (S,)
    allowed = keys <= queries
    return allowed if window is None else allowed & (keys > queries - window)


@dataclass(frozen=True)
class CacheLayout:
    """Positions, cache slots and attention mask of one forward pass, shared by all layers.

    `positions` and `slot_mapping` say where the T new tokens are. Both are slices if all rows have
    the same length; otherwise they are tensors (B, T), and `rows` (B, 1) numbers the rows.
    """

    S: int  # number of slots that attention reads
    positions: slice | Tensor  # in the texts
    slot_mapping: slice | Tensor  # in the cache
    rows: Tensor | None = None
    attn_mask: Tensor | None = None  # (T, S) or (B, 1, T, S) booleans; None: attend to all S
    is_causal: bool = False  # the causal mask for T = S, which PyTorch's kernel applies by itself

    @classmethod
    def contiguous(cls, start: int, T: int, window: int | None = None, device=None) -> Self:
        """T new tokens at positions start ... start + T - 1 in every row."""
        S, new = start + T, slice(start, start + T)
        if window is not None and window < S:
            return cls(S, new, new, attn_mask=causal_mask(T, S, window, device))
        if T == 1:  # the newest token may attend to everything
            return cls(S, new, new)
        if T == S:
            return cls(S, new, new, is_causal=True)
        # For T < S, PyTorch's `is_causal` would let query i attend to keys 0 to i, as if the new
        # tokens stood at the beginning of the text.
        return cls(S, new, new, attn_mask=causal_mask(T, S, device=device))

    def previous(self, n: int, device=None) -> Tensor:
        """Positions of the n tokens before the new ones, (1, n) or (B, n); below 0: no token."""
        before = torch.arange(-n, 0, device=device).unsqueeze(0)
        if isinstance(self.positions, slice):
            return self.positions.start + before
        return self.positions[:, :1] + before

    def store(self, cache: Tensor, new: Tensor) -> None:
        """Write (B, H, T, D) to the slots of (B, H, n, D), in the cache's dtype."""
        if self.rows is None:
            cache[:, :, self.slot_mapping] = new
        else:
            # Index tensors with a slice between them put their axes first: (B, T, H, D) on the
            # left. Unlike an assignment to a slice, this one does not convert the dtype.
            cache[self.rows, :, self.slot_mapping] = new.transpose(1, 2).to(cache.dtype)

    def load(self, cache: Tensor) -> Tensor:
        """The first S slots of a cache, new tokens included: (B, H, n, D) -> (B, H, S, D)."""
        return cache[:, :, : self.S]
