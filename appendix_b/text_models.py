"""Models that say what comes next in a text, and the loop that trains them for a number of steps or
of seconds.

The three ways to read: a state that is overwritten (RNN), a state that is added to (LSTM), no state
but a look back at every earlier position (the transformer of gpt.py).
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from appendix_b.gpt import GPT, Shape
from appendix_b.layers import Embedding, Linear
from appendix_b.losses import cross_entropy
from appendix_b.nn import Module
from appendix_b.optimizers import AdamW, clip_gradients
from appendix_b.recurrent import LSTM, RNN
from appendix_b.schedules import cosine
from appendix_b.tensor import Tensor, no_grad


class Batch(NamedTuple):
    """Ids (B, T), what follows each (B, T), and how much each position counts (B, T), None for
    all the same.
    """

    ids: np.ndarray
    targets: np.ndarray
    weights: np.ndarray | None = None


class Recurrent(Module):
    """Ids (B, T) -> logits (B, T, V): embedding, a recurrent cell, a linear head. The state
    begins at zero.
    """

    def __init__(
        self,
        cell: type[RNN] | type[LSTM],
        vocab_size: int,
        width: int,
        rng: np.random.Generator,
        embedding_width: int = 32,
    ):
        self.tokens = Embedding(vocab_size, embedding_width, rng)
        self.cell = cell(embedding_width, width, rng)
        self.head = Linear(width, vocab_size, rng)

    def forward(self, ids: np.ndarray) -> Tensor:
        return self.head(self.cell(self.tokens(ids))[0])


def contenders(vocab_size: int, context_length: int, rng: np.random.Generator) -> dict[str, Module]:
    """An RNN, an LSTM and a transformer with about 100,000 parameters each."""
    return {
        "RNN": Recurrent(RNN, vocab_size, 256, rng),
        "LSTM": Recurrent(LSTM, vocab_size, 128, rng),
        "transformer": GPT(Shape(vocab_size, context_length, width=64, heads=4, layers=2), rng),
    }


def windows_of(ids: np.ndarray, length: int, size: int) -> Callable[[np.random.Generator], Batch]:
    """A function that draws `size` windows of `length` ids anywhere in `ids` (n,). ValueError
    where none fits.
    """
    if len(ids) <= length:
        raise ValueError(
            f"the text has {len(ids)} tokens, one window needs {length + 1}; take a longer text"
        )

    def draw_batch(rng: np.random.Generator) -> Batch:
        rows = rng.integers(0, len(ids) - length, (size, 1)) + np.arange(length + 1)
        return Batch(ids[rows[:, :-1]], ids[rows[:, 1:]])

    return draw_batch


def text_loss(model: Module, batch: Batch, size: int = 32) -> float:
    """The mean loss (nats a token) in evaluation mode, `size` rows at a time; the mode is put
    back.
    """
    training, total, count = model.training, 0.0, 0.0
    model.eval()
    with no_grad():
        for start in range(0, len(batch.ids), size):
            part = Batch(
                *(None if array is None else array[start : start + size] for array in batch)
            )
            counted = part.targets.size if part.weights is None else float(part.weights.sum())
            total += cross_entropy(model(part.ids), part.targets, part.weights).item() * counted
            count += counted
    model.train(training)
    return total / count


@dataclass(frozen=True)
class TextPlan:
    """How a text model is trained: AdamW for so many steps, or for so many seconds where `steps`
    is None.
    """

    lr: float = 3e-3
    steps: int | None = None
    seconds: float = 60.0
    weight_decay: float = 0.01
    max_norm: float = 1.0  # gradients longer than this are clipped
    looks: int = 12  # how often the held-out loss is measured


def train_text(
    model: Module,
    draw_batch: Callable[[np.random.Generator], Batch],
    held_out: Batch,
    plan: TextPlan,
    rng: np.random.Generator,
    label: str = "",
) -> list[dict]:
    """Train `model` in place; returns a line for each look: step, tokens, seconds (looking not
    counted), training loss since the last look, held-out loss, and how many steps were clipped.
    """
    optimizer = AdamW(model.parameters(), plan.lr, weight_decay=plan.weight_decay)
    # over thousandths of the budget
    rate = cosine(plan.lr, steps=1000, warmup=50, final=plan.lr / 10)
    log, losses, tokens, seconds, clipped, done = [], [], 0, 0.0, 0, 0.0
    with tqdm(
        total=100,
        desc=label,
        unit="%",
        leave=False,
        delay=2,
        disable=None,
        bar_format="{l_bar}{bar}| {elapsed}",
    ) as bar:
        model.train()
        while done < 1:
            began = time.perf_counter()
            batch = draw_batch(rng)
            loss = cross_entropy(model(batch.ids), batch.targets, batch.weights)
            loss.backward()
            clipped += clip_gradients(optimizer.parameters, plan.max_norm) > plan.max_norm
            optimizer.lr = rate(int(1000 * done))
            optimizer.step()
            losses.append(loss.item())
            tokens += batch.ids.size
            seconds += time.perf_counter() - began
            done = min(1.0, optimizer.steps / plan.steps if plan.steps else seconds / plan.seconds)
            bar.update(round(100 * done) - bar.n)
            if done * plan.looks >= len(log) + 1:
                log.append(
                    {
                        "step": optimizer.steps,
                        "tokens": tokens,
                        "seconds": seconds,
                        "clipped": clipped,
                        "train_loss": float(np.mean(losses)),
                        "val_loss": text_loss(model, held_out),
                    }
                )
                losses = []
                if not np.isfinite(log[-1]["train_loss"]):
                    raise ValueError(
                        f"the loss is no number at step {optimizer.steps}; lower the learning rate"
                    )
    model.eval()
    return log
