"""From texts to batches: token ids padded on the right, with the true lengths, so that padding
never changes a result.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ch01_text import right_pad
from ch05_classification.dataset import LabelledTexts

Batch = tuple[Tensor, Tensor, Tensor]  # ids (B, T) int64, lengths (B,) int64, labels (B,) int64


@dataclass(frozen=True)
class TokenizedDataset:
    """Labelled texts as token ids, `<|endoftext|>` before each text, as in pretraining."""

    rows: list[list[int]]
    labels: Tensor  # (n,) int64
    n_truncated: int  # texts that exceeded the context length


def tokenize(
    tokenizer, texts: LabelledTexts, context_length: int, keep: str = "first"
) -> TokenizedDataset:
    """Encode the texts. Of one that exceeds `context_length` the "first" tokens are kept, or the
    "last" (for a text that ends in a question). ValueError if a text is empty.
    """
    if "" in map(str.strip, texts.texts):
        raise ValueError("a text is empty; there is nothing to classify")
    encoded = [tokenizer.encode(text) for text in texts.texts]
    room = context_length - 1  # one position belongs to <|endoftext|>
    rows = [
        [tokenizer.eot_id, *(ids[:room] if keep == "first" else ids[-room:])] for ids in encoded
    ]
    n_truncated = sum(len(ids) > room for ids in encoded)
    return TokenizedDataset(rows, torch.as_tensor(texts.labels), n_truncated)


def collate(
    rows: list[list[int]], labels: Tensor, pad_id: int, device: torch.device | str = "cpu"
) -> Batch:
    """Rows of ids -> one batch, padded to the longest row."""
    lengths = torch.tensor([len(row) for row in rows])
    return right_pad(rows, pad_id, device), lengths.to(device), labels.to(device)


def batches(
    dataset: TokenizedDataset, batch_size: int, pad_id: int, device: torch.device | str = "cpu"
) -> Iterator[Batch]:
    """All rows once, in order."""
    for first in range(0, len(dataset.rows), batch_size):
        last = first + batch_size
        yield collate(dataset.rows[first:last], dataset.labels[first:last], pad_id, device)


def shuffled_groups(
    lengths: Sequence[int], batch_size: int, generator: np.random.Generator
) -> Iterator[list[int]]:
    """Row numbers of endless batches: each epoch is shuffled, and rows of similar length share a
    batch to keep padding short. ValueError if there are no rows.
    """
    if not len(lengths):
        raise ValueError("there is nothing to make batches of; give at least one row")
    n_tokens = np.asarray(lengths)
    while True:
        order = generator.permutation(len(lengths))
        # Sorting within pools of 16 batches, not over all rows, leaves each batch random enough.
        for pool in np.array_split(order, max(1, len(order) // (16 * batch_size))):
            by_length = pool[np.argsort(n_tokens[pool], kind="stable")]
            groups = [
                by_length[first : first + batch_size] for first in range(0, len(pool), batch_size)
            ]
            for number in generator.permutation(len(groups)):
                yield groups[number].tolist()


def shuffled_batches(
    dataset: TokenizedDataset,
    batch_size: int,
    pad_id: int,
    generator: np.random.Generator,
    device: torch.device | str = "cpu",
) -> Iterator[Batch]:
    """Endless shuffled batches."""
    for rows in shuffled_groups([len(row) for row in dataset.rows], batch_size, generator):
        yield collate([dataset.rows[row] for row in rows], dataset.labels[rows], pad_id, device)
