"""The book's names, from its instruction chapter and its preference-tuning supplement, on top of
this project's functions.

The book's prompts are plain text without special tokens. So the user's words are learned too, and a
response ends with `<|endoftext|>`, which is also the padding token.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import Dataset

from ch01_text import IGNORE
from ch06_instruction.batches import Batch
from ch06_instruction.chat_datasets import alpaca_prompt, require_texts
from ch06_instruction.preference_losses import PairLogProbs, dpo

format_input = alpaca_prompt


def _with_response(entry: Mapping[str, Any], name: str) -> str:
    """The prompt of an entry and its field `name`; ValueError if that is missing or empty."""
    require_texts(entry, name)
    return f"{format_input(entry)}\n\n### Response:\n{entry[name]}"


class InstructionDataset(Dataset):
    """Entries {"instruction", "input", "output"}, encoded once; an item is the ids of the prompt
    and the response.

    `tokenizer` is anything with `encode(text)`. ValueError if an instruction or an output is
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
    ignore_index: int = IGNORE,
    allowed_max_length: int | None = None,
    device: torch.device | str = "cpu",
) -> Batch:
    """B lists of ids -> inputs and targets (B, T) int64, where T is the longest length, or
    `allowed_max_length` if that is less.

    Each row ends with a `pad_token_id` and is padded with more. In the targets the first one of a
    row is learned and all others become `ignore_index`. ValueError if the batch is empty.

    >>> custom_collate_fn([[1, 2, 3], [4]], pad_token_id=9)
    (tensor([[1, 2, 3],
            [4, 9, 9]]), tensor([[   2,    3,    9],
            [   9, -100, -100]]))
    """
    if not len(batch):
        raise ValueError("there is no row to make a batch of; give at least one list of ids")
    rows = [torch.tensor([*ids, pad_token_id]) for ids in batch]
    padded = pad_sequence(rows, batch_first=True, padding_value=pad_token_id)  # (B, longest + 1)
    inputs, targets = padded[:, :-1], padded[:, 1:]
    pads = targets == pad_token_id
    targets = targets.masked_fill(pads & (pads.cumsum(dim=1) > 1), ignore_index)
    inputs, targets = (
        ids[:, :allowed_max_length].contiguous().to(device) for ids in (inputs, targets)
    )
    return inputs, targets


class PreferenceDataset(Dataset):
    """Entries {"instruction", "input", "chosen", "rejected"}, encoded once; an item has the ids of
    the "prompt", and of the prompt with each response, "chosen" and "rejected".

    `tokenizer` is anything with `encode(text)`. ValueError if a field other than the input is
    missing or empty.
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
    """Logits (B, T, V), ids `labels` (B, T) and a mask (B, T), by default all True -> (B,): the
    mean log-probability of the ids inside the mask. The first id is never predicted; NaN if no
    other is inside.
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
    """Log-probabilities (B,) of the responses under the model and the reference -> means over B of
    DPO's loss and, detached, of the log-ratios of the chosen and the rejected responses.

    Rafailov et al. 2023, equation 7. The book feeds it means over tokens where the paper has sums.
    """
    lengths = torch.ones_like(model_chosen_logprobs)  # not used by DPO
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
        pairs.chosen_logratios.detach().mean(),
        pairs.rejected_logratios.detach().mean(),
    )
