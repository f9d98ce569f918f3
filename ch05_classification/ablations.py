"""Ablations: which hidden state, which weights, which width, how many labels (the book's section
6.8 and its additional experiments).

Each trial changes one setting; everything else, the split included, stays the same. "labels" is the
learning curve: read horizontally, it shows how many labels pretraining saves.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from tqdm import tqdm

from ch03_gpt import GPTConfig, GPTModel, Precision
from ch05_classification.config import ClassifierConfig
from ch05_classification.dataset import Task
from ch05_classification.experiment import run_task
from ch05_classification.metrics import accuracy, bootstrap, f1

SIZES = (100, 300, 1000, 3000, 10_000)  # labelled texts
WIDTHS = (64, 128, 256)


@dataclass(frozen=True)
class Trial:
    """One variant: the question that it answers, its name, and the settings it changes."""

    question: str
    name: str
    config: ClassifierConfig
    n_train: int | None = None  # labelled texts; None: all
    width: int | None = None  # of an untrained model; None: the base model's


def trials(config: ClassifierConfig, n_train: int) -> Iterator[Trial]:
    """All variants. Each question repeats the variant that `config` itself is, so that its panel is
    complete. `config.epochs` must be set.
    """
    assert config.epochs is not None
    for pooling in ("last", "padding", "first", "mean", "max"):
        yield Trial("which token", pooling, replace(config, pooling=pooling))
    for trainable in ("head", "last-block", "all"):
        yield Trial("what learns", trainable, replace(config, trainable=trainable, lora_rank=0))
    for rank in (1, 4, 16):
        with_lora = replace(
            config, trainable="all", lora_rank=rank, lora_alpha=2.0 * rank, lr=4 * config.lr
        )
        yield Trial("what learns", f"LoRA {rank}", with_lora)
    scratch = replace(config, start="scratch")
    for width in WIDTHS:
        yield Trial("which width", f"{width}, scratch", scratch, width=width)
    for start in dict.fromkeys((config.start, "scratch")):
        for n in sorted({min(n, n_train) for n in SIZES}):
            longer = replace(
                config,
                start=start,
                epochs=min(config.epochs * n_train / n, 40),
                evals_per_epoch=min(config.evals_per_epoch, n / 400),
            )
            yield Trial("labels", f"{n}, {start}", longer, n_train=n)


def few_labels(task: Task, n: int, seed: int) -> Task:
    """The task with `n` of its training rows and a fifth as many validation rows, at least 20."""
    rng = np.random.default_rng(seed)
    n_val = min(len(task.val), max(20, n // 5))
    return replace(
        task,
        train=task.train.take(rng.permutation(len(task.train))[:n]),
        val=task.val.take(rng.permutation(len(task.val))[:n_val]),
    )


def resized(model: GPTModel, width: int) -> GPTModel:
    """An untrained model of another width, with heads as wide as before."""
    config: GPTConfig = model.config
    return GPTModel(replace(config, emb_dim=width, n_heads=max(1, width // config.head_dim)))


def ablate(
    task: Task,
    config: ClassifierConfig,
    models: dict[str, tuple],
    precision: Precision,
    repeats: int,
) -> pd.DataFrame:
    """A row for each trial and repeat: accuracy with its interval, F1, trained weights, seconds.

    `models`: (model, tokenizer) for `config.start` and for "scratch".
    """
    config = replace(config, epochs=config.epochs or task.epochs)
    rows = []
    plan = [
        (trial, config.seed + repeat)
        for trial in trials(config, len(task.train))
        for repeat in range(repeats)
    ]
    for trial, seed in tqdm(plan, "trials", disable=None):
        model, tokenizer = models[trial.config.start]
        if trial.width:
            model = resized(model, trial.width)
        part = task if trial.n_train is None else few_labels(task, trial.n_train, seed)
        own, description = replace(trial.config, seed=seed), f"{trial.question}: {trial.name}"
        result = run_task(part, model, tokenizer, own, precision, description)
        low, high = bootstrap(task.test.labels, result.predicted, accuracy, config.seed)
        rows.append(
            {
                "question": trial.question,
                "variant": trial.name,
                "start": trial.config.start,
                "seed": seed,
                "n_train": len(part.train),
                "accuracy": accuracy(task.test.labels, result.predicted),
                "ci95_low": low,
                "ci95_high": high,
                "f1": f1(task.test.labels, result.predicted, task.positive),
                "trainable_params": result.trainable_params,
                "seconds": result.history.seconds,
            }
        )
    return pd.DataFrame(rows)
