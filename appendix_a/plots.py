"""Plots: memory, broadcasting, optimizer paths, decision boundaries and profiles."""

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from appendix_a.landscape import valley
from appendix_a.memory import storage_indices

# The palette of Okabe and Ito, distinguishable with colour vision deficiencies.
BLUE, ORANGE, GREEN, PINK = "#0072B2", "#D55E00", "#009E73", "#CC79A7"
STYLES = ((BLUE, "o-"), (ORANGE, "s--"), (GREEN, "^-."), (PINK, "D:"))


def _cells(
    axes, texts: list[list], colours: np.ndarray, title: str, faint: np.ndarray | None = None
) -> None:
    """A grid of coloured cells, each with a text; the text of faint cells is grey."""
    axes.imshow(colours, aspect="equal", interpolation="nearest")
    for i, row in enumerate(texts):
        for j, text in enumerate(row):
            is_faint = faint is not None and faint[i, j]
            axes.text(
                j,
                i,
                text,
                ha="center",
                va="center",
                fontsize=9,
                color="#888888" if is_faint else "black",
            )
    axes.set_xticks(np.arange(-0.5, len(texts[0])), [])
    axes.set_yticks(np.arange(-0.5, len(texts)), [])
    axes.grid(color="white", linewidth=2)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.set_title(title, fontsize=9)


def _shades(numbers: np.ndarray, n: int) -> np.ndarray:
    """Light colours for numbers from 0 to n - 1, from one end of cividis to the other."""
    import matplotlib

    colours = matplotlib.colormaps["cividis"](numbers / max(1, n - 1))[..., :3]
    return 1 - 0.45 * (1 - colours)


def draw_memory(views: dict[str, Tensor]) -> Figure:
    """Above, the storage that all views share, one cell per number; below, each view (of one or two
    axes), coloured by position in the storage.
    """
    storage = next(iter(views.values())).untyped_storage()
    row = torch.tensor([], dtype=next(iter(views.values())).dtype).set_(storage)
    figure = Figure(figsize=(2.3 * len(views), 3.4), layout="constrained")
    upper, lower = figure.subfigures(2, 1, height_ratios=(1, 2.6))  # type: ignore[misc]  # an array
    n = len(row)
    _cells(
        upper.subplots(),
        [[f"{x:g}" for x in row.tolist()]],
        _shades(np.arange(n)[None], n),
        "storage",
    )
    across, down = (
        max(np.atleast_2d(view).shape[axis] for view in views.values()) for axis in (1, 0)
    )
    for axes, (name, view) in zip(
        lower.subplots(1, len(views), squeeze=False)[0], views.items(), strict=True
    ):
        grid, numbers = np.atleast_2d(storage_indices(view).numpy()), np.atleast_2d(view.numpy())
        title = (
            f"{name}: shape {tuple(view.shape)}\nstride {view.stride()}, offset"
            f" {view.storage_offset()}"
        )
        _cells(
            axes, [[f"{x:g}" for x in line] for line in numbers.tolist()], _shades(grid, n), title
        )
        axes.set(xlim=(-0.5, across - 0.5), ylim=(down - 0.5, -0.5))
    return figure


def draw_broadcast(left: Tensor, right: Tensor) -> Figure:
    """left + right, of up to two axes each: the numbers that exist (blue), those that broadcasting
    repeats (grey), and the sum.
    """
    total = left + right
    figure = Figure(figsize=(8.5, 0.6 + 0.55 * len(np.atleast_2d(total))), layout="constrained")
    for axes, part, sign in zip(
        figure.subplots(1, 3), (left, right, total), ("", "+", "="), strict=True
    ):
        whole = np.atleast_2d(part.expand(total.shape).numpy())
        real = np.zeros(whole.shape, dtype=bool)
        real[tuple(slice(size) for size in np.atleast_2d(part.numpy()).shape)] = True
        colours = np.where(real[..., None], (0.66, 0.81, 0.91), (0.95, 0.95, 0.95))
        _cells(
            axes,
            [[f"{x:g}" for x in row] for row in whole.tolist()],
            colours,
            f"{tuple(part.shape)}",
            faint=~real,
        )
        axes.annotate(
            sign, (-0.12, 0.5), xycoords="axes fraction", fontsize=16, ha="center", va="center"
        )
    return figure


def draw_paths(paths: dict[str, Tensor]) -> Figure:
    """The paths (steps + 1, 2) of optimizers over the contours of the valley, and their losses by
    step.
    """
    figure = Figure(figsize=(10, 3.8), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(1.5, 1))
    x, y = torch.meshgrid(
        torch.linspace(-4.6, 2.5, 150), torch.linspace(-1.1, 1.1, 100), indexing="xy"
    )
    left.contour(x, y, valley(x, y), np.geomspace(0.1, 60, 12), cmap="Greys_r", linewidths=0.8)
    for (name, path), (colour, style) in zip(paths.items(), STYLES, strict=False):
        left.plot(*path.T, style, color=colour, markersize=3, linewidth=1.2, label=name)
        right.semilogy(
            valley(*path.T), style, color=colour, markersize=3, linewidth=1.2, label=name
        )
    left.plot(0, 0, "*", color="black", markersize=10)
    left.set(xlabel="x", ylabel="y", xlim=(-4.6, 2.5), ylim=(-1.1, 1.1), title="path")
    right.set(xlabel="step", ylabel="loss", title="loss")
    left.legend(fontsize=8, loc="upper right")
    right.grid(alpha=0.3)
    return figure


@torch.inference_mode()
def draw_boundary(axes, network: nn.Module, features: Tensor, labels: Tensor) -> None:
    """Points (n, 2) of two classes over the probability that the network assigns to class 1; the
    black line is one half.
    """
    side = torch.linspace(-1.25, 1.25, 120)
    x, y = torch.meshgrid(side, side, indexing="xy")
    probability = (
        network(torch.stack((x, y), dim=-1).view(-1, 2)).softmax(dim=1)[:, 1].view(x.shape)
    )
    axes.contourf(x, y, probability, np.linspace(0, 1, 11), cmap="PuOr", alpha=0.6)
    axes.contour(x, y, probability, [0.5], colors="black", linewidths=1)
    for label, (marker, colour) in enumerate((("o", "#7f3b08"), ("s", "#2d004b"))):
        axes.plot(
            *features[labels == label].T,
            marker,
            color=colour,
            markersize=2.5,
            label=f"class {label}",
        )
    axes.set(xlabel="$x_1$", ylabel="$x_2$", aspect="equal")


def draw_training(
    losses: Tensor, network: nn.Module, features: Tensor, labels: Tensor, title: str
) -> Figure:
    """The loss of every step and its moving average; the decision boundary over test points."""
    figure = Figure(figsize=(9, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.semilogy(losses, color=BLUE, alpha=0.25, label="batch")
    left.semilogy(
        pd.Series(losses.numpy()).rolling(max(1, len(losses) // 30), min_periods=1).mean(),
        color=BLUE,
        label="moving average",
    )
    left.set(xlabel="step", ylabel="cross-entropy (nats)", title="training")
    left.legend()
    left.grid(alpha=0.3)
    draw_boundary(right, network, features, labels)
    right.set_title(title)
    right.legend(fontsize=8, loc="upper right")
    return figure


def draw_profile(tables: dict[str, pd.DataFrame], rows: int = 8) -> Figure:
    """The most expensive operations of each `profile_operations` table: share of the time, and
    calls per step.
    """
    figure = Figure(figsize=(5.4 * len(tables), 0.9 + 0.3 * rows), layout="constrained")
    for axes, (name, table) in zip(
        figure.subplots(1, len(tables), squeeze=False)[0], tables.items(), strict=True
    ):
        top = table.head(rows).iloc[::-1]
        names = top["operation"].str.replace(
            "autograd::engine::evaluate_function", "engine", regex=False
        )
        axes.barh(range(len(top)), 100 * top["share"], color=BLUE)
        axes.set_yticks(range(len(top)), names.str.slice(0, 30), fontsize=8)
        for y, (share, calls) in enumerate(zip(top["share"], top["calls"], strict=True)):
            axes.text(100 * share, y, f" {calls:g} ×", va="center", fontsize=8)
        axes.set(xlabel="share of the time, %", title=name)
        axes.grid(alpha=0.3, axis="x")
        axes.margins(x=0.15)
    return figure
