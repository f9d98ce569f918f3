"""Conversations of unequal lengths as one tensor: padded, or several packed into one row.

The book (section 7.3) pads with `<|endoftext|>` and keeps the first padding token of each row as a
target, so that the model learns to stop; the others become -100, which cross-entropy ignores. Our
template ends each message with a token of its own, so no padding is ever a target, and neither are
the user's words.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from ch01_text import IGNORE
from ch05_classification.encoding import shuffled_groups
from ch06_instruction.chat import EncodedChat

Batch = tuple[Tensor, Tensor]  # inputs (B, T) int64, targets (B, T) int64 with IGNORE


def collate(
    chats: Sequence[EncodedChat],
    pad_id: int,
    device: torch.device | str = "cpu",
    train_on_prompt: bool = False,
) -> Batch:
    """Conversations -> inputs (B, T) and targets (B, T), where T is the longest length less one.

    With `train_on_prompt` every token is a target, the user's words included.

    >>> long = EncodedChat([9, 1, 2, 3], [False, False, True, True])
    >>> collate([long, EncodedChat([9, 4], [False, True])], 9)
    (tensor([[9, 1, 2],
            [9, 9, 9]]), tensor([[-100,    2,    3],
            [   4, -100, -100]]))
    """
    longest = max(len(chat.ids) for chat in chats) - 1
    inputs = torch.full((len(chats), longest), pad_id)
    targets = torch.full((len(chats), longest), IGNORE)
    for row, chat in enumerate(chats):
        ids, n = torch.tensor(chat.ids), len(chat.ids) - 1
        inputs[row, :n] = ids[:-1]
        learned = torch.tensor(chat.assistant_mask[1:], dtype=torch.bool) | train_on_prompt
        targets[row, :n] = torch.where(learned, ids[1:], IGNORE)
    return inputs.to(device), targets.to(device)


def pack(chats: Sequence[EncodedChat], length: int) -> list[EncodedChat]:
    """Concatenate conversations into rows of at most `length` ids, to waste less on padding.

    Best-fit decreasing (Ding et al. 2024): the longest conversation first, each into the fullest
    row that still has room. A row's later conversations attend to its earlier ones, as documents do
    in pretraining; the `<|endoftext|>` between them marks that they are unrelated.
    """
    rows: list[EncodedChat] = []
    for chat in sorted(chats, key=lambda chat: -len(chat.ids)):
        fitting = [row for row in rows if len(row.ids) + len(chat.ids) <= length]
        if fitting:
            best = max(fitting, key=lambda row: len(row.ids))
            best.ids.extend(chat.ids)
            best.assistant_mask.extend(chat.assistant_mask)
        else:
            rows.append(EncodedChat(list(chat.ids), list(chat.assistant_mask), chat.truncated))
    return rows


def chat_batches(
    chats: Sequence[EncodedChat],
    batch_size: int,
    pad_id: int,
    generator: np.random.Generator,
    device: torch.device | str = "cpu",
    train_on_prompt: bool = False,
) -> Iterator[Batch]:
    """Yield shuffled batches of conversations without end."""
    for rows in shuffled_groups([len(chat.ids) for chat in chats], batch_size, generator):
        yield collate([chats[row] for row in rows], pad_id, device, train_on_prompt)
