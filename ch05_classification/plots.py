"""Plots of a classifier: learning curves, confusion matrix, ROC and precision-recall, reliability,
ablations.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from sklearn import metrics

from ch05_classification.metrics import BINS, calibration_error, reliability, softmax


def draw_training(log: list[dict], title: str = "") -> Figure:
    """Training and validation loss (nats per text) and validation accuracy against steps."""
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    steps = [entry["step"] for entry in log]
    left.plot(steps, [entry["train_loss"] for entry in log], "o-", label="training")
    left.plot(steps, [entry["val_loss"] for entry in log], "o-", label="validation")
    left.set(xlabel="steps", ylabel="loss (nats per text)", title=title)
    left.set_ylim(bottom=0)
    left.legend()
    right.plot(steps, [entry["val_accuracy"] for entry in log], "o-", color="tab:orange")
    right.set(xlabel="steps", ylabel="validation accuracy")
    for axes in (left, right):
        axes.grid(alpha=0.3)
    return figure


def draw_confusion(
    labels: np.ndarray, predicted: np.ndarray, classes: Sequence[str], most: int = 12
) -> Figure:
    """The confusion matrix: true classes as rows, predicted ones as columns. Of more than `most`
    classes only those with the most errors are shown.
    """
    wrong = np.bincount(labels[labels != predicted], minlength=len(classes)) + np.bincount(
        predicted[labels != predicted], minlength=len(classes)
    )
    shown = np.sort(np.argsort(-wrong, kind="stable")[:most])
    counts = metrics.confusion_matrix(labels, predicted, labels=range(len(classes)))[
        np.ix_(shown, shown)
    ]
    side = 2.5 + 0.5 * len(shown)
    figure = Figure(figsize=(side + 0.5, side), layout="constrained")
    axes = figure.subplots()
    axes.imshow(
        counts / np.maximum(1, counts.sum(axis=1, keepdims=True)), cmap="Blues", vmin=0, vmax=1
    )
    for row, column in np.ndindex(counts.shape):
        share = counts[row, column] / max(1, counts[row].sum())
        axes.text(
            column,
            row,
            counts[row, column],
            ha="center",
            va="center",
            color="white" if share > 0.5 else "black",
        )
    names = [classes[number] for number in shown]
    axes.set(
        xticks=range(len(shown)),
        yticks=range(len(shown)),
        yticklabels=names,
        xlabel="predicted",
        ylabel="true",
        title=(
            "Confusion"
            if len(shown) == len(classes)
            else f"Confusion among the {most} most confused classes"
        ),
    )
    axes.set_xticklabels(
        names, rotation=45 if len(shown) > 2 else 0, ha="right" if len(shown) > 2 else "center"
    )
    return figure


def draw_curves(scores: dict[str, np.ndarray], positive: np.ndarray) -> Figure:
    """ROC and precision-recall curves of several classifiers, from their scores (n,) for the same
    rows.
    """
    figure = Figure(figsize=(9, 4.2), layout="constrained")
    roc, pr = figure.subplots(1, 2)
    for name, score in scores.items():
        false, true, _ = metrics.roc_curve(positive, score)
        precision, recall, _ = metrics.precision_recall_curve(positive, score)
        roc.plot(false, true, label=f"{name} (area {metrics.auc(false, true):.4f})")
        pr.plot(
            recall,
            precision,
            label=f"{name} (average {metrics.average_precision_score(positive, score):.4f})",
        )
    roc.plot([0, 1], [0, 1], ":", color="gray", label="chance")
    pr.axhline(positive.mean(), linestyle=":", color="gray", label="chance")
    roc.set(xlabel="false positive rate", ylabel="true positive rate", title="ROC")
    pr.set(xlabel="recall", ylabel="precision", title="Precision and recall", ylim=(0, 1.02))
    for axes in (roc, pr):
        axes.grid(alpha=0.3)
        axes.legend(loc="lower right" if axes is roc else "lower left", fontsize=8)
    return figure


def _reliability_panel(
    axes: Axes, probabilities: np.ndarray, labels: np.ndarray, title: str
) -> None:
    rows = reliability(probabilities, labels)
    confidence = [row["confidence"] for row in rows]
    axes.plot([0, 1], [0, 1], ":", color="gray")
    axes.bar(confidence, [row["accuracy"] for row in rows], width=0.6 / BINS, alpha=0.5)
    axes.plot(confidence, [row["accuracy"] for row in rows], "o-")
    for row in rows:
        axes.annotate(
            f"{row['n']}",
            (row["confidence"], row["accuracy"]),
            xytext=(0, 6),
            textcoords="offset points",
            ha="center",
            fontsize=7,
        )
    axes.set(
        xlabel="confidence",
        ylabel="accuracy",
        xlim=(0, 1.02),
        ylim=(0, 1.1),
        title=f"{title}: ECE {calibration_error(probabilities, labels):.3f}",
    )


def draw_reliability(logits: np.ndarray, labels: np.ndarray, temperature: float) -> Figure:
    """Reliability diagrams before and after temperature scaling; the numbers count rows."""
    figure = Figure(figsize=(9, 4.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    _reliability_panel(left, softmax(logits), labels, "As trained")
    _reliability_panel(right, softmax(logits, temperature), labels, f"Divided by {temperature:.2f}")
    return figure


def _error_bars(table: pd.DataFrame) -> list[pd.Series]:
    return [table["accuracy"] - table["ci95_low"], table["ci95_high"] - table["accuracy"]]


def draw_table(table: pd.DataFrame, title: str = "") -> Figure:
    """Accuracy with its 95 % interval, one line per classifier."""
    figure = Figure(figsize=(8, 0.8 + 0.4 * len(table)), layout="constrained")
    axes = figure.subplots()
    rows = range(len(table))
    axes.errorbar(table["accuracy"], rows, xerr=_error_bars(table), fmt="o", capsize=3)
    axes.set(
        yticks=rows,
        yticklabels=table["classifier"],
        title=title,
        xlabel="accuracy on the test rows, 95 % interval",
    )
    axes.invert_yaxis()
    axes.grid(alpha=0.3, axis="x")
    return figure


def draw_ablation(table: pd.DataFrame) -> Figure:
    """One panel per question with its variants; a point is one run with its 95 % interval."""
    questions = list(dict.fromkeys(table["question"]))
    figure = Figure(
        figsize=(5 * min(3, len(questions)), 3.2 * -(-len(questions) // 3)), layout="constrained"
    )
    panels = figure.subplots(-(-len(questions) // 3), min(3, len(questions)), squeeze=False).flat
    for question, axes in zip(questions, panels, strict=False):
        part = table[table["question"] == question]
        variants = list(dict.fromkeys(part["variant"]))
        if question == "labels":
            for start, rows in part.groupby("start"):
                axes.errorbar(
                    rows["n_train"],
                    rows["accuracy"],
                    yerr=_error_bars(rows),
                    fmt="o",
                    capsize=3,
                    label=start,
                )
                means = rows.groupby("n_train")["accuracy"].mean()
                axes.plot(means.index, means, color="gray", linewidth=0.8)
            axes.set(xscale="log", xlabel="labelled texts")
            axes.legend(fontsize=8)
        else:
            x = [variants.index(variant) for variant in part["variant"]]
            axes.errorbar(x, part["accuracy"], yerr=_error_bars(part), fmt="o", capsize=3)
            axes.set(xticks=range(len(variants)))
            axes.set_xticklabels(variants, rotation=20, ha="right", fontsize=8)
        axes.set(title=question, ylabel="accuracy")
        axes.grid(alpha=0.3)
    for axes in list(panels):
        axes.set_visible(False)
    return figure
