"""The log-probability of a response: what SFT, DPO, PPO and GRPO are all computed from.

    log pi(y | x) = sum over t of log pi(y_t | x, y_<t)

x is the prompt and y the response; pi is `model`. `token_log_probs` returns the terms,
`response_log_probs` the sum. Which targets belong to a response is marked by `IGNORE`.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from ch01_text import IGNORE
from ch03_gpt import GPTModel


def target_logits(model: GPTModel, inputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """(B, T), (B, T) -> logits (n, V) float32 and ids (n,) of the n targets that are not ignored.

    The output head, the widest matrix of a small model, is applied to those n positions only.
    """
    learned = targets != IGNORE
    return model.out_head(model.hidden_states(inputs)[learned]).float(), targets[learned]


def token_log_probs(model: GPTModel, inputs: Tensor, targets: Tensor) -> Tensor:
    """(B, T), (B, T) -> (B, T) float32: the log-probability of each target, 0 where ignored."""
    logits, ids = target_logits(model, inputs, targets)
    log_probs = torch.zeros(targets.shape, device=targets.device)
    return log_probs.masked_scatter(
        targets != IGNORE, -F.cross_entropy(logits, ids, reduction="none")
    )


def response_log_probs(model: GPTModel, inputs: Tensor, targets: Tensor) -> Tensor:
    """(B, T), (B, T) -> (B,): the log-probability of each whole response."""
    return token_log_probs(model, inputs, targets).sum(dim=1)
