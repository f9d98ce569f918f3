"""Learning from preferences without a reward model: DPO and its relatives, with chapter 4's
loop.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ch03_gpt import GPTModel, Precision
from ch04_pretraining import SCHEDULES, TrainState, make_optimizers, train
from ch05_classification.encoding import shuffled_groups
from ch06_instruction.batches import collate
from ch06_instruction.log_probs import response_log_probs
from ch06_instruction.preference_losses import PREFERENCE_LOSSES, PairLogProbs
from ch06_instruction.reward_model import Pair

# inputs and targets (2B, T) of the B chosen responses and then the B rejected ones, and what the
# reference says (2B,)
Batch = tuple[Tensor, Tensor, Tensor]


@dataclass(frozen=True)
class Preferring:
    """How a model learns from pairs."""

    loss: str = "dpo"
    beta: float | None = None  # None: the loss function's own
    epochs: float = 1.0
    batch_size: int = 16  # pairs
    lr: float = 1e-4
    seed: int = 0


@torch.inference_mode()
def reference_log_probs(
    model: GPTModel, pairs: Sequence[Pair], pad_id: int, precision: Precision, batch_size: int = 32
) -> Tensor:
    """(n, 2): how likely the model finds the chosen and the rejected response of every pair."""
    model.eval()
    found = []
    for first in range(0, len(pairs), batch_size):
        part = pairs[first : first + batch_size]
        chats = [pair.chosen for pair in part] + [pair.rejected for pair in part]
        with precision.autocast():
            found.append(
                torch.stack(
                    response_log_probs(model, *collate(chats, pad_id, precision.device)).chunk(2), 1
                )
            )
    return torch.cat(found)


def preference_loss(plan: Preferring):
    """A loss function for `train`: the sum over pairs, and their number."""
    function = PREFERENCE_LOSSES[plan.loss]
    options = {} if plan.beta is None else {"beta": plan.beta}

    def loss(model: GPTModel, batch: Batch) -> tuple[Tensor, Tensor]:
        inputs, targets, reference = batch
        chosen, rejected = response_log_probs(model, inputs, targets).chunk(2)
        lengths = (targets >= 0).sum(dim=1).chunk(2)
        losses = function(PairLogProbs(chosen, rejected, *reference.chunk(2), *lengths), **options)
        return losses.sum(), losses.new_tensor(len(losses))

    return loss


def prefer(
    model: GPTModel, pairs: Sequence[Pair], plan: Preferring, pad_id: int, precision: Precision
) -> TrainState:
    """Train `model` in place; what it is at first is the reference. ValueError: no pair, or no
    such loss.
    """
    if plan.loss not in PREFERENCE_LOSSES:
        raise ValueError(
            f"unknown loss {plan.loss!r}; choose one of {', '.join(PREFERENCE_LOSSES)}"
        )
    if not pairs:
        raise ValueError("there is no pair of a better and a worse response to learn from")
    reference = reference_log_probs(model, pairs, pad_id, precision).clone()

    def batches():
        generator = np.random.default_rng(plan.seed)
        for rows in shuffled_groups(
            [len(pair.chosen.ids) for pair in pairs], plan.batch_size, generator
        ):
            chats = [pairs[row].chosen for row in rows] + [pairs[row].rejected for row in rows]
            yield *collate(chats, pad_id, precision.device), reference[rows].T.flatten()

    steps = max(1, round(plan.epochs * len(pairs) / plan.batch_size))
    model.train()
    return train(
        model,
        batches(),
        preference_loss(plan),
        steps=steps,
        log_every=max(1, steps // 20),
        precision=precision,
        optimizers=make_optimizers(model, "adamw", plan.lr, weight_decay=0.0),
        schedule=SCHEDULES["wsd"](),
        description=plan.loss,
    )
