"""A GPT that chooses a class instead of the next token: a new head, and one position that it looks
at.

Under the causal mask only the last token has seen the whole text, so that is where the head looks
(the book, section 6.5): the last real one, not the filling. The other choices are for comparison.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ch03_gpt import GPTModel
from ch05_classification.bidirectional import WholeText

POOLINGS = ("last", "first", "mean", "max", "padding")


class GPTClassifier(nn.Module):
    """ids (B, T), lengths (B,) int64 -> logits (B, n_classes).

    `model` is taken over and loses its output head to a new one. `pooling`: the hidden state of the
    "last" real token, of the "first", their "mean", their maximum ("max"), or whatever stands at
    the end of the row ("padding"). `causal=False`: every token sees the whole text.
    """

    def __init__(self, model: GPTModel, n_classes: int, pooling: str = "last", causal: bool = True):
        super().__init__()
        if pooling not in POOLINGS:
            raise ValueError(f"unknown pooling {pooling!r}; choose one of {', '.join(POOLINGS)}")
        if n_classes < 2:
            raise ValueError(f"a classifier needs at least 2 classes, not {n_classes}")
        self.model, self.pooling, self.causal = model, pooling, causal
        weight = model.tok_emb.weight
        model.out_head = nn.Linear(model.config.emb_dim, n_classes, device=weight.device)
        nn.init.normal_(model.out_head.weight, std=0.02)
        nn.init.zeros_(model.out_head.bias)

    @property
    def head(self) -> nn.Linear:
        return self.model.out_head

    @torch.no_grad()
    def begin_with_words(self, tokens: Sequence[int]) -> None:
        """Let the head's row of each class be the embedding of the token that begins to write it:
        then the classifier starts with the language model's opinion (Schick & Schuetze 2021 call
        such a token a verbalizer).
        """
        self.head.weight.copy_(self.model.tok_emb.weight[list(tokens)])

    def hidden_states(self, ids: Tensor, lengths: Tensor) -> Tensor:
        if self.causal:
            return self.model.hidden_states(ids)
        return self.model.hidden_states(ids, WholeText(lengths))

    def forward(self, ids: Tensor, lengths: Tensor) -> Tensor:
        hidden = self.hidden_states(ids, lengths)  # (B, T, C)
        # (B, T, 1)
        real = (torch.arange(ids.shape[1], device=ids.device) < lengths[:, None]).unsqueeze(2)
        if self.pooling == "mean":
            pooled = (hidden * real).sum(dim=1) / lengths[:, None]
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


def train_only(classifier: GPTClassifier, part: str) -> None:
    """Freeze all but a part: "all" of it, the "last-block" with the final norm and the head (the
    book's choice), or the "head".
    """
    model = classifier.model
    parts = {
        "all": [model],
        "last-block": [model.trf_blocks[-1], model.final_norm, model.out_head],
        "head": [model.out_head],
    }
    if part not in parts:
        raise ValueError(f"unknown part {part!r}; choose one of {', '.join(parts)}")
    classifier.requires_grad_(False)
    for module in parts[part]:
        module.requires_grad_(True)
