"""The key/value cache: keys and values of earlier tokens, kept so that they are computed once.

Every row of the batch is a text of its own length. Rows are padded on the right. Where all rows
have equally many tokens, padding is written behind a row's end: no token attends there, and the
next tokens overwrite it. Otherwise it goes to an extra slot. With a sliding window the slots form a
ring, so that memory stays bounded however long the text gets.
"""

import copy
from collections.abc import Callable, Sequence
from typing import Self

import numpy as np
import torch
from torch import Tensor

from ch02_attention.mask import CacheLayout


class LayerCache:
    """What one layer keeps of each token, by name: `k_cache` and `v_cache` (B, H_kv, n + 1, D),
    and (B, 1, n + 1, width) for any other module that keeps a state.

    One extra slot absorbs writes for padding; no mask exposes it.
    """

    layout: CacheLayout  # of the next tokens; `KVCache.prepare` sets it

    def __init__(self, **tensors: Tensor):
        self.tensors = tensors

    @classmethod
    def empty(
        cls,
        batch_size: int,
        n_kv_heads: int,
        n_slots: int,
        head_dim: int,
        *,
        dtype: torch.dtype,
        device: torch.device | str,
    ) -> Self:
        # key/value heads only: with grouped queries, the cache shrinks by the factor H / H_kv
        shape = (batch_size, n_kv_heads, n_slots + 1, head_dim)
        return cls(
            k_cache=torch.zeros(shape, dtype=dtype, device=device),
            v_cache=torch.zeros(shape, dtype=dtype, device=device),
        )

    def map(self, function: Callable[[Tensor], Tensor]) -> Self:
        """A cache that holds `function(tensor)` for every tensor."""
        return type(self)(**{name: function(tensor) for name, tensor in self.tensors.items()})

    def append(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Store T new keys and values; return all S cached ones (B, H_kv, S, D)."""
        k_cache, v_cache = self.tensors["k_cache"], self.tensors["v_cache"]
        self.layout.store(k_cache, keys)
        self.layout.store(v_cache, values)
        # views of the cache: a decoding step copies one token per row, not S
        return self.layout.load(k_cache), self.layout.load(v_cache)

    def append_state(self, name: str, x: Tensor, n: int) -> Tensor:
        """Store a module's inputs (B, T, C) as its state; return the n inputs before them and
        themselves, (B, n + T, C), with zeros before the text begins.
        """
        state = self.tensors[name]
        positions = self.layout.previous(n, x.device)  # (1, n) or (B, n)
        rows = torch.arange(len(state), device=x.device).unsqueeze(1)
        previous = state[rows, 0, positions % (state.shape[2] - 1)]  # (B, n, C)
        # % has turned negative positions into slots at the end, which are not the text's past
        previous = previous.masked_fill((positions < 0).unsqueeze(2), 0)
        self.layout.store(state, x.unsqueeze(1))
        return torch.cat((previous.to(x.dtype), x), dim=1)


class KVCache:
    """The caches of all layers, and the number of tokens in each row: `cache_seqlens`, kept on the
    host, so that nothing waits for the device.

    `max_length`: tokens that a row may hold. `window`: the sliding window of attention; if a ring
    of `window + chunk` slots is smaller than `max_length`, that is all the memory taken, and at
    most `chunk` tokens may come at once.
    """

    def __init__(
        self,
        batch_size: int,
        n_layers: int,
        n_kv_heads: int,
        max_length: int,
        head_dim: int,
        *,
        window: int | None = None,
        chunk: int = 256,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
        layer_class: type[LayerCache] = LayerCache,
    ):
        self.max_length, self.window = max_length, window
        self.dtype, self.device = dtype, device
        # Attention reads a chunk after all of it is stored, and the chunk's first token still needs
        # the window before it. A ring of `window` slots would have overwritten that.
        self.n_slots = max_length if window is None else min(max_length, window + chunk)
        self.chunk = max_length if self.n_slots == max_length else chunk
        self.cache_seqlens = np.zeros(batch_size, dtype=np.int64)
        self.layers = [
            layer_class.empty(
                batch_size, n_kv_heads, self.n_slots, head_dim, dtype=dtype, device=device
            )
            for _ in range(n_layers)
        ]

    def add_state(self, name: str, width: int) -> None:
        """Let every layer also keep a vector of this width of each token, for another module; see
        `LayerCache.append_state`.
        """
        shape = (len(self.cache_seqlens), 1, self.n_slots + 1, width)
        for layer in self.layers:
            layer.tensors[name] = torch.zeros(shape, dtype=self.dtype, device=self.device)

    def layer_cache(self, layer: int) -> LayerCache:
        return self.layers[layer]

    def prepare(self, T: int, counts: Sequence[int] | None = None) -> CacheLayout:
        """Reserve slots for T more tokens in every row, or for the first `counts[i]` of T in row i
        (the rest is padding), and return their layout. Every layer then appends its own.

        ValueError if they do not fit.
        """
        new = np.full_like(self.cache_seqlens, T) if counts is None else np.asarray(counts)
        longest = int((self.cache_seqlens + new).max())
        if longest > self.max_length:
            raise ValueError(
                f"the cache holds {self.max_length} tokens, {longest} are needed; make it longer"
            )
        if self.chunk < T:
            raise ValueError(
                f"this cache takes {self.chunk} tokens at once, not {T}; give it shorter chunks"
            )
        start = int(self.cache_seqlens[0])
        # Rows of equal length share one mask, and their slots are one slice. Their `counts` may
        # differ: padding comes after a row's tokens, where causal attention never looks.
        if start + T <= self.n_slots and (self.cache_seqlens == start).all():
            layout = CacheLayout.contiguous(start, T, self.window, self.device)
        else:
            layout = self._ragged(T, new)
        # in place, because the counts of a cache made by `rows` are a view of the whole cache's
        self.cache_seqlens += new
        for layer in self.layers:
            layer.layout = layout
        return layout

    def _ragged(self, T: int, new: np.ndarray) -> CacheLayout:
        """The layout of T tokens, `new[i]` of them real, for rows of unequal length or a ring."""
        offsets = np.arange(T)
        positions = self.cache_seqlens[:, None] + offsets  # (B, T)
        real = offsets < new[:, None]
        # padding goes to the extra slot: in a ring, its own may hold a token still attended to
        slots = np.where(real, positions % self.n_slots, self.n_slots)
        last = (self.cache_seqlens + new - 1)[:, None]
        S = min(self.n_slots, int(last.max()) + 1)
        # (B, S): the position that each slot holds, the newest position <= last that equals the
        # slot's number modulo n_slots; negative: none
        held = last - (last - np.arange(S)) % self.n_slots
        mask = (held[:, None] >= 0) & (held[:, None] <= positions[:, :, None])  # (B, T, S)
        if self.window is not None:
            mask &= held[:, None] > positions[:, :, None] - self.window
        # padding may lie beyond the end of the tables of positions, which these numbers index
        in_texts = np.minimum(positions, self.max_length - 1)
        numbers = np.arange(len(new))[:, None]
        new_positions, slot_mapping, rows, attn_mask = (
            torch.from_numpy(array).to(self.device)
            for array in (in_texts, slots, numbers, mask[:, None])
        )
        return CacheLayout(S, new_positions, slot_mapping, rows, attn_mask)

    def _map(self, seqlens: np.ndarray, function: Callable[[Tensor], Tensor]) -> Self:
        # shallow: only the counts and the tensors differ from this cache's
        other = copy.copy(self)
        other.cache_seqlens = seqlens
        other.layers = [layer.map(function) for layer in self.layers]
        return other

    def _tensors(self) -> list[Tensor]:
        return [tensor for layer in self.layers for tensor in layer.tensors.values()]

    def rows(self, first: int, last: int) -> Self:
        """Rows first ... last - 1 as a cache of their own that shares this one's memory."""
        return self._map(self.cache_seqlens[first:last], lambda tensor: tensor[first:last])

    def repeat(self, n: int) -> Self:
        """A new cache with every row n times."""
        return self._map(
            self.cache_seqlens.repeat(n), lambda tensor: tensor.repeat_interleave(n, dim=0)
        )

    def reorder(self, rows: Sequence[int]) -> None:
        """Let row i continue the text that row `rows[i]` held."""
        index = torch.as_tensor(rows, device=self.device)
        used = min(self.n_slots, int(self.cache_seqlens.max()))
        for tensor in self._tensors():
            # indexing by a tensor copies, so the right side is complete before the left is written
            tensor[:, :, :used] = tensor[index, :, :used]
        self.cache_seqlens[:] = self.cache_seqlens[rows]

    def copy_row(self, source: int, target: int, length: int) -> None:
        """Copy the first `length` tokens of row `source` to row `target`; ValueError unless they
        are all of them, if a window bounds memory.
        """
        bounded = self.n_slots < self.max_length
        if bounded and length != self.cache_seqlens[source]:
            raise ValueError(
                f"a ring of {self.n_slots} slots cannot copy the first {length} of"
                f" {self.cache_seqlens[source]} tokens; copy all of them"
            )
        # in a ring, the row's tokens may be in any slot
        end = self.n_slots if bounded else length
        for tensor in self._tensors():
            tensor[target, :, :end] = tensor[source, :, :end]
        self.cache_seqlens[target] = length

    def truncate(self, lengths: int | Sequence[int]) -> None:
        """Forget all tokens from position `lengths` on. ValueError if a window bounds memory and
        more than `chunk` of them would go, but not all: the slots no longer hold what came before.
        """
        kept = np.minimum(self.cache_seqlens, lengths)
        cut = np.where(
            (kept > 0) & (self.cache_seqlens > self.n_slots), self.cache_seqlens - kept, 0
        )
        if cut.max() > self.chunk:
            raise ValueError(
                f"a ring of {self.n_slots} slots can forget {self.chunk} tokens, not {cut.max()}"
            )
        # nothing is erased: no mask shows the slots beyond the new length, and new tokens reuse
        # them
        self.cache_seqlens[:] = np.minimum(self.cache_seqlens, lengths)
