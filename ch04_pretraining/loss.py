"""Next-token cross-entropy, always as a sum and a count.

Sums over tokens add up exactly across micro-batches, batches and validation sets whose numbers of
tokens differ; means of means do not. Targets of IGNORE count for nothing.
"""

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ch01_text import IGNORE
from ch01_text.data import Batch
from ch03_gpt import Precision

# (model, batch) -> (sum of losses, what to divide it by), both as scalar tensors. The second is the
# number of tokens, or of pairs in preference tuning. The model and the batch are of whatever kind
# the loss function expects.
LossFunction = Callable[[Any, Any], tuple[Tensor, Tensor]]


def token_losses(model: nn.Module, batch: Batch) -> Tensor:
    """(inputs (B, T), targets (B, T)) -> the loss of each target in nats, (B, T) float32; 0 for
    IGNORE.
    """
    inputs, targets = batch
    logits = model(inputs)  # (B, T, V)
    # In float32, because a sum of V exponentials needs more than bfloat16's 8 significant bits.
    # cross_entropy takes (B T, V) logits and (B T,) targets.
    losses = F.cross_entropy(
        logits.flatten(0, 1).float(), targets.flatten(), ignore_index=IGNORE, reduction="none"
    )
    return losses.view_as(targets)


def next_token_loss(model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
    """(inputs (B, T), targets (B, T)) -> (sum of the losses in nats, number of targets),
    scalars.
    """
    # The count stays a tensor, too: a Python number would make the CPU wait for the device.
    return token_losses(model, batch).sum(), (batch[1] != IGNORE).sum()


@torch.inference_mode()
def evaluate_loss(
    model: nn.Module,
    batches: Iterable[Batch],
    precision: Precision | None = None,
    loss_fn: LossFunction = next_token_loss,
) -> tuple[float, int]:
    """Return (mean loss in nats per token, number of tokens) over all of `batches`.

    No gradients are computed. ValueError if there is no token in them.
    """
    was_training = model.training
    # no dropout; within a training run it must be on again afterwards
    model.eval()
    total, count = 0.0, 0
    for batch in batches:
        if precision is None:
            loss, tokens = loss_fn(model, batch)
        else:
            with precision.autocast():
                loss, tokens = loss_fn(model, batch)
        total += loss.item()  # in Python's 64 bits, because many batches are summed
        count += int(tokens)
    model.train(was_training)
    if not count:
        raise ValueError("there is no token to evaluate on; give a longer text or a shorter window")
    return total / count, count


def bits_per_byte(loss: float, n_tokens: int, n_bytes: int) -> float:
    """Turn a mean loss in nats per token into bits per byte, which does not depend on the
    tokenizer.

    >>> round(bits_per_byte(math.log(2), n_tokens=100, n_bytes=400), 3)
    0.25
    """
    return loss * n_tokens / math.log(2) / n_bytes  # nats -> bits, tokens -> bytes
