"""The training loop at its smallest: forward, loss, backward, step.

Chapter 4's loop adds to it what a long run needs: schedules, clipping, accumulation, evaluation,
checkpoints.
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
    """An optimizer by name with PyTorch's own defaults; `momentum` is SGD that keeps 0.9 of its
    velocity.
    """
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
    """Train in place for so many passes over the loader; returns the loss of every step (steps,),
    on the device.

    `loss_fn(logits (B, classes), labels (B,))` gives the batch's mean loss. `precision` says in
    which number format the forward pass multiplies; by default float32.
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
            optimizer.zero_grad()  # gradients add up until somebody clears them
            loss.backward()
            optimizer.step()
            losses.append(loss.detach())  # without detach, every step's graph would stay in memory
    return torch.stack(losses)
