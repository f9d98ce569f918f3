"""The training loop for labelled examples: draw a batch, forward, loss, backward, clip, step; then
look at it.

Chapter 4 has the loop for PyTorch models; this one has the same steps in plain sight.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from tqdm import tqdm

from appendix_b.digits import Images
from appendix_b.losses import cross_entropy
from appendix_b.nn import Module
from appendix_b.optimizers import AdamW, clip_gradients
from appendix_b.schedules import cosine
from appendix_b.tensor import Tensor, no_grad


@dataclass(frozen=True)
class Plan:
    """How a classifier is trained: AdamW, the rate falling along half a cosine."""

    epochs: int = 30
    batch_size: int = 32
    lr: float = 2e-3
    weight_decay: float = 0.01
    max_norm: float = 5.0  # gradients longer than this are clipped
    look_every: int = 1  # epochs between two measurements of loss and accuracy


def batches(n: int, size: int, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """Row numbers in a new order, `size` at a time; a last batch that is smaller is left for the
    next epoch.

    >>> [len(rows) for rows in batches(7, 3, np.random.default_rng(0))]
    [3, 3]
    """
    order = rng.permutation(n)
    yield from (order[start : start + size] for start in range(0, max(1, n - size + 1), size))


def logits_of(model: Module, x: np.ndarray, size: int = 500) -> np.ndarray:
    """The model's outputs in evaluation mode, without a graph; the mode is put back."""
    training = model.training
    model.eval()
    with no_grad():
        parts = [model(Tensor(x[start : start + size])).data for start in range(0, len(x), size)]
    model.train(training)
    return np.concatenate(parts)


def measure(model: Module, data: Images) -> tuple[float, float]:
    """Mean cross-entropy (nats) and accuracy."""
    logits = logits_of(model, data.x)
    return cross_entropy(Tensor(logits), data.y).item(), float(
        (logits.argmax(axis=1) == data.y).mean()
    )


def fit(
    model: Module,
    train: Images,
    plan: Plan,
    rng: np.random.Generator,
    held_out: dict[str, Images] | None = None,
    label: str = "",
) -> list[dict]:
    """Train `model` in place; returns a line for each look: epoch, seconds, and loss and accuracy
    on the training rows ("train") and on each of `held_out` by name, all in evaluation mode.
    """
    optimizer = AdamW(model.parameters(), plan.lr, weight_decay=plan.weight_decay)
    size = min(plan.batch_size, len(train))
    rate = cosine(plan.lr, plan.epochs * max(1, len(train) // size), final=plan.lr / 20)
    log, began = [], time.perf_counter()
    for epoch in tqdm(
        range(1, plan.epochs + 1), desc=label, unit="epoch", leave=False, delay=2, disable=None
    ):
        model.train()
        for rows in batches(len(train), size, rng):
            loss = cross_entropy(model(Tensor(train.x[rows])), train.y[rows])
            loss.backward()
            clip_gradients(optimizer.parameters, plan.max_norm)
            optimizer.lr = rate(optimizer.steps)
            optimizer.step()
        if epoch % plan.look_every == 0 or epoch == plan.epochs:
            line = {"epoch": epoch, "seconds": time.perf_counter() - began}
            for name, data in {"train": train, **(held_out or {})}.items():
                line[f"{name} loss"], line[f"{name} accuracy"] = measure(model, data)
            log.append(line)
    model.eval()
    return log
