"""A reward model: a language model with a scalar head in place of the next-token head.

    P(chosen beats rejected) = sigmoid(r_chosen - r_rejected)        (Bradley and Terry 1952)
    L = -log sigmoid(r_chosen - r_rejected)                          (Ouyang et al. 2022, eq. 1)

r is the scalar at the last token of a conversation, the only one that attends to all of it.
"""

import copy
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ch01_text import right_pad
from ch03_gpt import GPTModel, Precision
from ch04_pretraining import SCHEDULES, TrainOptions, TrainState, make_optimizers, train
from ch05_classification import calibration_error
from ch05_classification.encoding import shuffled_groups
from ch06_instruction.chat import EncodedChat
from ch06_instruction.config import RewardConfig
from ch06_instruction.preferences import EncodedPair

PaddedChats = tuple[Tensor, Tensor]  # ids (B, T) int64, lengths (B,) int64


def pad_chats(
    chats: Sequence[EncodedChat], pad_id: int, device: torch.device | str = "cpu"
) -> PaddedChats:
    """Pad conversations on the right, on the given device."""
    lengths = torch.tensor([len(chat.ids) for chat in chats], device=device)
    return right_pad([chat.ids for chat in chats], pad_id, device), lengths


class ValueModel(nn.Module):
    """ids (B, T) -> a value for each position (B, T), float32; starts as a copy of `model`."""

    def __init__(self, model: GPTModel):
        super().__init__()
        self.body = copy.deepcopy(model)
        self.body.out_head = nn.Linear(model.config.emb_dim, 1, device=model.device)
        nn.init.zeros_(self.body.out_head.weight)
        nn.init.zeros_(self.body.out_head.bias)

    def forward(self, ids: Tensor) -> Tensor:
        return self.body(ids).squeeze(2).float()


class RewardModel(ValueModel):
    """A value model that is read at the last token of a conversation."""

    def score(self, batch: PaddedChats) -> Tensor:
        """Padded conversations -> scores (B,)."""
        ids, lengths = batch
        return self(ids)[torch.arange(len(ids), device=ids.device), lengths - 1]


def bradley_terry_loss(model: RewardModel, batch: PaddedChats) -> tuple[Tensor, Tensor]:
    """A loss function for `train`: sum of losses and number of pairs.

    The batch holds B chosen conversations, then their B rejected ones.
    """
    chosen, rejected = model.score(batch).chunk(2)
    margin = chosen - rejected
    return -F.logsigmoid(margin).sum(), margin.new_tensor(len(margin))


def pair_batches(
    pairs: Sequence[EncodedPair],
    batch_size: int,
    pad_id: int,
    generator: np.random.Generator,
    device: torch.device,
) -> Iterator[PaddedChats]:
    """Yield shuffled batches, the chosen conversations before the rejected ones, without end."""
    for rows in shuffled_groups([len(pair.chosen.ids) for pair in pairs], batch_size, generator):
        chats = [pairs[row].chosen for row in rows] + [pairs[row].rejected for row in rows]
        yield pad_chats(chats, pad_id, device)


def train_reward_model(
    model: GPTModel,
    pairs: Sequence[EncodedPair],
    config: RewardConfig,
    pad_id: int,
    precision: Precision,
    seed: int = 0,
) -> tuple[RewardModel, TrainState]:
    """Train a reward model that starts from `model`, which stays unchanged."""
    torch.manual_seed(seed)
    reward_model = RewardModel(model).to(precision.device)
    generator = np.random.default_rng(seed)
    steps = max(1, round(config.epochs * len(pairs) / config.batch_size))
    progress = train(
        reward_model,
        pair_batches(pairs, config.batch_size, pad_id, generator, precision.device),
        bradley_terry_loss,
        steps=steps,
        precision=precision,
        optimizers=make_optimizers(reward_model, "adamw", config.lr),
        options=TrainOptions(
            log_every=max(1, steps // 20), description="reward model", schedule=SCHEDULES["wsd"]()
        ),
    )
    return reward_model, progress


@torch.inference_mode()
def score_chats(
    model: RewardModel,
    chats: Sequence[EncodedChat],
    pad_id: int,
    precision: Precision,
    batch_size: int = 64,
) -> np.ndarray:
    """Scores (n,) float32 of conversations, computed in batches of similar length."""
    model.eval()
    scores = np.empty(len(chats), dtype=np.float32)
    order = sorted(range(len(chats)), key=lambda row: len(chats[row].ids))
    for first in range(0, len(order), batch_size):
        rows = order[first : first + batch_size]
        batch = pad_chats([chats[row] for row in rows], pad_id, precision.device)
        with precision.autocast():
            scores[rows] = model.score(batch).cpu().numpy()
    return scores


def evaluate_reward_model(
    model: RewardModel, pairs: Sequence[EncodedPair], pad_id: int, precision: Precision
) -> dict:
    """How often the chosen response scores higher, over all pairs and by kind, and the expected
    calibration error of the predicted probabilities.
    """
    chosen, rejected = (
        score_chats(model, chats, pad_id, precision)
        for chats in ([pair.chosen for pair in pairs], [pair.rejected for pair in pairs])
    )
    margins = chosen - rejected
    probability = 1 / (1 + np.exp(-margins))
    # calibration needs two classes: every other pair is swapped, so that its first response is the
    # rejected one
    swapped = np.arange(len(pairs)) % 2
    first = np.where(swapped, 1 - probability, probability)
    kinds = np.array([pair.kind for pair in pairs])
    return {
        "ranking_accuracy": float((margins > 0).mean()),
        "n_pairs": len(pairs),
        "calibration_error": calibration_error(np.stack((first, 1 - first), axis=1), swapped),
        "by_kind": {
            kind: float((margins[kinds == kind] > 0).mean())
            for kind in dict.fromkeys(kinds.tolist())
        },
    }
