"""Plots of the experiments."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from appendix_b.nn import Module
from appendix_b.tensor import Tensor, no_grad

# The palette of Okabe and Ito, distinguishable with colour vision deficiencies.
BLUE, ORANGE, GREEN, PINK, YELLOW, SKY = (
    "#0072b2",
    "#d55e00",
    "#009e73",
    "#cc79a7",
    "#e69f00",
    "#56b4e9",
)
STYLES = ((BLUE, "-"), (ORANGE, "--"), (GREEN, "-."))


def draw_boundary(axes, model: Module, x: np.ndarray, labels: np.ndarray) -> None:
    """Points (n, 2) of two classes over the probability that the model assigns to class 1; the
    black line is one half.
    """
    low, high = x.min(axis=0) - 0.3, x.max(axis=0) + 0.3
    grid = np.stack(np.meshgrid(*np.linspace(low, high, 120).T), axis=-1).astype(np.float32)
    with no_grad():
        logits = model(Tensor(grid.reshape(-1, 2))).data.reshape(120, 120)
    probability = 1 / (1 + np.exp(-np.clip(logits, -30, 30)))
    x1, x2 = grid[..., 0], grid[..., 1]  # (120, 120) each
    axes.contourf(x1, x2, probability, np.linspace(0, 1, 11), cmap="PuOr", alpha=0.6)
    axes.contour(x1, x2, probability, [0.5], colors="black")
    for label, (marker, colour) in enumerate((("o", "#7f3b08"), ("s", "#2d004b"))):
        axes.plot(*x[labels == label].T, marker, color=colour, markersize=4)
    axes.set(xlabel="$x_1$", ylabel="$x_2$")


def draw_regression(
    points: tuple[np.ndarray, np.ndarray],
    line: tuple[float, float],
    losses: list[float],
    best_loss: float,
    moons: tuple[np.ndarray, np.ndarray],
    models: Mapping[str, Module],
) -> Figure:
    """Points (x, y) and the fitted line (slope, intercept); its loss compared with the least
    squares solution; two moons (points, labels) and the decision boundaries of two models by title.
    """
    figure = Figure(figsize=(10, 8), layout="constrained")
    (left, right), below = figure.subplots(2, 2)
    slope, intercept = line
    left.plot(*points, "o", color=SKY, markersize=4)
    ends = np.array([-1.0, 1.0])
    left.plot(ends, slope * ends + intercept, color=ORANGE)
    left.set(xlabel="x", ylabel="y", title=f"y = {slope:.2f} x {intercept:+.2f}")
    right.semilogy(losses, color=BLUE)
    right.axhline(best_loss, linestyle=":", color="black", label="least squares")
    right.set(xlabel="steps", ylabel="mean squared error", title="gradient descent")
    right.legend()
    for axes, (title, model) in zip(below, models.items(), strict=True):
        draw_boundary(axes, model, *moons)
        axes.set(title=title)
    return figure


def draw_classifiers(table: pd.DataFrame) -> Figure:
    """The test error of each classifier: one dot per seed, a bar for the mean."""
    names = list(table.groupby("classifier")["accuracy"].mean().sort_values().index)
    figure = Figure(figsize=(8, 1 + 0.5 * len(names)), layout="constrained")
    axes = figure.subplots()
    for y, name in enumerate(names):
        errors = 100 * (1 - table[table["classifier"] == name]["accuracy"])
        axes.barh(y, errors.mean(), color=SKY, alpha=0.5)
        axes.plot(errors, np.full(len(errors), y), "o", color=BLUE, markersize=4)
    axes.set(yticks=range(len(names)), yticklabels=names, xlabel="test error, %")
    axes.grid(alpha=0.3, axis="x")
    return figure


def draw_filters(filters: np.ndarray) -> Figure:
    """The filters (n, k, k) of a first layer: positive weights red, negative weights blue."""
    columns = min(8, len(filters))
    rows = -(-len(filters) // columns)  # rounded up
    figure = Figure(figsize=(columns, 0.4 + rows), layout="constrained")
    largest = np.abs(filters).max()
    for axes, one in zip(figure.subplots(rows, columns, squeeze=False).flat, filters, strict=False):
        axes.imshow(one, cmap="RdBu_r", vmin=-largest, vmax=largest)
        axes.set(xticks=[], yticks=[])
    figure.suptitle("filters of the first layer", fontsize=10)
    return figure


def draw_remedies(logs: dict[str, list[dict]]) -> Figure:
    """One panel per remedy against overfitting: training and validation loss; the title has the
    final validation accuracy.
    """
    figure = Figure(figsize=(10, 6), layout="constrained")
    panels = figure.subplots(2, -(-len(logs) // 2), sharex=True, sharey=True)
    for axes, (name, log) in zip(panels.flat, logs.items(), strict=False):
        table = pd.DataFrame(log)
        axes.plot(table["epoch"], table["train loss"], color=BLUE, label="training")
        axes.plot(table["epoch"], table["val loss"], "--", color=ORANGE, label="validation")
        axes.set(
            title=f"{name}: {log[-1]['val accuracy']:.1%}", xlabel="epochs", ylabel="loss (nats)"
        )
        axes.label_outer()
        axes.grid(alpha=0.3)
    panels.flat[0].legend()
    return figure


def draw_transfer(table: pd.DataFrame) -> Figure:
    """Test accuracy on the new classes by epoch: one panel per number of images, the mean over
    seeds as a line, the range as a band.
    """
    counts = sorted(table["images"].unique())
    figure = Figure(figsize=(5 * len(counts), 4), layout="constrained")
    for axes, count in zip(
        figure.subplots(1, len(counts), sharey=True, squeeze=False).flat, counts, strict=True
    ):
        rows = table[table["images"] == count]
        for (colour, style), (start, part) in zip(
            STYLES, rows.groupby("start", sort=False), strict=False
        ):
            by_epoch = part.groupby("epoch")["accuracy"]
            mean = by_epoch.mean()
            axes.plot(mean, style, color=colour, label=start)
            axes.fill_between(mean.index, by_epoch.min(), by_epoch.max(), color=colour, alpha=0.15)
        axes.set(xlabel="epochs", ylabel="test accuracy on 5 to 9", title=f"{count} images of each")
        axes.label_outer()
        axes.legend(loc="lower right")
        axes.grid(alpha=0.3)
    return figure


def draw_text_models(logs: dict[str, list[dict]], title: str = "") -> Figure:
    """Held-out loss by training time and by number of tokens: the budget decides which is ahead."""
    figure = Figure(figsize=(10, 4), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    for axes, key, label in ((left, "seconds", "training time, s"), (right, "tokens", "tokens")):
        for (colour, style), (name, log) in zip(STYLES, logs.items(), strict=False):
            table = pd.DataFrame(log)
            axes.plot(table[key], table["val_loss"], style, color=colour, label=name)
        axes.set(xlabel=label, ylabel="held-out loss (nats per token)", title=title)
        axes.label_outer()
        axes.legend()
        axes.grid(alpha=0.3)
    return figure
