"""Language models that predict the next token, and the loop that trains them for a number of steps
or seconds.

Three architectures: a state that is overwritten at each step (RNN), a state that is added to
(LSTM), and no state but attention to all earlier positions (the transformer of gpt.py).
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, Self

import numpy as np
from tqdm import tqdm

from appendix_b.gpt import GPT, GPTConfig
from appendix_b.layers import Embedding, Linear
from appendix_b.losses import cross_entropy
from appendix_b.nn import Module
from appendix_b.optimizers import AdamW, clip_grad_norm
from appendix_b.recurrent import LSTM, RNN
from appendix_b.schedules import cosine
from appendix_b.tensor import Tensor, no_grad


class TokenBatch(NamedTuple):
    """Input ids (B, T), the next id at each position (B, T), and loss weights (B, T) or None."""

    ids: np.ndarray
    targets: np.ndarray
    weights: np.ndarray | None = None

    def rows(self, first: int, last: int) -> Self:
        """Rows first ... last - 1."""
        weights = None if self.weights is None else self.weights[first:last]
        return type(self)(self.ids[first:last], self.targets[first:last], weights)


class RecurrentLM(Module):
    """Ids (B, T) -> logits (B, T, V): embedding, recurrent layer, linear head. The state starts at
    zero.
    """

    def __init__(
        self,
        layer: type[RNN] | type[LSTM],
        vocab_size: int,
        hidden_size: int,
        rng: np.random.Generator,
        emb_dim: int = 32,
    ):
        self.tok_emb = Embedding(vocab_size, emb_dim, rng)
        self.recurrent = layer(emb_dim, hidden_size, rng)
        self.head = Linear(hidden_size, vocab_size, rng)

    def forward(self, ids: np.ndarray) -> Tensor:
        hidden, _ = self.recurrent(self.tok_emb(ids))
        return self.head(hidden)


def build_models(
    vocab_size: int, context_length: int, rng: np.random.Generator
) -> dict[str, Module]:
    """An RNN, an LSTM and a transformer with about 100,000 parameters each."""
    config = GPTConfig(vocab_size, context_length, emb_dim=64, n_heads=4, n_layers=2)
    return {
        "RNN": RecurrentLM(RNN, vocab_size, 256, rng),
        "LSTM": RecurrentLM(LSTM, vocab_size, 128, rng),
        "transformer": GPT(config, rng),
    }


def random_windows(
    ids: np.ndarray, context_length: int, batch_size: int
) -> Callable[[np.random.Generator], TokenBatch]:
    """A function that samples `batch_size` windows of `context_length` ids from ids (n,).
    ValueError if the text is shorter than one window.
    """
    if len(ids) <= context_length:
        raise ValueError(
            f"the text has {len(ids)} tokens, one window needs {context_length + 1}; take a longer"
            " text"
        )

    def sample_batch(rng: np.random.Generator) -> TokenBatch:
        starts = rng.integers(0, len(ids) - context_length, (batch_size, 1))
        rows = starts + np.arange(context_length + 1)  # one more: the targets are shifted by one
        return TokenBatch(ids[rows[:, :-1]], ids[rows[:, 1:]])

    return sample_batch


def evaluate_loss(model: Module, batch: TokenBatch, batch_size: int = 32) -> float:
    """The mean loss (nats per token) in evaluation mode, `batch_size` rows at a time; the mode is
    restored.
    """
    training, total, count = model.training, 0.0, 0.0
    model.eval()
    with no_grad():
        for start in range(0, len(batch.ids), batch_size):
            part = batch.rows(start, start + batch_size)
            # A mean of means would be wrong if the parts differ in size: sum over tokens instead.
            n = part.targets.size if part.weights is None else float(part.weights.sum())
            total += cross_entropy(model(part.ids), part.targets, part.weights).item() * n
            count += n
    model.train(training)
    return total / count


@dataclass(frozen=True)
class TextTrainConfig:
    """How a language model is trained: AdamW, with warm-up and half a cosine."""

    lr: float = 3e-3  # peak learning rate
    steps: int | None = None  # number of steps; None: train for `seconds`
    seconds: float = 60.0  # time limit, without the evaluations; ignored if `steps` is set
    weight_decay: float = 0.01  # decoupled, see AdamW
    max_grad_norm: float = 1.0  # clip longer gradients to this norm
    n_evals: int = 12  # number of evaluations, evenly spread over the run

    def progress(self, steps: int, seconds: float) -> float:
        """The fraction of the budget that has been used, at most 1."""
        return min(1.0, steps / self.steps if self.steps else seconds / self.seconds)


def train_step(model: Module, batch: TokenBatch, optimizer: AdamW, max_grad_norm: float) -> float:
    """Forward, backward, clip, update; returns the loss."""
    loss = cross_entropy(model(batch.ids), batch.targets, batch.weights)
    loss.backward()
    clip_grad_norm(optimizer.parameters, max_grad_norm)
    optimizer.step()  # also clears the gradients
    return loss.item()


def train_language_model(
    model: Module,
    sample_batch: Callable[[np.random.Generator], TokenBatch],
    held_out: TokenBatch,
    config: TextTrainConfig,
    rng: np.random.Generator,
    label: str = "",
) -> list[dict]:
    """Train `model` in place. Returns one row per evaluation: step, tokens, seconds (without the
    evaluations), mean training loss since the previous one, and held-out loss.
    """
    optimizer = AdamW(model.parameters(), config.lr, weight_decay=config.weight_decay)
    # The number of steps is unknown under a time limit, so the schedule runs over thousandths.
    schedule = cosine(config.lr, steps=1000, warmup=50, final=config.lr / 10)
    log: list[dict] = []
    losses: list[float] = []
    tokens, seconds, progress = 0, 0.0, 0.0
    model.train()
    with tqdm(total=100, desc=label, unit="%", leave=False, delay=2, disable=None) as bar:
        while progress < 1:
            started = time.perf_counter()
            batch = sample_batch(rng)
            optimizer.lr = schedule(int(1000 * progress))
            losses.append(train_step(model, batch, optimizer, config.max_grad_norm))
            tokens += batch.ids.size
            seconds += time.perf_counter() - started
            progress = config.progress(optimizer.steps, seconds)
            bar.update(round(100 * progress) - bar.n)
            if progress * config.n_evals >= len(log) + 1:
                train_loss, losses = float(np.mean(losses)), []
                if not np.isfinite(train_loss):
                    raise ValueError(
                        f"the loss is not a number at step {optimizer.steps}; lower the learning"
                        " rate"
                    )
                log.append(
                    {
                        "step": optimizer.steps,
                        "tokens": tokens,
                        "seconds": seconds,
                        "train_loss": train_loss,
                        "val_loss": evaluate_loss(model, held_out),
                    }
                )
    model.eval()
    return log
