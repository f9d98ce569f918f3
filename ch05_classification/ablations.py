"""The book's questions about a classifier (its section 6.8 and appendix of experiments), answered
by training it.

Each answer changes one thing of the recipe; all else, the split included, is the same. "Labels" is
the learning curve: what pretraining saves is read off it sideways.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from tqdm import tqdm

from ch03_gpt import GPTConfig, GPTModel, Precision
from ch05_classification.examples import Task
from ch05_classification.experiment import Recipe, run_task
from ch05_classification.scores import accuracy, bootstrap, f1

SIZES = (100, 300, 1000, 3000, 10_000)  # labelled examples
WIDTHS = (64, 128, 256)


@dataclass(frozen=True)
class Trial:
    """One run: the answer to a question that it tries, and what it changes."""

    question: str
    answer: str
    recipe: Recipe
    start: str = "pretrained"
    n_train: int | None = None  # labelled examples; None: all
    width: int | None = None  # of a model from scratch; None: the base model's


def trials(recipe: Recipe, n_train: int) -> Iterator[Trial]:
    """All of them; answers that are the recipe's own are named, too, so that each panel is
    complete.
    """
    for pooling in ("last", "padding", "first", "mean", "max"):
        yield Trial(
            "which token",
            {"last": "last real", "padding": "last of the row"}.get(pooling, pooling),
            replace(recipe, pooling=pooling),
        )
    yield Trial("which mask", "causal, last", recipe)
    yield Trial("which mask", "none, last", replace(recipe, causal=False))
    yield Trial("which mask", "none, mean", replace(recipe, causal=False, pooling="mean"))
    for part in ("head", "last-block", "all"):
        yield Trial("what learns", part, replace(recipe, part=part))
    for rank in (1, 4, 16):
        lora = replace(
            recipe,
            lora_rank=rank,
            lora_alpha=2.0 * rank,
            plan=replace(recipe.plan, lr=4 * recipe.plan.lr),
        )
        yield Trial("what learns", f"LoRA {rank}", lora)
    for width in WIDTHS:
        yield Trial("which width", f"{width}, scratch", recipe, "scratch", width=width)
    for start in ("pretrained", "scratch"):
        for n in sorted({min(n, n_train) for n in SIZES}):
            longer = replace(
                recipe.plan,
                epochs=min(recipe.plan.epochs * n_train / n, 40),
                validations=min(recipe.plan.validations, n / 400),
                patience=5,
            )
            yield Trial("labels", f"{n}, {start}", replace(recipe, plan=longer), start, n_train=n)


def few_labels(task: Task, n: int, seed: int) -> Task:
    """The task with `n` of its training rows, and as many validation rows as go with them."""
    rng = np.random.default_rng(seed)
    n_val = min(len(task.val), max(20, n // 5))
    return replace(
        task,
        train=task.train.take(rng.permutation(len(task.train))[:n]),
        val=task.val.take(rng.permutation(len(task.val))[:n_val]),
    )


def resized(model: GPTModel, width: int) -> GPTModel:
    """An untrained model of another width, its heads as wide as before."""
    config: GPTConfig = model.config
    return GPTModel(replace(config, emb_dim=width, n_heads=max(1, width // config.head_dim)))


def ablate(
    task: Task,
    recipe: Recipe,
    models: dict[str, tuple],
    precision: Precision,
    seed: int,
    repeats: int,
) -> pd.DataFrame:
    """A row for every trial and repeat: what was asked and tried, accuracy with its interval, F1,
    seconds. `models`: (model, tokenizer) to start from, "pretrained" and from "scratch"; the
    validation rows stay out.
    """
    recipe = replace(recipe, refits=0)
    plan = [
        (trial, repeat) for trial in trials(recipe, len(task.train)) for repeat in range(repeats)
    ]
    rows = []
    for trial, repeat in tqdm(plan, "trials", disable=None):
        model, tokenizer = models[trial.start]
        if trial.width:
            model = resized(model, trial.width)
        part = task if trial.n_train is None else few_labels(task, trial.n_train, seed + repeat)
        result = run_task(
            part,
            model,
            tokenizer,
            trial.recipe,
            precision,
            seed + repeat,
            f"{trial.question}: {trial.answer}",
        )
        low, high = bootstrap(task.test.labels, result.predicted, accuracy, seed)
        rows.append(
            {
                "question": trial.question,
                "answer": trial.answer,
                "repeat": repeat,
                "n_train": len(part.train),
                "accuracy": accuracy(task.test.labels, result.predicted),
                "ci95_low": low,
                "ci95_high": high,
                "f1": f1(task.test.labels, result.predicted, task.positive),
                "learned": result.n_trained,
                "seconds": result.history.seconds,
            }
        )
    return pd.DataFrame(rows)
