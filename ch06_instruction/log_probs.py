"""How likely a model finds a response: the one quantity that instruction tuning, DPO, PPO and
GRPO all work on.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from ch03_gpt import GPTModel
from ch06_instruction.batches import IGNORED


def target_logits(model: GPTModel, inputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """(B, T), (B, T) -> logits (n, V) float32 and ids (n,) of the n targets that are not ignored:
    the output head, the widest matrix, is asked for nothing else.
    """
    learned = targets != IGNORED
    return model.out_head(model.hidden_states(inputs)[learned]).float(), targets[learned]


def token_log_probs(model: GPTModel, inputs: Tensor, targets: Tensor) -> Tensor:
    """(B, T), (B, T) -> (B, T) float32: the log-probability of every target, 0 where it is
    ignored.
    """
    logits, wanted = target_logits(model, inputs, targets)
    found = torch.zeros(targets.shape, device=targets.device)
    return found.masked_scatter(
        targets != IGNORED, -F.cross_entropy(logits, wanted, reduction="none")
    )


def response_log_probs(model: GPTModel, inputs: Tensor, targets: Tensor) -> Tensor:
    """(B, T), (B, T) -> (B,): the log-probability of every whole response, the sum over its
    tokens.
    """
    return token_log_probs(model, inputs, targets).sum(dim=1)
