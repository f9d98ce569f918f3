"""Who may look at whom: the causal mask, and where new tokens stand in a text that is already
there.
"""

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor


def causal_mask(T: int, S: int, window: int | None = None, device=None) -> Tensor:
    """(T, S) booleans: may the i-th of the last T tokens look at the j-th of S? Itself and earlier
    ones, at most `window` in all.

    >>> causal_mask(2, 3).int()
    tensor([[1, 1, 0],
            [1, 1, 1]], dtype=torch.int32)
    """
    queries = torch.arange(S - T, S, device=device).unsqueeze(1)
    keys = torch.arange(S, device=device)
    allowed = keys <= queries
    return allowed if window is None else allowed & (keys > queries - window)


@dataclass(frozen=True)
class Place:
    """Where T new tokens of each row go and what they may look at: the same for every layer.

    Where all rows are equally long, they continue at position `start` and `positions`, `slots` and
    `rows` are None; otherwise these say it for each row.
    """

    T: int
    end: int  # S: how many slots of the cache there are to look at
    # (T, S) or (B, 1, T, S) booleans; None: everything, or the plain causal mask
    mask: Tensor | None
    # the plain causal mask over T = S tokens, which the fused kernel knows by itself
    causal: bool = False
    start: int | None = None
    positions: Tensor | None = None  # (B, T) positions in the text
    slots: Tensor | None = None  # (B, T) places in the cache
    rows: Tensor | None = None  # (B, 1) row numbers

    @classmethod
    def straight(cls, start: int, T: int, window: int | None = None, device=None) -> Self:
        """All rows continue at `start`."""
        S = start + T
        windowed = window is not None and window < S
        causal = T == S and T > 1 and not windowed
        everything = causal or (T == 1 and not windowed)
        return cls(T, S, None if everything else causal_mask(T, S, window, device), causal, start)

    def pick(self, table: Tensor) -> Tensor:
        """The new tokens' rows of a table by position (n, D): (T, D), or (B, T, D) where rows
        differ.
        """
        return (
            table[self.positions] if self.start is None else table[self.start : self.start + self.T]
        )

    def before(self, n: int, device=None) -> Tensor:
        """Positions of the n tokens before the new ones, (1, n), or (B, n) where rows differ;
        below 0: none.
        """
        first = self.positions[:, :1] if self.start is None else self.start
        return first + torch.arange(-n, 0, device=device).unsqueeze(0)

    def write(self, memory: Tensor, new: Tensor) -> None:
        """Put (B, H, T, D) into the slots of (B, H, n, D), in its dtype."""
        if self.start is None:
            memory[self.rows, :, self.slots] = new.transpose(1, 2).to(memory.dtype)
        else:
            memory[:, :, self.start : self.start + self.T] = new

    def read(self, memory: Tensor) -> Tensor:
        """The (B, H, S, D) of (B, H, n, D) that there are to look at, the new tokens among them."""
        return memory[:, :, : self.end]
