"""A GPT that predicts a class instead of the next token: a new head on one hidden state.

Under the causal mask only the last token attends to the whole text, so the head reads its hidden
state (the book, section 6.5): that of the last real token, not of the padding. The other kinds of
pooling are there to be compared.
"""

from collections.abc import Sequence
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from ch03_gpt import GPTModel

Pooling = Literal["last", "first", "mean", "max", "padding"]
Trainable = Literal["all", "last-block", "head"]


class GPTClassifier(nn.Module):
    """ids (B, T), lengths (B,) int64 -> logits (B, n_classes).

    `model` becomes part of the classifier, and its output head is replaced. `pooling` selects the
    hidden state that the new head reads: of the "last" real token, of the "first" one, the "mean"
    or the maximum ("max") over all real tokens, or of the last position, whatever stands there
    ("padding").
    """

    def __init__(self, model: GPTModel, n_classes: int, pooling: Pooling = "last"):
        super().__init__()
        if pooling not in get_args(Pooling):
            raise ValueError(
                f"unknown pooling {pooling!r}; choose one of {', '.join(get_args(Pooling))}"
            )
        if n_classes < 2:
            raise ValueError(f"a classifier needs at least 2 classes, not {n_classes}")
        self.model, self.pooling = model, pooling
        model.out_head = nn.Linear(model.config.emb_dim, n_classes, device=model.device)
        nn.init.normal_(model.out_head.weight, std=0.02)
        nn.init.zeros_(model.out_head.bias)

    @property
    def head(self) -> nn.Linear:
        return self.model.out_head

    @torch.no_grad()
    def init_head_from_verbalizers(self, tokens: Sequence[int]) -> None:
        """Set the head's row of each class to the embedding of the token that names the class, its
        verbalizer (Schick & Schuetze 2021). The classifier then starts with the language model's
        own predictions.
        """
        self.head.weight.copy_(self.model.tok_emb.weight[list(tokens)])

    def forward(self, ids: Tensor, lengths: Tensor) -> Tensor:
        hidden = self.model.hidden_states(ids)  # (B, T, C)
        positions = torch.arange(ids.shape[1], device=ids.device)
        real = (positions < lengths[:, None]).unsqueeze(2)  # (B, T, 1)
        if self.pooling == "mean":
            pooled = (hidden * real).sum(dim=1) / lengths[:, None]  # (B, C)
        elif self.pooling == "max":
            pooled = hidden.masked_fill(~real, float("-inf")).amax(dim=1)
        else:
            position = {
                "last": lengths - 1,
                "first": torch.zeros_like(lengths),
                "padding": torch.full_like(lengths, ids.shape[1] - 1),
            }[self.pooling]
            pooled = hidden[torch.arange(len(ids), device=ids.device), position]
        return self.head(pooled)  # (B, n_classes)


def freeze_except(classifier: GPTClassifier, trainable: Trainable) -> None:
    """Freeze every weight except "all" (none is frozen), the "last-block" with the final norm and
    the head (the book's choice), or the "head".
    """
    model = classifier.model
    parts: dict[str, list[nn.Module]] = {
        "all": [model],
        "last-block": [model.trf_blocks[-1], model.final_norm, model.out_head],
        "head": [model.out_head],
    }
    if trainable not in parts:
        raise ValueError(f"unknown part {trainable!r}; choose one of {', '.join(parts)}")
    classifier.requires_grad_(False)
    for module in parts[trainable]:
        module.requires_grad_(True)
