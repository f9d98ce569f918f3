"""The key/value cache: what attention has computed for earlier tokens, kept for the next ones.

Each row of the batch is a text of its own length: rows of unequal prompts are filled up on the
right, and what the filling leaves behind lies beyond the row's end, where no token looks and the
next tokens write. With a sliding window the slots are used in turn, so that memory stays bounded
however long the text gets.
"""

from collections.abc import Sequence
from typing import Self

import numpy as np
import torch
from torch import Tensor

from ch02_attention.mask import Place


class LayerCache:
    """Preallocated keys and values of one layer, (B, H_kv, n + 1, D) each. The last slot takes
    what none may see.
    """

    place: Place  # of the tokens that come next; `KVCache.begin` sets it

    def __init__(self, tensors: tuple[Tensor, ...]):
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
        shape = (batch_size, n_kv_heads, n_slots + 1, head_dim)
        return cls(
            (
                torch.zeros(shape, dtype=dtype, device=device),
                torch.zeros(shape, dtype=dtype, device=device),
            )
        )

    def append(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """New keys and values (B, H_kv, T, D) -> views (B, H_kv, S, D) of all that there are to
        look at.
        """
        for memory, new in zip(self.tensors, (keys, values), strict=True):
            self.place.write(memory, new)
        return self.place.read(self.tensors[0]), self.place.read(self.tensors[1])


class InputCache(LayerCache):
    """What went into one layer's attention, (B, 1, n + 1, C), for layers that look at the inputs
    just before.
    """

    def append(self, inputs: Tensor, back: int) -> Tensor:
        """New inputs (B, T, C) -> (B, back + T, C): behind the `back` ones before them, zeros
        where there were none.
        """
        memory = self.tensors[0]
        earlier = self.place.before(back, inputs.device)  # (1, back) or (B, back)
        rows = torch.arange(len(memory), device=inputs.device).unsqueeze(1)
        found = memory[rows, 0, earlier % (memory.shape[2] - 1)].masked_fill(
            (earlier < 0).unsqueeze(2), 0
        )
        self.place.write(memory, inputs.unsqueeze(1))
        return torch.cat((found.to(inputs.dtype), inputs), dim=1)


class KVCache:
    """The caches of all layers, and how many tokens each row holds: `lengths`, kept on the host, so
    that nothing waits for the device.

    `max_length`: tokens that a row may hold. `window`: tokens that attention looks back; where
    slots for it and `chunk` tokens more are fewer than `max_length`, memory is bounded by them, and
    no more than `chunk` tokens may come at once. `input_width`: keep the inputs of every layer's
    attention, too, so many channels wide, for layers that look at those of the `input_window`
    tokens before.
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
        layer_cache: type[LayerCache] = LayerCache,
        input_width: int = 0,
        input_window: int = 0,
    ):
        self.max_length, self.window, self.device = max_length, window, device
        self.n_slots = (
            max_length if window is None else min(max_length, max(window, input_window) + chunk)
        )
        self.chunk = max_length if self.n_slots == max_length else chunk
        self.lengths = np.zeros(batch_size, dtype=np.int64)
        self.layers = [
            layer_cache.empty(
                batch_size, n_kv_heads, self.n_slots, head_dim, dtype=dtype, device=device
            )
            for _ in range(n_layers)
        ]
        self.inputs = [
            InputCache(
                (
                    torch.zeros(
                        batch_size, 1, self.n_slots + 1, input_width, dtype=dtype, device=device
                    ),
                )
            )
            for _ in range(n_layers if input_width else 0)
        ]

    def of_layer(self, layer: int) -> tuple[LayerCache, InputCache | None]:
        """What layer number `layer` remembers."""
        return self.layers[layer], self.inputs[layer] if self.inputs else None

    def begin(self, T: int, counts: Sequence[int] | None = None) -> Place:
        """Make room for T more tokens in every row, or for the first `counts[i]` of T in row i; the
        layers' `append` comes next. ValueError where they do not fit.
        """
        new = np.full_like(self.lengths, T) if counts is None else np.asarray(counts)
        longest = int((self.lengths + new).max())
        if longest > self.max_length:
            raise ValueError(
                f"the cache holds {self.max_length} tokens, {longest} were to be kept; make a"
                " longer one"
            )
        if self.chunk < T:
            raise ValueError(
                f"this cache takes {self.chunk} tokens at once, not {T}; give it shorter pieces"
            )
        start = int(self.lengths[0])
        if start + T <= self.n_slots and (self.lengths == start).all():
            place = Place.straight(start, T, self.window, self.device)
        else:
            place = self._scattered(T, new)
        self.lengths += new
        for layer in (*self.layers, *self.inputs):
            layer.place = place
        return place

    def _scattered(self, T: int, new: np.ndarray) -> Place:
        """The place of T tokens, of which `new[i]` are real, in rows that differ."""
        offsets = np.arange(T)
        positions = self.lengths[:, None] + offsets  # (B, T)
        real = offsets < new[:, None]
        slots = np.where(real, positions % self.n_slots, self.n_slots)
        last = (self.lengths + new - 1)[:, None]
        S = min(self.n_slots, int(last.max()) + 1)
        # (B, S): the position that a slot holds; negative: none
        held = last - (last - np.arange(S)) % self.n_slots
        mask = (held[:, None] >= 0) & (held[:, None] <= positions[:, :, None])  # (B, T, S)
        if self.window is not None:
            mask &= held[:, None] > positions[:, :, None] - self.window
        mask |= ~real[:, :, None]  # what comes of filling is not used, and must only not be NaN
        on_device = [
            torch.from_numpy(array).to(self.device)
            for array in (
                mask,
                np.minimum(positions, self.max_length - 1),
                slots,
                np.arange(len(new))[:, None],
            )
        ]
        return Place(
            T,
            S,
            on_device[0].unsqueeze(1),
            positions=on_device[1],
            slots=on_device[2],
            rows=on_device[3],
        )

    def _sharing(self, lengths: np.ndarray, tensors) -> "KVCache":
        other = object.__new__(type(self))
        other.__dict__ |= self.__dict__ | {"lengths": lengths}
        other.layers, other.inputs = (
            [type(layer)(tuple(map(tensors, layer.tensors))) for layer in layers]
            for layers in (self.layers, self.inputs)
        )
        return other

    def rows(self, first: int, last: int) -> "KVCache":
        """Rows first ... last - 1 as a cache of their own in the same memory: what happens there
        happens here.
        """
        return self._sharing(self.lengths[first:last], lambda tensor: tensor[first:last])

    def repeat(self, n: int) -> "KVCache":
        """A new cache with every row n times."""
        return self._sharing(
            self.lengths.repeat(n), lambda tensor: tensor.repeat_interleave(n, dim=0)
        )

    def reorder(self, rows: Sequence[int]) -> None:
        """Let row i continue the text that row `rows[i]` held."""
        index = torch.as_tensor(rows, device=self.device)
        used = min(self.n_slots, int(self.lengths.max()))
        for layer in (*self.layers, *self.inputs):
            for tensor in layer.tensors:
                tensor[:, :, :used] = tensor[index, :, :used]
        self.lengths[:] = self.lengths[rows]

    def copy_row(self, source: int, target: int, length: int) -> None:
        """Give row `target` the first `length` tokens of row `source`: all of them, where a
        window bounds memory.
        """
        bounded = self.n_slots < self.max_length
        if bounded and length != self.lengths[source]:
            raise ValueError("a cache bounded by a window has forgotten the beginning of its rows")
        end = self.n_slots if bounded else length
        for layer in (*self.layers, *self.inputs):
            for tensor in layer.tensors:
                tensor[target, :, :end] = tensor[source, :, :end]
        self.lengths[target] = length

    def truncate(self, lengths: int | Sequence[int]) -> None:
        """Forget all tokens from position `lengths` on (within the last `chunk`, where a window
        bounds memory).
        """
        self.lengths[:] = np.minimum(self.lengths, lengths)
