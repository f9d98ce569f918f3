"""One classifier from the base model to its scores on the test rows, and the table beside the
baselines.
"""

import copy
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import torch

from ch03_gpt import GPTModel, Precision
from ch05_classification.baselines import WORD_COUNTERS, Baseline
from ch05_classification.classifier import GPTClassifier, train_only
from ch05_classification.encoding import encode_examples
from ch05_classification.ensemble import Ensemble
from ch05_classification.examples import Examples, Task
from ch05_classification.fine_tuning import History, Plan, fit
from ch05_classification.lora import replace_linear_with_lora
from ch05_classification.saved import Choice
from ch05_classification.scores import (
    calibration_error,
    choose_threshold,
    f1,
    fit_temperature,
    mcnemar,
    ranking,
    softmax,
    summarize,
)
from ch05_classification.steps import both_steps, predict


@dataclass(frozen=True)
class Recipe:
    """What is put on the base model, what of it learns, and how."""

    plan: Plan
    part: str = "all"  # or "last-block", "head"
    lora_rank: int = 0  # 0: no LoRA; else only corrections of this rank and the head learn
    lora_alpha: float = 16.0
    pooling: str = "last"
    causal: bool = True
    # once calibrated on the validation rows: so many learn once more, from those rows too, and vote
    refits: int = 0


STORIES = Recipe(Plan(epochs=2, batch_size=16, lr=5e-4, validations=4))
# 22,000 questions in two steps each, once
PLACES = replace(STORIES, plan=replace(STORIES.plan, epochs=1))
# few rows: each one counts
TEXTS = Recipe(Plan(epochs=6, batch_size=16, lr=5e-4, label_smoothing=0.1), refits=2)


@dataclass(frozen=True)
class Result:
    """A trained classifier and what it said of the test rows."""

    classifier: GPTClassifier | Ensemble
    tokenizer: object
    choice: Choice
    history: History
    val_logits: np.ndarray  # (n_val, K)
    logits: np.ndarray  # (n_test, K)
    truncated: int  # texts of all three parts that did not fit
    n_trained: int  # parameters that learned

    @property
    def predicted(self) -> np.ndarray:
        """(n_test,) class numbers."""
        return self.logits.argmax(axis=1)

    @property
    def probabilities(self) -> np.ndarray:
        """(n_test, K), after temperature scaling."""
        return self.choice.probabilities(self.logits)


def build_classifier(
    model: GPTModel, tokenizer, task: Task, recipe: Recipe, seed: int
) -> GPTClassifier:
    """A classifier on a copy of `model`, with the parts frozen that are not to learn."""
    torch.manual_seed(seed)
    classifier = GPTClassifier(
        copy.deepcopy(model), len(task.classes), recipe.pooling, recipe.causal
    )
    if task.answers is not None and recipe.pooling == "last":
        classifier.begin_with_words([tokenizer.encode(answer)[0] for answer in task.answers])
    if recipe.lora_rank:
        replace_linear_with_lora(classifier.model.trf_blocks, recipe.lora_rank, recipe.lora_alpha)
        classifier.model.requires_grad_(False)
        for name, parameter in classifier.named_parameters():
            parameter.requires_grad_(".lora." in name or "out_head" in name)
    else:
        train_only(classifier, recipe.part)
    return classifier


def run_task(
    task: Task,
    model: GPTModel,
    tokenizer,
    recipe: Recipe,
    precision: Precision,
    seed: int,
    description: str = "fine-tuning",
) -> Result:
    """Fine-tune on the training rows, stop and calibrate on the validation rows, predict the
    test rows.
    """
    training, validation = (
        encode_examples(
            tokenizer,
            both_steps(task.name, part, task.classes),
            model.config.context_length,
            task.keep,
        )
        for part in (task.train, task.val)
    )
    plan = replace(recipe.plan, seed=seed)
    classifier = build_classifier(model, tokenizer, task, recipe, seed).to(precision.device)
    n_trained = sum(p.numel() for p in classifier.parameters() if p.requires_grad)
    history = fit(classifier, training, validation, plan, precision, tokenizer.eot_id, description)

    def answers(part: Examples) -> tuple[np.ndarray, int]:
        return predict(
            task.name, classifier, tokenizer, part.texts, task.classes, task.keep, precision
        )

    val_logits, _ = answers(task.val)
    members = []
    for own in range(seed, seed + recipe.refits):
        members.append(build_classifier(model, tokenizer, task, recipe, own).to(precision.device))
        again = fit(
            members[-1],
            training + validation,
            None,
            replace(plan, seed=own),
            precision,
            tokenizer.eot_id,
            "with all rows",
        )
        history.seconds, history.steps = (
            history.seconds + again.seconds,
            history.steps + again.steps,
        )
    if members:
        classifier = Ensemble(members) if len(members) > 1 else members[0]
    logits, truncated = answers(task.test)
    choice = Choice(
        task.name,
        task.classes,
        task.positive,
        task.keep,
        recipe.pooling,
        recipe.causal,
        fit_temperature(val_logits, task.val.labels),
    )
    return Result(
        classifier,
        tokenizer,
        choice,
        history,
        val_logits,
        logits,
        training.truncated + validation.truncated + truncated,
        n_trained,
    )


def score_table(
    task: Task, baselines: list[Baseline], predictions: dict[str, np.ndarray], seed: int
) -> pd.DataFrame:
    """A row for every baseline and every classifier: accuracy and F1 with 95 % intervals, and, for
    what is not the last row, the p of McNemar's test against the last.
    """
    labels = task.test.labels
    everything = {baseline.name: baseline.predicted for baseline in baselines} | predictions
    ours = list(everything.values())[-1] == labels
    rows = []
    for name, predicted in everything.items():
        only_ours, only_it, p = mcnemar(ours, predicted == labels)
        rows.append(
            {
                "classifier": name,
                **summarize(labels, predicted, task.positive, seed),
                "only ours right": only_ours,
                "only it right": only_it,
                "p": p,
            }
        )
    return pd.DataFrame(rows)


def misclassified(task: Task, result: Result) -> pd.DataFrame:
    """The test rows that it got wrong, the surest first."""
    labels, predicted = task.test.labels, result.predicted
    wrong = np.flatnonzero(labels != predicted)
    sure = result.probabilities.max(axis=1)[wrong]
    return pd.DataFrame(
        [
            {
                "true": task.classes[labels[row]],
                "said": task.classes[predicted[row]],
                "how sure": result.probabilities[row].max(),
                "text": task.test.texts[row],
            }
            for row in wrong[np.argsort(-sure)]
        ]
    )


def measure(task: Task, result: Result, table: pd.DataFrame) -> dict:
    """What metrics.json says of one classifier."""
    labels, temperature = task.test.labels, result.choice.temperature
    own = table.iloc[-1]
    others = table.iloc[:-1]
    counters = others[others["classifier"].isin(WORD_COUNTERS)]
    rules = others[others["classifier"].isin(list(task.shortcuts))]
    metrics = {
        name: float(own[name])
        for name in ("accuracy", "f1", "ci95_low", "ci95_high", "f1_low", "f1_high")
    }
    metrics |= {
        "n_test": len(labels),
        "n_train": len(task.train),
        "baseline_accuracy": float(counters["accuracy"].max()),
        "shortcut_accuracy": float(rules["accuracy"].max()) if len(rules) else None,
        "mcnemar_p": float(counters.loc[counters["accuracy"].idxmax(), "p"]),
        "calibration_error": calibration_error(softmax(result.logits), labels),
        "calibration_error_scaled": calibration_error(result.probabilities, labels),
        "temperature": temperature,
        "truncated": result.truncated,
        "trained_parameters": result.n_trained,
        "steps": result.history.steps,
        "seconds": result.history.seconds,
    }
    if task.positive is not None:
        scores, positive = result.probabilities[:, task.positive], labels == task.positive
        threshold = choose_threshold(
            softmax(result.val_logits, temperature)[:, task.positive],
            task.val.labels == task.positive,
        )
        metrics |= ranking(scores, positive)
        metrics |= {"threshold": threshold, "threshold_f1": f1(positive, scores >= threshold, 1)}
    return metrics
