"""The training loop for labelled images: batch, forward, loss, backward, clip, step; then evaluate.

Chapter 4 has the loop for PyTorch models; this one shows the same steps in a few lines.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from tqdm import tqdm

from appendix_b.digits import LabelledImages
from appendix_b.losses import cross_entropy
from appendix_b.nn import Module
from appendix_b.optimizers import AdamW, clip_grad_norm
from appendix_b.schedules import cosine
from appendix_b.tensor import Tensor, no_grad


@dataclass(frozen=True)
class TrainConfig:
    """How a classifier is trained: AdamW, with a learning rate that falls along half a cosine."""

    epochs: int = 30  # passes over the training images
    batch_size: int = 32  # images per step
    lr: float = 2e-3  # learning rate at the start
    weight_decay: float = 0.01  # decoupled, see AdamW
    max_grad_norm: float = 5.0  # clip longer gradients to this norm
    eval_every: int = 1  # epochs between two evaluations; the last epoch is always evaluated


def shuffled_batches(n: int, size: int, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """Row numbers 0 ... n - 1 in random order, `size` at a time; an incomplete last batch is
    dropped.

    >>> [len(rows) for rows in shuffled_batches(7, 3, np.random.default_rng(0))]
    [3, 3]
    """
    order = rng.permutation(n)
    yield from (order[start : start + size] for start in range(0, max(1, n - size + 1), size))


def predict_logits(model: Module, x: np.ndarray, batch_size: int = 500) -> np.ndarray:
    """The outputs of the model in evaluation mode, without a graph; its mode is restored."""
    training = model.training
    model.eval()
    with no_grad():
        parts = [
            model(Tensor(x[start : start + batch_size])).data
            for start in range(0, len(x), batch_size)
        ]
    model.train(training)
    return np.concatenate(parts)


def evaluate(model: Module, images: LabelledImages) -> tuple[float, float]:
    """Mean cross-entropy (nats) and accuracy."""
    logits = predict_logits(model, images.x)
    accuracy = float((logits.argmax(axis=1) == images.y).mean())
    return cross_entropy(Tensor(logits), images.y).item(), accuracy


def train_classifier(
    model: Module,
    train: LabelledImages,
    config: TrainConfig,
    rng: np.random.Generator,
    held_out: dict[str, LabelledImages] | None = None,
    label: str = "",
) -> list[dict]:
    """Train `model` in place. Returns one row per evaluation: epoch, seconds, and loss and accuracy
    on the training images ("train") and on each entry of `held_out`, all in evaluation mode.
    """
    optimizer = AdamW(model.parameters(), config.lr, weight_decay=config.weight_decay)
    batch_size = min(config.batch_size, len(train))
    schedule = cosine(
        config.lr, config.epochs * max(1, len(train) // batch_size), final=config.lr / 20
    )
    log, started = [], time.perf_counter()
    epochs = range(1, config.epochs + 1)
    for epoch in tqdm(epochs, desc=label, unit="epoch", leave=False, delay=2, disable=None):
        model.train()
        for rows in shuffled_batches(len(train), batch_size, rng):
            loss = cross_entropy(model(Tensor(train.x[rows])), train.y[rows])
            loss.backward()
            clip_grad_norm(optimizer.parameters, config.max_grad_norm)
            optimizer.lr = schedule(optimizer.steps)
            optimizer.step()  # also clears the gradients
        if epoch % config.eval_every == 0 or epoch == config.epochs:
            row = {"epoch": epoch, "seconds": time.perf_counter() - started}
            for name, images in {"train": train, **(held_out or {})}.items():
                row[f"{name} loss"], row[f"{name} accuracy"] = evaluate(model, images)
            log.append(row)
    model.eval()
    return log
