"""The key/value cache: what attention has computed for earlier tokens, kept for the next ones."""

import torch
from torch import Tensor


class KVCache:
    """Preallocated keys and values of one layer, (B, H_kv, max_length, D) each.

    `length` is the number of tokens held so far: a Python int, so that nothing waits for the device.
    """

    def __init__(self, batch_size: int, n_kv_heads: int, max_length: int, head_dim: int, *,
                 dtype: torch.dtype, device: torch.device | str):
        shape = (batch_size, n_kv_heads, max_length, head_dim)
        self.keys = torch.empty(shape, dtype=dtype, device=device)
        self.values = torch.empty(shape, dtype=dtype, device=device)
        self.length = 0

    def append(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """New keys and values (B, H_kv, T, D) -> views (B, H_kv, S, D) of all held so far.

        ValueError where they do not fit.
        """
        end = self.length + keys.shape[2]
        if end > self.keys.shape[2]:
            raise ValueError(f"the cache holds {self.keys.shape[2]} tokens, {end} were to be kept; make a longer one")
        self.keys[:, :, self.length : end] = keys
        self.values[:, :, self.length : end] = values
        self.length = end
        return self.keys[:, :, :end], self.values[:, :, :end]

    def reset(self) -> None:
        """Forget all tokens."""
        self.length = 0
