"""From texts to batches: ids filled up on the right, and the true lengths, so that the filling
never matters.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ch05_classification.examples import Examples

Batch = tuple[Tensor, Tensor, Tensor]  # ids (B, T) int64, lengths (B,) int64, labels (B,) int64


@dataclass(frozen=True)
class Encoded:
    """Examples as token ids, `<|endoftext|>` before each text, as in pretraining."""

    rows: list[list[int]]
    labels: Tensor  # (n,) int64
    truncated: int  # texts that did not fit the context

    def __add__(self, other: "Encoded") -> "Encoded":
        return Encoded(
            self.rows + other.rows,
            torch.cat((self.labels, other.labels)),
            self.truncated + other.truncated,
        )


def encode_examples(
    tokenizer, examples: Examples, context_length: int, keep: str = "first"
) -> Encoded:
    """Encode texts, cut to the `context_length`: the "first" tokens stay, or the "last" (for a
    question at the end).

    ValueError where a text is empty.
    """
    if "" in map(str.strip, examples.texts):
        raise ValueError("a text is empty; there is nothing to classify")
    encoded = [tokenizer.encode(text) for text in examples.texts]
    room = context_length - 1
    rows = [
        [tokenizer.eot_id, *(ids[:room] if keep == "first" else ids[-room:])] for ids in encoded
    ]
    return Encoded(rows, torch.as_tensor(examples.labels), sum(len(ids) > room for ids in encoded))


def collate(
    rows: list[list[int]], labels: Tensor, pad_id: int, device: torch.device | str = "cpu"
) -> Batch:
    """Rows of ids -> a batch as long as the longest."""
    lengths = torch.tensor([len(row) for row in rows])
    ids = torch.full((len(rows), int(lengths.max())), pad_id)
    for number, row in enumerate(rows):
        ids[number, : len(row)] = torch.tensor(row)
    return ids.to(device), lengths.to(device), labels.to(device)


def batches(
    encoded: Encoded, batch_size: int, pad_id: int, device: torch.device | str = "cpu"
) -> Iterator[Batch]:
    """All rows once, in their order."""
    for first in range(0, len(encoded.rows), batch_size):
        last = first + batch_size
        yield collate(encoded.rows[first:last], encoded.labels[first:last], pad_id, device)


def shuffled_groups(
    lengths: Sequence[int], batch_size: int, generator: np.random.Generator
) -> Iterator[list[int]]:
    """Row numbers of endless batches: each pass is shuffled, and rows of about the same length come
    together, so that little is filled up. ValueError where there is no row.
    """
    if not len(lengths):
        raise ValueError("there is nothing to make batches of; give at least one row")
    lengths = np.asarray(lengths)
    while True:
        order = generator.permutation(len(lengths))
        for pool in np.array_split(order, max(1, len(order) // (16 * batch_size))):
            by_length = pool[np.argsort(lengths[pool], kind="stable")]
            groups = [
                by_length[first : first + batch_size] for first in range(0, len(pool), batch_size)
            ]
            for number in generator.permutation(len(groups)):
                yield groups[number].tolist()


def shuffled_batches(
    encoded: Encoded,
    batch_size: int,
    pad_id: int,
    generator: np.random.Generator,
    device: torch.device | str = "cpu",
) -> Iterator[Batch]:
    """Endless shuffled batches of rows."""
    for rows in shuffled_groups([len(row) for row in encoded.rows], batch_size, generator):
        yield collate([encoded.rows[row] for row in rows], encoded.labels[rows], pad_id, device)
