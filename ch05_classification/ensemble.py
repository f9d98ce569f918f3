"""Classifiers that vote (Lakshminarayanan et al. 2017): what one learned by chance, the others
outvote.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ch03_gpt import GPTModel
from ch05_classification.classifier import GPTClassifier


class Ensemble(nn.Module):
    """ids (B, T), lengths (B,) int64 -> (B, n_classes): the mean of the members'
    log-probabilities.
    """

    def __init__(self, members: Sequence[GPTClassifier]):
        super().__init__()
        self.members = nn.ModuleList(members)

    @property
    def model(self) -> GPTModel:
        """The language model of the first member; all have its shape."""
        return self.members[0].model

    def forward(self, ids: Tensor, lengths: Tensor) -> Tensor:
        return torch.stack(
            [F.log_softmax(member(ids, lengths).float(), dim=1) for member in self.members]
        ).mean(dim=0)
