"""Next-token loss that counts answers more: the curriculum of the storyworld model.

Three tokens in four of a story cannot be foreseen; the few that answer a question can, and only they
show whether the state was tracked. Counting them `1 + weight` times points the gradient at them.
"""

import torch
from torch import Tensor

from ch01_text.storyworld.notes import THOUGHT
from ch03_gpt import GPTModel
from ch04_pretraining.chunked_loss import head_loss, hidden_rows
from ch04_pretraining.loss import Batch


def answer_mask(inputs: Tensor, newline: int, mark: tuple[int, ...]) -> Tensor:
    """(B, T) ids -> (B, T) booleans: is the next token part of an answer, its final newline included?

    An answer begins behind the tokens of `mark` ("A:") and ends with its line.

    >>> answer_mask(torch.tensor([[7, 8, 9, 5, 0, 8, 5]]), newline=0, mark=(8, 9)).int()
    tensor([[0, 0, 1, 1, 0, 0, 0]], dtype=torch.int32)
    """
    T = inputs.shape[1]
    positions = torch.arange(T, device=inputs.device)
    marked = torch.ones_like(inputs, dtype=torch.bool)
    for back, token in enumerate(reversed(mark)):
        marked[:, :back] = False
        marked[:, back:] &= inputs[:, : T - back] == token
    last_mark = torch.where(marked, positions, -1).cummax(dim=1).values
    last_newline = torch.where(inputs == newline, positions, -1).cummax(dim=1).values
    return last_mark > last_newline


class AnswerLoss:
    """A loss function for `train`: the weighted mean over tokens; answers, and what they follow from, count
    `1 + weight` times."""

    def __init__(self, tokenizer, weight: float = 10.0, marks: tuple[str, ...] = ("A:", THOUGHT)):
        self.weight = weight
        self.newline = tokenizer.encode("\n")[0]
        self.marks = [tuple(tokenizer.encode(mark)) for mark in marks]

    def __call__(self, model: GPTModel, batch: Batch) -> tuple[Tensor, Tensor]:
        """(inputs (B, T), targets (B, T)) -> (weighted sum of losses, sum of weights)."""
        inputs, targets = batch
        hidden, targets = hidden_rows(model, inputs), targets.flatten()  # (B T, C), (B T,)
        total, count = head_loss(model, hidden, targets)
        asked = torch.stack([answer_mask(inputs, self.newline, mark) for mark in self.marks]).any(dim=0).flatten()
        extra, extra_count = head_loss(model, hidden[asked], targets[asked])
        return total + self.weight * extra, count + self.weight * extra_count
