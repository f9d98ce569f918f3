"""Pictures of the experiments."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from appendix_b.nn import Module
from appendix_b.tensor import Tensor, no_grad

# Okabe and Ito's, for all eyes
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")


def boundary(axes, model: Module, x: np.ndarray, labels: np.ndarray) -> None:
    """Points (n, 2) of two classes over how sure the model is of the second one."""
    low, high = x.min(axis=0) - 0.3, x.max(axis=0) + 0.3
    # (120, 120, 2)
    grid = np.stack(np.meshgrid(*np.linspace(low, high, 120).T), axis=-1).astype(np.float32)
    with no_grad():
        logits = model(Tensor(grid.reshape(-1, 2))).data.reshape(120, 120)
    sure = 1 / (1 + np.exp(-np.clip(logits, -30, 30)))
    axes.contourf(grid[..., 0], grid[..., 1], sure, np.linspace(0, 1, 11), cmap="PuOr", alpha=0.6)
    axes.contour(grid[..., 0], grid[..., 1], sure, [0.5], colors="black")
    for label, marker in enumerate("os"):
        axes.plot(*x[labels == label].T, marker, color=("#7f3b08", "#2d004b")[label], markersize=4)
    axes.set(xlabel="first number", ylabel="second number")


def draw_regression(
    x: np.ndarray,
    y: np.ndarray,
    slope: float,
    offset: float,
    losses: list[float],
    best: float,
    moons: list[tuple[str, Module]],
    points: np.ndarray,
    labels: np.ndarray,
) -> Figure:
    """The fitted line, its loss against the least possible one, and what separates two moons."""
    figure = Figure(figsize=(10, 8), layout="constrained")
    (line, loss), below = figure.subplots(2, 2)
    line.plot(x, y, "o", color=COLOURS[5], markersize=4)
    ends = np.array([-1.0, 1.0])
    line.plot(ends, slope * ends + offset, color=COLOURS[1])
    line.set(xlabel="x", ylabel="y", title=f"y = {slope:.2f} x {offset:+.2f}")
    loss.semilogy(losses, color=COLOURS[0])
    loss.axhline(best, linestyle=":", color="black", label="least squares")
    loss.set(xlabel="steps", ylabel="mean squared error", title="gradient descent")
    loss.legend()
    for axes, (title, model) in zip(below, moons, strict=True):
        boundary(axes, model, points, labels)
        axes.set(title=title)
    return figure


def draw_classifiers(table: pd.DataFrame) -> Figure:
    """Each classifier's test errors: a point for each seed, a bar for their mean."""
    names = list(table.groupby("classifier")["accuracy"].mean().sort_values().index)
    figure = Figure(figsize=(8, 1 + 0.5 * len(names)), layout="constrained")
    axes = figure.subplots()
    for place, name in enumerate(names):
        errors = 100 * (1 - table[table["classifier"] == name]["accuracy"])
        axes.barh(place, errors.mean(), color=COLOURS[5], alpha=0.5)
        axes.plot(errors, np.full(len(errors), place), "o", color=COLOURS[0], markersize=4)
    axes.set(yticks=range(len(names)), yticklabels=names, xlabel="errors on test images, %")
    axes.grid(alpha=0.3, axis="x")
    return figure


def draw_filters(filters: np.ndarray) -> Figure:
    """The filters (n, size, size) of a first layer: red adds, blue takes away."""
    columns = min(8, len(filters))
    figure = Figure(figsize=(columns, 0.4 + -(-len(filters) // columns)), layout="constrained")
    largest = np.abs(filters).max()
    for axes, one in zip(
        figure.subplots(-(-len(filters) // columns), columns, squeeze=False).flat,
        filters,
        strict=False,
    ):
        axes.imshow(one, cmap="RdBu_r", vmin=-largest, vmax=largest)
        axes.set(xticks=[], yticks=[])
    figure.suptitle("first layer's filters", fontsize=10)
    return figure


def draw_remedies(logs: dict[str, list[dict]]) -> Figure:
    """A panel for each remedy: loss on the training rows and on unseen ones, and the best
    accuracy on the latter.
    """
    figure = Figure(figsize=(10, 6), layout="constrained")
    panels = figure.subplots(2, -(-len(logs) // 2), sharex=True, sharey=True)
    for axes, (name, log) in zip(panels.flat, logs.items(), strict=False):
        epochs = [line["epoch"] for line in log]
        axes.plot(epochs, [line["train loss"] for line in log], color=COLOURS[0], label="training")
        axes.plot(
            epochs, [line["val loss"] for line in log], "--", color=COLOURS[1], label="validation"
        )
        axes.set(
            title=f"{name}: {log[-1]['val accuracy']:.1%}", xlabel="epochs", ylabel="loss (nats)"
        )
        axes.label_outer()
        axes.grid(alpha=0.3)
    panels.flat[0].legend()
    return figure


def draw_transfer(table: pd.DataFrame) -> Figure:
    """Accuracy on the new classes against epochs: a panel for each number of images, means over
    seeds, and their range.
    """
    counts = sorted(table["images"].unique())
    figure = Figure(figsize=(5 * len(counts), 4), layout="constrained")
    for axes, count in zip(
        figure.subplots(1, len(counts), sharey=True, squeeze=False).flat, counts, strict=True
    ):
        rows = table[table["images"] == count]
        for colour, style, (start, part) in zip(
            COLOURS, ("-", "--", "-."), rows.groupby("start", sort=False), strict=False
        ):
            by_epoch = part.groupby("epoch")["accuracy"]
            axes.plot(by_epoch.mean(), style, color=colour, label=start)
            axes.fill_between(
                by_epoch.mean().index, by_epoch.min(), by_epoch.max(), color=colour, alpha=0.15
            )
        axes.set(
            xlabel="epochs", ylabel="accuracy on unseen 5 ... 9", title=f"{count} images of each"
        )
        axes.label_outer()
        axes.legend()
        axes.grid(alpha=0.3)
    return figure


def draw_text_models(logs: dict[str, list[dict]], title: str = "") -> Figure:
    """Held-out loss against seconds and against tokens read: the budget decides who is ahead."""
    figure = Figure(figsize=(10, 4), layout="constrained")
    for axes, (key, label) in zip(
        figure.subplots(1, 2, sharey=True),
        (("seconds", "seconds of training"), ("tokens", "tokens read")),
        strict=True,
    ):
        for colour, style, (name, log) in zip(
            COLOURS, ("-", "--", "-."), logs.items(), strict=False
        ):
            axes.plot(
                [line[key] for line in log],
                [line["val_loss"] for line in log],
                style,
                color=colour,
                label=name,
            )
        axes.set(xlabel=label, ylabel="held-out loss (nats a token)", title=title)
        axes.label_outer()
        axes.legend()
        axes.grid(alpha=0.3)
    return figure
