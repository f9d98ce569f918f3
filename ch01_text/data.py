"""From token ids to batches: the book's sliding window, the fast path that training uses, and rows
of different lengths.

The fast path keeps all ids in one array, memory-mapped if it comes from a file, so that a data set
may be larger than memory, and copies the windows of a batch out of it.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader, Dataset

from ch01_text.bpe import BPETokenizer, gpt2_tokenizer
from ch01_text.saving import replacing
from ch01_text.tokenizer import Tokenizer

Batch = tuple[Tensor, Tensor]
IGNORE = -100  # the target that cross-entropy skips (PyTorch's default)


class GPTDataset(Dataset):
    """Windows of `max_length` ids, `stride` apart; item i is (inputs, targets), int64 (T,) views
    each, the targets shifted by one. ValueError if the text is shorter than one window.

    `text` is a string, encoded here (`<|endoftext|>` counts as the special token), or ids.
    """

    def __init__(
        self,
        text: str | list[int] | Tensor,
        tokenizer: Tokenizer | None = None,
        max_length: int = 256,
        stride: int = 128,
    ):
        if isinstance(text, str):
            if tokenizer is None:
                raise ValueError("a string needs a tokenizer; give one, or the string's ids")
            text = tokenizer.encode(text, allowed_special={"<|endoftext|>"})
        self.ids = torch.as_tensor(text, dtype=torch.long)
        self.max_length, self.stride = max_length, stride
        check_length(len(self.ids), max_length)

    def __len__(self) -> int:
        return (len(self.ids) - self.max_length - 1) // self.stride + 1

    def __getitem__(self, i: int) -> Batch:
        if not 0 <= i < len(self):
            raise IndexError(f"window {i} of {len(self)}")
        start = i * self.stride
        return (
            self.ids[start : start + self.max_length],
            self.ids[start + 1 : start + self.max_length + 1],
        )


GPTDatasetV1 = GPTDataset  # the book's name


def check_length(n_tokens: int, context_length: int) -> None:
    """ValueError if a text is too short for one window and its next token."""
    if n_tokens < context_length + 1:
        raise ValueError(
            f"the text has {n_tokens} tokens, one window needs {context_length + 1}; "
            "take a longer text or a shorter window"
        )


def create_dataloader(
    text: str | list[int] | Tensor,
    tokenizer: Tokenizer | None = None,
    batch_size: int = 4,
    max_length: int = 256,
    stride: int = 128,
    shuffle: bool = True,
    drop_last: bool = True,
    num_workers: int = 0,
    generator: torch.Generator | None = None,
) -> DataLoader:
    """Batches of (inputs, targets), int64 (B, T) each, over a `GPTDataset`; `generator`
    shuffles.
    """
    return DataLoader(
        GPTDataset(text, tokenizer, max_length, stride),
        batch_size=batch_size,
        shuffle=shuffle,
        drop_last=drop_last,
        num_workers=num_workers,
        generator=generator,
    )


def encode_documents(tokenizer: Tokenizer, documents: list[str]) -> np.ndarray:
    """Texts -> one array of ids, uint16 if the vocabulary allows it, else uint32, with
    `<|endoftext|>` after every document.
    """
    if isinstance(tokenizer, BPETokenizer):
        encoded = tokenizer.encode_batch(documents)
    else:
        encoded = [tokenizer.encode(document) for document in documents]
    dtype = np.uint16 if tokenizer.n_vocab <= 2**16 else np.uint32
    ends = np.array([tokenizer.eot_id], dtype)
    return np.concatenate([part for ids in encoded for part in (np.array(ids, dtype), ends)])


def document_starts(tokens: np.ndarray, eot_id: int) -> np.ndarray:
    """Positions of every `<|endoftext|>` that is followed by a document. Windows that begin there
    teach a model to begin a document from `<|endoftext|>` alone.
    """
    return np.flatnonzero(tokens[:-1] == eot_id)


def save_tokens(path: str | Path, tokens: np.ndarray) -> None:
    """Write ids as a `.npy` file."""
    with replacing(path) as new, new.open("wb") as file:
        np.save(file, tokens)


def open_tokens(path: str | Path) -> np.ndarray:
    """Open a `.npy` file of ids without reading it: pages are loaded as windows are drawn."""
    return np.load(path, mmap_mode="r")


class RandomWindows:
    """Endless batches (inputs, targets), int64 (B, T) each on `device`, of windows drawn by
    `generator`.

    `tokens` is one array or several shards; a window never spans two shards. Windows begin
    anywhere, or only at `starts` (of documents, for example) in a single array. Of `world_size`
    processes with the same generator, each keeps its `rank`-th part of every batch. Inputs and
    targets are views of one (B, T + 1) buffer, copied to the device once. ValueError if no window
    fits.
    """

    def __init__(
        self,
        tokens: np.ndarray | Sequence[np.ndarray],
        context_length: int,
        batch_size: int,
        generator: torch.Generator,
        starts: np.ndarray | None = None,
        device: torch.device | str = "cpu",
        rank: int = 0,
        world_size: int = 1,
    ):
        shards = [tokens] if isinstance(tokens, np.ndarray) else list(tokens)
        check_length(max(map(len, shards)), context_length)
        if batch_size % world_size:
            raise ValueError(
                f"{world_size} processes cannot share a batch of {batch_size} evenly; choose a"
                " multiple"
            )
        self.shards = [shard for shard in shards if len(shard) > context_length]
        self.ends = np.cumsum([len(shard) - context_length for shard in self.shards])  # in windows
        self.starts = None if starts is None else starts[starts < self.ends[-1]]
        if self.starts is not None and not len(self.starts):
            raise ValueError(
                f"no document begins {context_length + 1} tokens before the end of the text; "
                "take a longer text or a shorter window"
            )
        self.context_length = context_length
        self.batch_size = batch_size
        self.rank, self.world_size = rank, world_size
        self.generator, self.device = generator, torch.device(device)

    def __iter__(self) -> Iterator[Batch]:
        return self

    def _window(self, number: int) -> np.ndarray:
        shard = np.searchsorted(self.ends, number, side="right")
        start = number - (self.ends[shard - 1] if shard else 0)
        return self.shards[shard][start : start + self.context_length + 1]

    def __next__(self) -> Batch:
        n_choices = int(self.ends[-1]) if self.starts is None else len(self.starts)
        # every process draws the whole batch, so that the generators stay in step
        drawn = torch.randint(n_choices, (self.batch_size,), generator=self.generator).numpy()
        drawn = drawn.reshape(self.world_size, -1)[self.rank]
        if self.starts is not None:
            drawn = self.starts[drawn]
        windows = np.stack([self._window(number) for number in drawn]).astype(np.int64)
        buffer = torch.from_numpy(windows)  # (B, T + 1)
        if self.device.type == "cuda":
            buffer = buffer.pin_memory()
        buffer = buffer.to(self.device, non_blocking=True)
        return buffer[:, :-1], buffer[:, 1:]

    def state_dict(self) -> dict:
        """What decides the next batches."""
        return {"generator": self.generator.get_state()}

    def load_state_dict(self, state: dict) -> None:
        """Continue with the batches that would have followed."""
        self.generator.set_state(state["generator"])


def sequential_windows(
    tokens: np.ndarray, context_length: int, batch_size: int, device: torch.device | str = "cpu"
) -> Iterator[Batch]:
    """Batches (inputs, targets), int64 (B, T) each, that predict every token but the first exactly
    once.

    The last window is padded, with targets of IGNORE. ValueError if there is nothing to predict.
    """
    if len(tokens) < 2:
        raise ValueError(
            f"the text has {len(tokens)} tokens, evaluation needs 2; take a longer text"
        )
    T = context_length
    for first in range(0, len(tokens) - 1, batch_size * T):
        chunk = torch.from_numpy(
            np.asarray(tokens[first : first + batch_size * T + 1]).astype(np.int64)
        )
        inputs, targets = chunk[:-1], chunk[1:]
        missing = -len(inputs) % T
        if len(inputs) < T:  # a single short window needs no padding
            missing = 0
        inputs = torch.nn.functional.pad(inputs, (0, missing))
        targets = torch.nn.functional.pad(targets, (0, missing), value=IGNORE)
        width = min(T, len(inputs))
        yield inputs.view(-1, width).to(device), targets.view(-1, width).to(device)


def right_pad(
    rows: Sequence[Sequence[int]], value: int = 0, device: torch.device | str = "cpu"
) -> Tensor:
    """Rows of ids -> (B, longest), int64, padded with `value` on the right.

    >>> right_pad([[1, 2, 3], [4]])
    tensor([[1, 2, 3],
            [4, 0, 0]])
    """
    tensors = [torch.as_tensor(row, dtype=torch.long) for row in rows]
    return pad_sequence(tensors, batch_first=True, padding_value=value).to(device)


def batches_by_length(lengths: Sequence[int], batch_size: int) -> Iterator[list[int]]:
    """Row numbers in batches, the shortest rows first: rows of one batch have about the same
    length, so that little is spent on padding.

    >>> list(batches_by_length([30, 5, 31, 4], batch_size=2))
    [[3, 1], [0, 2]]
    """
    order = sorted(range(len(lengths)), key=lengths.__getitem__)
    for first in range(0, len(order), batch_size):
        yield order[first : first + batch_size]


def create_dataloader_v1(
    txt: str,
    batch_size: int = 4,
    max_length: int = 256,
    stride: int = 128,
    shuffle: bool = True,
    drop_last: bool = True,
    num_workers: int = 0,
    tokenizer: Tokenizer | None = None,
) -> DataLoader:
    """The book's name of `create_dataloader`; GPT-2's tokenizer by default."""
    return create_dataloader(
        txt,
        tokenizer or gpt2_tokenizer(),
        batch_size,
        max_length,
        stride,
        shuffle,
        drop_last,
        num_workers,
    )
