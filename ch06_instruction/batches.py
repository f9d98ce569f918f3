"""Conversations of unequal lengths as one tensor: filled up, or several packed into one row.

The book's rule for filling (section 7.3): the ids are filled with `<|endoftext|>`, and in the
targets every filling but the first becomes -100, which cross-entropy ignores. Here a message has an
end of its own, so no filling is learned, and neither is what the user says.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from ch05_classification.encoding import shuffled_groups
from ch06_instruction.chat import EncodedChat

IGNORED = -100
# inputs (B, T) int64, targets (B, T) int64, IGNORED where nothing is learned
Batch = tuple[Tensor, Tensor]


def collate(
    chats: Sequence[EncodedChat],
    pad_id: int,
    device: torch.device | str = "cpu",
    everything: bool = False,
) -> Batch:
    """Conversations -> inputs (B, T), targets (B, T), T the longest less one; `everything`: learn
    the user's words too.

    >>> long = EncodedChat([9, 1, 2, 3], [False, False, True, True])
    >>> collate([long, EncodedChat([9, 4], [False, True])], 9)
    (tensor([[9, 1, 2],
            [9, 9, 9]]), tensor([[-100,    2,    3],
            [   4, -100, -100]]))
    """
    longest = max(len(chat.ids) for chat in chats) - 1
    inputs = torch.full((len(chats), longest), pad_id)
    targets = torch.full((len(chats), longest), IGNORED)
    for row, chat in enumerate(chats):
        ids, n = torch.tensor(chat.ids), len(chat.ids) - 1
        inputs[row, :n] = ids[:-1]
        learned = torch.ones(n, dtype=torch.bool) if everything else torch.tensor(chat.said[1:])
        targets[row, :n] = torch.where(learned, ids[1:], IGNORED)
    return inputs.to(device), targets.to(device)


def pack(chats: Sequence[EncodedChat], length: int) -> list[EncodedChat]:
    """Put conversations one behind the other into rows of at most `length` ids, the longest first,
    each where it leaves least room (best-fit decreasing; Ding et al. 2024). A row's later
    conversations see its earlier ones, as documents do in pretraining; `<|endoftext|>` between them
    says that they have nothing to do with each other.
    """
    rows: list[EncodedChat] = []
    for chat in sorted(chats, key=lambda chat: -len(chat.ids)):
        fitting = [row for row in rows if len(row.ids) + len(chat.ids) <= length]
        if fitting:
            best = max(fitting, key=lambda row: len(row.ids))
            best.ids.extend(chat.ids)
            best.said.extend(chat.said)
        else:
            rows.append(EncodedChat(list(chat.ids), list(chat.said), chat.truncated))
    return rows


def chat_batches(
    chats: Sequence[EncodedChat],
    batch_size: int,
    pad_id: int,
    generator: np.random.Generator,
    device: torch.device | str = "cpu",
    everything: bool = False,
) -> Iterator[Batch]:
    """Endless shuffled batches of conversations."""
    for rows in shuffled_groups([len(chat.ids) for chat in chats], batch_size, generator):
        yield collate([chats[row] for row in rows], pad_id, device, everything)


def share_of_filling(
    chats: Sequence[EncodedChat], batch_size: int, generator: np.random.Generator
) -> float:
    """The share of a pass's positions that hold filling."""
    groups = shuffled_groups([len(chat.ids) for chat in chats], batch_size, generator)
    seen = filled = total = 0
    while seen < len(chats):
        rows = next(groups)
        lengths = [len(chats[row].ids) for row in rows]
        seen += len(rows)
        filled += sum(max(lengths) - length for length in lengths)
        total += max(lengths) * len(rows)
    return filled / total
