"""Direct preference optimization (Rafailov et al. 2023) and its relatives, with chapter 4's loop.

The reference's log-probabilities are computed once, before training, so that no second model is in
memory. `preference_losses` has the formulas.
"""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from ch01_text import IGNORE
from ch03_gpt import GPTModel, Precision
from ch04_pretraining import SCHEDULES, TrainOptions, TrainState, make_optimizers, train
from ch05_classification.encoding import shuffled_groups
from ch06_instruction.batches import collate
from ch06_instruction.config import DPOConfig
from ch06_instruction.log_probs import response_log_probs
from ch06_instruction.policy import set_trainable
from ch06_instruction.preference_losses import PREFERENCE_LOSSES, PairLogProbs
from ch06_instruction.preferences import EncodedPair

# inputs and targets (2B, T), the B chosen conversations before their B rejected ones, and the
# reference's log-probabilities (2B,) of the responses
Batch = tuple[Tensor, Tensor, Tensor]


@torch.inference_mode()
def precompute_ref_log_probs(
    model: GPTModel,
    pairs: Sequence[EncodedPair],
    pad_id: int,
    precision: Precision,
    batch_size: int = 32,
) -> Tensor:
    """Log-probabilities (n, 2) of the chosen and the rejected response of each pair."""
    model.eval()
    parts = []
    for first in range(0, len(pairs), batch_size):
        part = pairs[first : first + batch_size]
        # Chosen and rejected responses go through the model in one batch of 2B rows: one forward
        # pass, and one padded length T for both.
        chats = [pair.chosen for pair in part] + [pair.rejected for pair in part]
        with precision.autocast():
            log_probs = response_log_probs(model, *collate(chats, pad_id, precision.device))
        parts.append(torch.stack(log_probs.chunk(2), dim=1))  # (B, 2)
    return torch.cat(parts)


def pair_batches(
    pairs: Sequence[EncodedPair],
    ref_log_probs: Tensor,
    batch_size: int,
    pad_id: int,
    generator: np.random.Generator,
) -> Iterator[Batch]:
    """Yield shuffled batches without end, on the device of `ref_log_probs` (n, 2)."""
    for rows in shuffled_groups([len(pair.chosen.ids) for pair in pairs], batch_size, generator):
        chats = [pairs[row].chosen for row in rows] + [pairs[row].rejected for row in rows]
        # (B, 2) -> (2, B) -> (2B,): the chosen ones first, as in `chats`
        yield *collate(chats, pad_id, ref_log_probs.device), ref_log_probs[rows].T.flatten()


def preference_loss(config: DPOConfig) -> Callable[[GPTModel, Batch], tuple[Tensor, Tensor]]:
    """A loss function for `train`: sum of losses and number of pairs."""
    function = PREFERENCE_LOSSES[config.loss]
    # beta means another thing in each loss, so each has its own default
    options = {} if config.beta is None else {"beta": config.beta}

    def loss(model: GPTModel, batch: Batch) -> tuple[Tensor, Tensor]:
        inputs, targets, ref_log_probs = batch
        chosen, rejected = response_log_probs(model, inputs, targets).chunk(2)  # (B,) each
        lengths = (targets != IGNORE).sum(dim=1).chunk(2)  # tokens, (B,) each
        pairs = PairLogProbs(chosen, rejected, *ref_log_probs.chunk(2), *lengths)
        losses = function(pairs, **options)
        # `train` divides by the second, here a number of pairs: every pair weighs the same, however
        # long its responses are
        return losses.sum(), losses.new_tensor(len(losses))

    return loss


def train_dpo(
    model: GPTModel,
    pairs: Sequence[EncodedPair],
    config: DPOConfig,
    pad_id: int,
    precision: Precision,
    seed: int = 0,
) -> TrainState:
    """Train `model` in place; its weights at the start are the reference. Only the part that
    `config.trainable` names learns, and the rest stays frozen afterwards. ValueError if there is no
    pair.
    """
    if not pairs:
        raise ValueError(
            "there is no pair of a better and a worse response to learn from; sample more prompts"
            " or more responses"
        )
    set_trainable(model, config.trainable)
    # cloned: tensors made in inference mode cannot take part in training
    ref_log_probs = precompute_ref_log_probs(model, pairs, pad_id, precision).clone()
    generator = np.random.default_rng(seed)
    steps = max(1, round(config.epochs * len(pairs) / config.batch_size))
    return train(
        model,
        pair_batches(pairs, ref_log_probs, config.batch_size, pad_id, generator),
        preference_loss(config),
        steps=steps,
        precision=precision,
        # no weight decay: it would pull the matrices towards zero, away from the reference
        optimizers=make_optimizers(model, "adamw", config.lr, weight_decay=0.0),
        options=TrainOptions(
            log_every=max(1, steps // 20), schedule=SCHEDULES["wsd"](), description=config.loss
        ),
    )
