"""Next-token loss that counts answers more: the curriculum of the storyworld model.

Three tokens in four of a story cannot be foreseen; the few that answer a question can, and only
they show whether the state was tracked. Counting them `1 + weight` times points the gradient at
them.
"""

import torch
from torch import Tensor

from ch03_gpt import GPTModel
from ch04_pretraining.chunked_loss import head_loss, hidden_rows
from ch04_pretraining.loss import Batch


def answer_mask(inputs: Tensor, newline: int, mark: tuple[int, int]) -> Tensor:
    """(B, T) ids -> (B, T) booleans: is the next token part of an answer, its final newline
    included?

    An answer begins behind the two tokens of `mark` ("A:") and ends with its line.

    >>> answer_mask(torch.tensor([[7, 8, 9, 5, 0, 8, 5]]), newline=0, mark=(8, 9)).int()
    tensor([[0, 0, 1, 1, 0, 0, 0]], dtype=torch.int32)
    """
    positions = torch.arange(inputs.shape[1], device=inputs.device)
    marked = torch.zeros_like(inputs, dtype=torch.bool)
    marked[:, 1:] = (inputs[:, :-1] == mark[0]) & (inputs[:, 1:] == mark[1])
    last_mark = torch.where(marked, positions, -1).cummax(dim=1).values
    last_newline = torch.where(inputs == newline, positions, -1).cummax(dim=1).values
    return last_mark > last_newline


class AnswerLoss:
    """A loss function for `train`: the weighted mean over tokens, answers counting `1 + weight`
    times.
    """

    def __init__(self, tokenizer, weight: float = 5.0):
        self.weight = weight
        self.newline = tokenizer.encode("\n")[0]
        self.mark = tuple(tokenizer.encode("A:"))
        if len(self.mark) != 2:
            raise ValueError(
                f"the tokenizer cuts 'A:' into {len(self.mark)} tokens, not 2; train it on more"
                " text"
            )

    def __call__(self, model: GPTModel, batch: Batch) -> tuple[Tensor, Tensor]:
        """(inputs (B, T), targets (B, T)) -> (weighted sum of losses, sum of weights)."""
        inputs, targets = batch
        hidden, targets = hidden_rows(model, inputs), targets.flatten()  # (B T, C), (B T,)
        total, count = head_loss(model, hidden, targets)
        asked = answer_mask(inputs, self.newline, self.mark).flatten()
        extra, extra_count = head_loss(model, hidden[asked], targets[asked])
        return total + self.weight * extra, count + self.weight * extra_count
