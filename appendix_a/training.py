"""The training loop in its smallest form: forward, loss, backward, step.

Chapter 4's loop adds what a long run needs: schedules, clipping, gradient accumulation, evaluation
and checkpoints.
"""

from collections.abc import Callable, Iterable
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import SGD, Adam, AdamW, Optimizer
from torch.utils.data import DataLoader
from tqdm import trange

from ch03_gpt import Precision, pick_precision

OptimizerName = Literal["sgd", "momentum", "adam", "adamw"]


def make_optimizer(name: OptimizerName, parameters: Iterable[Tensor], lr: float) -> Optimizer:
    """An optimizer by name with PyTorch's defaults; `momentum` is SGD with momentum 0.9."""
    if name in ("sgd", "momentum"):
        return SGD(parameters, lr=lr, momentum=0.9 if name == "momentum" else 0.0)
    return {"adam": Adam, "adamw": AdamW}[name](parameters, lr=lr)


def train(
    network: nn.Module,
    loader: DataLoader,
    optimizer: Optimizer,
    epochs: int,
    loss_fn: Callable[[Tensor, Tensor], Tensor] = F.cross_entropy,
    precision: Precision | None = None,
) -> Tensor:
    """Train in place for a number of epochs; returns the loss of every step (steps,), on the
    device.

    `loss_fn(logits (B, classes), labels (B,))` is the mean loss of a batch. `precision` determines
    the number format of the forward pass, by default float32.
    """
    device = next(network.parameters()).device
    precision = precision or pick_precision(device, "float32")
    losses = []
    network.train()
    for _ in trange(epochs, desc="training", unit="epoch", disable=None):
        for features, labels in loader:
            with precision.autocast():
                logits = network(features.to(device))
            loss = loss_fn(logits.float(), labels.to(device))
            optimizer.zero_grad()  # backward adds to the gradients that are there
            loss.backward()
            optimizer.step()
            losses.append(loss.detach())  # without detach, every step's graph would stay in memory
    return torch.stack(losses)
