"""A model of what is preferred: a language model with one number at the end instead of a next
token.

Bradley and Terry 1952: the better of two responses is preferred with probability sigmoid(difference
of their scores), as in Ouyang et al. 2022, section 3.5.
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ch03_gpt import GPTModel, Precision
from ch04_pretraining import SCHEDULES, TrainState, make_optimizers, train
from ch05_classification import calibration_error
from ch05_classification.encoding import shuffled_groups
from ch06_instruction.chat import EncodedChat

Rows = tuple[Tensor, Tensor]  # ids (B, T) int64, index of the last real token (B,) int64


class ScoreModel(nn.Module):
    """ids (B, T) -> a score of every position (B, T), float32; `model` is copied, its output
    head replaced.
    """

    def __init__(self, model: GPTModel):
        super().__init__()
        self.body = copy.deepcopy(model)
        self.body.out_head = nn.Linear(model.config.emb_dim, 1, device=model.device)
        nn.init.zeros_(self.body.out_head.weight)
        nn.init.zeros_(self.body.out_head.bias)

    def forward(self, ids: Tensor) -> Tensor:
        return self.body(ids).squeeze(2).float()

    def score(self, rows: Rows) -> Tensor:
        """(B,) scores of whole conversations: at their last real token, the only one that has
        seen them all.
        """
        ids, last = rows
        return self(ids)[torch.arange(len(ids), device=ids.device), last]


def fill(chats: Sequence[EncodedChat], pad_id: int, device: torch.device | str = "cpu") -> Rows:
    """Conversations -> ids (B, T), filled up, and the index of each one's last token."""
    ids = torch.full((len(chats), max(len(chat.ids) for chat in chats)), pad_id)
    for row, chat in enumerate(chats):
        ids[row, : len(chat.ids)] = torch.tensor(chat.ids)
    return ids.to(device), torch.tensor([len(chat.ids) - 1 for chat in chats], device=device)


@dataclass(frozen=True)
class Pair:
    """Two responses to one prompt, the preferred one first, and what is better about it."""

    chosen: EncodedChat
    rejected: EncodedChat
    kind: str = "preference"


def bradley_terry_loss(model: ScoreModel, rows: Rows) -> tuple[Tensor, Tensor]:
    """A loss function for `train`, of B chosen conversations and then the B rejected ones: the sum
    of -log sigmoid(score of the chosen - score of the rejected), and B.
    """
    chosen, rejected = model.score(rows).chunk(2)
    margin = chosen - rejected
    return -F.logsigmoid(margin).sum(), margin.new_tensor(len(margin))


def fit_reward_model(
    model: GPTModel,
    pairs: Sequence[Pair],
    pad_id: int,
    precision: Precision,
    epochs: float = 1.0,
    batch_size: int = 16,
    lr: float = 3e-4,
    seed: int = 0,
) -> tuple[ScoreModel, TrainState]:
    """A reward model that begins as `model`, which stays as it is."""
    torch.manual_seed(seed)
    scorer = ScoreModel(model).to(precision.device)

    def batches():
        for rows in shuffled_groups(
            [len(pair.chosen.ids) for pair in pairs], batch_size, np.random.default_rng(seed)
        ):
            yield fill(
                [pairs[row].chosen for row in rows] + [pairs[row].rejected for row in rows],
                pad_id,
                precision.device,
            )

    steps = max(1, round(epochs * len(pairs) / batch_size))
    progress = train(
        scorer,
        batches(),
        bradley_terry_loss,
        steps=steps,
        log_every=max(1, steps // 20),
        precision=precision,
        description="reward model",
        optimizers=make_optimizers(scorer, "adamw", lr),
        schedule=SCHEDULES["wsd"](),
    )
    return scorer, progress


@torch.inference_mode()
def scores(
    scorer: ScoreModel,
    chats: Sequence[EncodedChat],
    pad_id: int,
    precision: Precision,
    batch_size: int = 64,
) -> np.ndarray:
    """(n,) scores of conversations."""
    scorer.eval()
    found = np.empty(len(chats), dtype=np.float32)
    order = sorted(range(len(chats)), key=lambda row: len(chats[row].ids))
    for first in range(0, len(order), batch_size):
        rows = order[first : first + batch_size]
        with precision.autocast():
            found[rows] = (
                scorer.score(fill([chats[row] for row in rows], pad_id, precision.device))
                .cpu()
                .numpy()
            )
    return found


def rank_pairs(
    scorer: ScoreModel, pairs: Sequence[Pair], pad_id: int, precision: Precision
) -> dict:
    """How often the preferred response gets the higher score, over all and by kind of pair, and how
    far the predicted probabilities are from that (expected calibration error).
    """
    margins = scores(scorer, [pair.chosen for pair in pairs], pad_id, precision) - scores(
        scorer, [pair.rejected for pair in pairs], pad_id, precision
    )
    probability = 1 / (1 + np.exp(-margins))
    kinds = np.array([pair.kind for pair in pairs])
    # a pair has no first side by itself: turned round by its number, so that there are two classes
    # to predict
    turned = np.arange(len(pairs)) % 2
    first = np.where(turned, 1 - probability, probability)
    return {
        "ranking_accuracy": float((margins > 0).mean()),
        "n_pairs": len(pairs),
        "calibration_error": calibration_error(np.stack((first, 1 - first), axis=1), turned),
        "by_kind": {
            kind: float((margins[kinds == kind] > 0).mean())
            for kind in dict.fromkeys(kinds.tolist())
        },
    }
