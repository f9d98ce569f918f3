"""A classifier beside its baselines: the table of scores, the errors, the metrics of a run."""

import numpy as np
import pandas as pd

from ch05_classification.baselines import WORD_COUNTERS, Baseline
from ch05_classification.dataset import Task
from ch05_classification.experiment import Result
from ch05_classification.metrics import (
    calibration_error,
    choose_threshold,
    f1,
    mcnemar,
    ranking,
    softmax,
    summarize,
)


def score_table(
    task: Task, baselines: list[Baseline], predictions: dict[str, np.ndarray], seed: int
) -> pd.DataFrame:
    """A row for each baseline, then one for each of `predictions`: accuracy and F1 with 95 %
    intervals, and McNemar's test against the last row.
    """
    labels = task.test.labels
    predictions = {baseline.name: baseline.predicted for baseline in baselines} | predictions
    ours_right = list(predictions.values())[-1] == labels
    rows = []
    for name, predicted in predictions.items():
        only_ours, only_it, p = mcnemar(ours_right, predicted == labels)
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
    """The test rows with a wrong prediction, the most confident first."""
    labels, predicted = task.test.labels, result.predicted
    confidence = result.probabilities.max(axis=1)
    wrong = np.flatnonzero(labels != predicted)
    return pd.DataFrame(
        [
            {
                "true": task.classes[labels[row]],
                "predicted": task.classes[predicted[row]],
                "confidence": confidence[row],
                "text": task.test.texts[row],
            }
            for row in wrong[np.argsort(-confidence[wrong])]
        ]
    )


def compute_metrics(task: Task, result: Result, table: pd.DataFrame) -> dict:
    """The metrics of one classifier; the last row of `table` is its own."""
    labels = task.test.labels
    own, others = table.iloc[-1], table.iloc[:-1]
    counters = others[others["classifier"].isin(WORD_COUNTERS)]
    rules = others[others["classifier"].isin(list(task.shortcuts))]
    metrics: dict[str, float | None] = {
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
        "temperature": result.metadata.temperature,
        "truncated": result.n_truncated,
        "trained_parameters": result.trainable_params,
        "steps": result.history.step,
        "seconds": result.history.seconds,
    }
    if task.positive is not None:
        metrics |= threshold_metrics(task, result)
    return metrics


def threshold_metrics(task: Task, result: Result) -> dict[str, float]:
    """How well two classes are ranked, and the F1 at the threshold chosen on validation rows."""
    val_scores = result.metadata.probabilities(result.val_logits)[:, task.positive]
    scores, positive = result.probabilities[:, task.positive], task.test.labels == task.positive
    threshold = choose_threshold(val_scores, task.val.labels == task.positive)
    return ranking(scores, positive) | {
        "threshold": threshold,
        "threshold_f1": f1(positive, scores >= threshold, 1),
    }
