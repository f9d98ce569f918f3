"""The book's names of its instruction chapter and of its preference-tuning supplement, over this
project's functions.

Its prompts are plain text without special tokens, so that everything is learned, what the user says
included, and a response ends with `<|endoftext|>`, which also fills rows up.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import Dataset

from ch06_instruction.batches import IGNORED, Batch
from ch06_instruction.conversations import alpaca_prompt, require_texts
from ch06_instruction.preference_losses import PairLogProbs, dpo

format_input = alpaca_prompt


def _with_response(entry: Mapping[str, Any], name: str) -> str:
    """The prompt of an entry and, under a heading, its field `name`; ValueError where that is
    missing or empty.
    """
    require_texts(entry, name)
    return f"{format_input(entry)}\n\n### Response:\n{entry[name]}"


class InstructionDataset(Dataset):
    """Entries {"instruction", "input", "output"}, encoded once: items are lists of ids, prompt and
    response together.

    `tokenizer`: anything with `encode(text)`. ValueError where the instruction or the output is
        missing or empty.
    """

    def __init__(self, data: Sequence[Mapping[str, Any]], tokenizer):
        self.data = data
        self.encoded_texts = [tokenizer.encode(_with_response(entry, "output")) for entry in data]

    def __len__(self) -> int:
        return len(self.encoded_texts)

    def __getitem__(self, index: int) -> list[int]:
        return self.encoded_texts[index]


def custom_collate_fn(
    batch: Sequence[Sequence[int]],
    pad_token_id: int = 50_256,
    ignore_index: int = IGNORED,
    allowed_max_length: int | None = None,
    device: torch.device | str = "cpu",
) -> Batch:
    """B lists of ids -> inputs (B, T), targets (B, T), int64: T the longest, or
    `allowed_max_length` if that is less.

    Every row gets one `pad_token_id` as its end, and more up to the longest row's. A row's first
    one in the targets is learned, all later ones are `ignore_index`, wherever they stand.
    ValueError where there is no row.

    >>> custom_collate_fn([[1, 2, 3], [4]], pad_token_id=9)
    (tensor([[1, 2, 3],
            [4, 9, 9]]), tensor([[   2,    3,    9],
            [   9, -100, -100]]))
    """
    if not len(batch):
        raise ValueError("there is no row to make a batch of; give at least one list of ids")
    rows = [torch.tensor([*ids, pad_token_id]) for ids in batch]
    filled = pad_sequence(rows, batch_first=True, padding_value=pad_token_id)  # (B, longest + 1)
    inputs, targets = filled[:, :-1], filled[:, 1:]
    pads = targets == pad_token_id
    targets = targets.masked_fill(pads & (pads.cumsum(dim=1) > 1), ignore_index)
    inputs, targets = (
        ids[:, :allowed_max_length].contiguous().to(device) for ids in (inputs, targets)
    )
    return inputs, targets


class PreferenceDataset(Dataset):
    """Entries with "instruction", "input", "chosen" and "rejected", encoded once: items are
    dictionaries of lists of ids, "prompt", and the prompt with either response, "chosen" and
    "rejected".

    `tokenizer`: anything with `encode(text)`. ValueError where a field but the input is missing or
        empty.
    """

    def __init__(self, data: Sequence[Mapping[str, Any]], tokenizer):
        self.data = data
        self.encoded_texts = [
            {
                "prompt": tokenizer.encode(format_input(entry)),
                **{
                    name: tokenizer.encode(_with_response(entry, name))
                    for name in ("chosen", "rejected")
                },
            }
            for entry in data
        ]

    def __len__(self) -> int:
        return len(self.encoded_texts)

    def __getitem__(self, index: int) -> dict[str, list[int]]:
        return self.encoded_texts[index]


def compute_logprobs(
    logits: Tensor, labels: Tensor, selection_mask: Tensor | None = None
) -> Tensor:
    """Logits (B, T, V) of the ids `labels` (B, T), which of these count (B, T; by default all) ->
    (B,): the mean log-probability of those that count. The first has nothing before it and never
    does; NaN where none is left.
    """
    # (B, T - 1)
    log_probs = -F.cross_entropy(logits[:, :-1].transpose(1, 2), labels[:, 1:], reduction="none")
    if selection_mask is None:
        return log_probs.mean(dim=1)
    counts = selection_mask[:, 1:]
    return (log_probs * counts).sum(dim=1) / counts.sum(dim=1)


def compute_dpo_loss(
    model_chosen_logprobs: Tensor,
    model_rejected_logprobs: Tensor,
    reference_chosen_logprobs: Tensor,
    reference_rejected_logprobs: Tensor,
    beta: float = 0.1,
) -> tuple[Tensor, Tensor, Tensor]:
    """Log-probabilities (B,) of the responses under the model and the reference -> means over B:
    DPO's loss, with gradient, and without it the rewards of the chosen and of the rejected ones,
    log-ratios not yet times beta.

    Rafailov et al. 2023, equation 7. The book feeds it means over tokens where the paper has sums.
    """
    lengths = torch.ones_like(model_chosen_logprobs)  # DPO does not ask for them
    pairs = PairLogProbs(
        model_chosen_logprobs,
        model_rejected_logprobs,
        reference_chosen_logprobs,
        reference_rejected_logprobs,
        lengths,
        lengths,
    )
    return (
        dpo(pairs, beta).mean(),
        pairs.chosen_gain.detach().mean(),
        pairs.rejected_gain.detach().mean(),
    )
