"""Loss curves, drawn with matplotlib's object interface so that nothing opens a window."""

from collections.abc import Sequence

from matplotlib.figure import Figure


def draw_losses(log: list[dict], title: str = "") -> Figure:
    """Training and validation loss (nats per token) and learning rate, from a training log."""
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.subplots()
    tokens = [entry["tokens"] for entry in log]
    axes.plot(tokens, [entry["train_loss"] for entry in log], color="tab:blue", alpha=0.7, label="training")
    validated = [entry for entry in log if "val_loss" in entry]
    axes.plot([e["tokens"] for e in validated], [e["val_loss"] for e in validated], "o-", color="tab:orange",
              label="validation")
    axes.set(xlabel="tokens seen", ylabel="loss (nats per token)", title=title)
    axes.grid(alpha=0.3)
    rate = axes.twinx()
    rate.plot(tokens, [entry["lr"] for entry in log], color="tab:gray", linewidth=0.8, linestyle=":",
              label="learning rate")
    rate.set_ylabel("learning rate (first group)")
    rate.set_ylim(bottom=0)
    lines = axes.get_lines() + rate.get_lines()
    axes.legend(lines, [line.get_label() for line in lines], loc="upper right")
    return figure


def plot_losses(epochs_seen: Sequence[float], tokens_seen: Sequence[int], train_losses: Sequence[float],
                val_losses: Sequence[float]) -> Figure:
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
