"""Output head and cross-entropy in one, a few rows at a time, so that the logits never exist in
full.

The gradient of a sum of cross-entropies is softmax(logits) minus one at the target: known as soon
as the logits are, so the forward pass computes it chunk by chunk while they are still in the CPU's
cache. `next_token_loss` in loss.py is the readable reference.
"""

import torch
from torch import Tensor

from ch03_gpt import GPTModel
from ch04_pretraining.loss import IGNORE, Batch

ROWS = 1024


class _HeadAndCrossEntropy(torch.autograd.Function):
    """hidden (N, C), weight (V, C) float32, targets (N,) -> sum of cross-entropies, float32
    scalar.
    """

    @staticmethod
    def forward(ctx, hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
        total = torch.zeros((), device=hidden.device)
        head = weight.to(hidden.dtype)
        hidden_gradient = torch.empty_like(hidden)
        weight_gradient = torch.zeros_like(weight)
        for first in range(0, len(hidden), ROWS):
            # (R, C), (R, 1)
            x, y = hidden[first : first + ROWS], targets[first : first + ROWS].unsqueeze(1)
            counts = (y != IGNORE).float()
            y = y.clamp(min=0)
            logits = (x @ head.T).float()  # (R, V)
            largest, right = logits.amax(dim=1, keepdim=True), logits.gather(1, y)
            exponentials = logits.sub_(largest).exp_()
            normalizer = exponentials.sum(dim=1, keepdim=True)
            total += ((largest + normalizer.log() - right) * counts).sum()
            gradient = exponentials.mul_(counts / normalizer)  # softmax
            gradient.scatter_add_(1, y, -counts)
            gradient = gradient.to(hidden.dtype)
            hidden_gradient[first : first + ROWS] = gradient @ head
            weight_gradient += gradient.T @ x
        ctx.save_for_backward(hidden_gradient, weight_gradient)
        return total

    @staticmethod
    def backward(ctx, upstream: Tensor) -> tuple[Tensor, Tensor, None]:
        hidden_gradient, weight_gradient = ctx.saved_tensors
        return hidden_gradient * upstream, weight_gradient * upstream, None


def hidden_rows(model: GPTModel, inputs: Tensor) -> Tensor:
    """Ids (B, T) -> the model's hidden states (B T, C), in autocast's dtype."""
    hidden = model.hidden_states(inputs).flatten(0, 1)
    device = hidden.device.type
    return (
        hidden.to(torch.get_autocast_dtype(device)) if torch.is_autocast_enabled(device) else hidden
    )


def head_loss(model: GPTModel, hidden: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Hidden states (N, C), targets (N,) -> (sum of cross-entropies, number of targets)."""
    with torch.autocast(hidden.device.type, enabled=False):
        total = _HeadAndCrossEntropy.apply(hidden, model.out_head.weight, targets)
    return total, (targets != IGNORE).sum()


def chunked_next_token_loss(model: GPTModel, batch: Batch) -> tuple[Tensor, Tensor]:
    """`next_token_loss` for training: (inputs (B, T), targets (B, T)) -> (sum of losses, number
    of targets).
    """
    inputs, targets = batch
    return head_loss(model, hidden_rows(model, inputs), targets.flatten())
