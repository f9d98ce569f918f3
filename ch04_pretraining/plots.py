"""Loss curves and the training dashboard, drawn with matplotlib's object interface so that no
window opens.
"""

import math
import textwrap
from collections.abc import Sequence

from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure


def _above(values: list[float]) -> float:
    """The upper limit of an axis that starts at 0, even if all `values` are 0."""
    return 1.05 * max(values) or 1.0


def draw_losses(log: list[dict], title: str = "") -> Figure:
    """Training and validation loss (nats per token) and learning rate, from a training log."""
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.subplots()
    tokens = [entry["tokens"] for entry in log]
    axes.plot(
        tokens,
        [entry["train_loss"] for entry in log],
        color="tab:blue",
        alpha=0.7,
        label="training",
    )
    validated = [entry for entry in log if "val_loss" in entry]
    axes.plot(
        [e["tokens"] for e in validated],
        [e["val_loss"] for e in validated],
        "o-",
        color="tab:orange",
        label="validation",
    )
    axes.set(xlabel="tokens seen", ylabel="loss (nats per token)", title=title)
    axes.grid(alpha=0.3)
    rate = axes.twinx()
    rate.plot(
        tokens,
        [entry["lr"] for entry in log],
        color="tab:gray",
        linewidth=0.8,
        linestyle=":",
        label="learning rate",
    )
    rate.set_ylabel("learning rate (first group)")
    rate.set_ylim(0, _above([entry["lr"] for entry in log]))
    lines = axes.get_lines() + rate.get_lines()
    axes.legend(lines, [str(line.get_label()) for line in lines], loc="upper right")
    return figure


def _mark_layers(axes: Axes, log: list[dict], quantity: str, title: str) -> None:
    """One line per layer, from dark (first) to bright (last)."""
    entries = [entry for entry in log if entry.get("layers")]
    steps = [entry["step"] for entry in entries]
    names = list(entries[0]["layers"]) if entries else []
    for i, name in enumerate(names):
        # zero has no logarithm
        values = [entry["layers"][name][quantity] or math.nan for entry in entries]
        axes.plot(
            steps, values, linewidth=0.9, color=colormaps["viridis"](i / len(names)), label=name
        )
    axes.set(title=title, xlabel="step", yscale="log")


def draw_dashboard(log: list[dict]) -> Figure:
    """Six views of a training log: loss against time, learning rate, gradient norm with the share
    of clipped steps, and, if a `LayerMonitor` measured them, each layer's gradient norm,
    update-to-weight ratio and output size.
    """
    figure = Figure(figsize=(14, 7.5), layout="constrained")
    loss, rate, norm, layer_norm, ratio, activation = figure.subplots(2, 3).flat
    steps = [entry["step"] for entry in log]
    loss.plot(
        [entry["seconds"] for entry in log],
        [entry["train_loss"] for entry in log],
        label="training",
    )
    validated = [entry for entry in log if "val_loss" in entry]
    if validated:
        loss.plot(
            [e["seconds"] for e in validated],
            [e["val_loss"] for e in validated],
            "o-",
            label="validation",
        )
    if validated and "val_bits_per_byte" in validated[0]:
        bits = loss.twinx()
        bits.plot(
            [e["seconds"] for e in validated],
            [e["val_bits_per_byte"] for e in validated],
            "s:",
            color="tab:green",
            markersize=3,
            label="validation, bits per byte",
        )
        bits.set_ylabel("bits per byte", color="tab:green")
    loss.set(title="loss (nats per token) against time", xlabel="seconds of training")
    loss.legend()
    rate.plot(steps, [entry["lr"] for entry in log], color="tab:gray")
    rate.set(
        title="learning rate (first group)",
        xlabel="step",
        ylim=(0, _above([entry["lr"] for entry in log])),
    )
    norm.plot(steps, [entry["grad_norm"] for entry in log], color="tab:purple")
    norm.set(title="gradient norm, before clipping", xlabel="step", yscale="log")
    clipped = norm.twinx()
    clipped.plot(steps, [entry["clipped"] for entry in log], color="tab:red", linestyle=":")
    clipped.set_ylabel("share of steps clipped so far", color="tab:red")
    clipped.set_ylim(-0.02, 1.02)
    _mark_layers(layer_norm, log, "grad_norm", "gradient norm of each layer")
    _mark_layers(ratio, log, "update_ratio", "size of the update / size of the weights")
    if ratio.get_legend_handles_labels()[0]:
        ratio.axhline(1e-3, color="black", linewidth=0.8, linestyle="--")
        ratio.legend(fontsize=6, ncols=2)
    watched = [entry for entry in log if entry.get("activations")]
    n_blocks = len(watched[0]["activations"]) if watched else 0
    for i in range(n_blocks):
        color = colormaps["viridis"](i / n_blocks)
        for quantity, style in (("rms", "-"), ("max", ":")):
            activation.plot(
                [e["step"] for e in watched],
                [e["activations"][i][quantity] for e in watched],
                style,
                color=color,
                linewidth=0.9,
                label=f"block {i}, {quantity}",
            )
    activation.set(
        title="output of each block: root mean square, maximum", xlabel="step", yscale="log"
    )
    if n_blocks:
        activation.legend(fontsize=6, ncols=2)
    return figure


def draw_samples(log: list[dict], width: int = 110) -> Figure:
    """The samples of a training log, one below the other, with the step and the validation loss
    of each.
    """
    entries = [entry for entry in log if "sample" in entry]
    figure = Figure(figsize=(11, 0.4 + 0.75 * len(entries)))
    for row, entry in enumerate(entries):
        text = " / ".join(line for line in entry["sample"].splitlines() if line.strip())
        # an untrained model writes control characters
        text = "".join(c if c.isprintable() else "\ufffd" for c in text)
        lines = textwrap.wrap(text.replace("$", r"\$"), width)[:3]
        top = 1 - (row + 0.4) / (len(entries) + 0.4)
        figure.text(
            0.01,
            top,
            f"step {entry['step']:,}\nloss {entry['val_loss']:.2f}",
            fontsize=8,
            va="top",
            color="tab:orange",
        )
        figure.text(0.11, top, "\n".join(lines), fontsize=8, va="top", family="monospace")
    return figure


def plot_losses(
    epochs_seen: Sequence[float],
    tokens_seen: Sequence[int],
    train_losses: Sequence[float],
    val_losses: Sequence[float],
) -> Figure:
    """The book's figure: losses against epochs, with the tokens seen on a second axis above."""
    figure = Figure(figsize=(6, 3.5), layout="constrained")
    axes = figure.subplots()
    axes.plot(epochs_seen, train_losses, label="training loss")
    axes.plot(epochs_seen, val_losses, linestyle="-.", label="validation loss")
    axes.set(xlabel="epochs", ylabel="loss")
    axes.legend(loc="upper right")
    above = axes.twiny()
    above.plot(tokens_seen, train_losses, alpha=0)  # invisible: only lines up the second axis
    above.set_xlabel("tokens seen")
    return figure
