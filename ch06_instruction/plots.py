"""Figures of instruction tuning and alignment."""

from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure

from ch06_instruction.chat import EncodedChat

COLOURS = {
    "base": "#777777",
    "sft": "#0072B2",
    "best-of-8": "#56B4E9",
    "dpo": "#009E73",
    "ppo": "#E69F00",
    "grpo": "#D55E00",
}
STAGES = tuple(COLOURS)


def draw_batch(chats: Sequence[EncodedChat], decode, pad: str = "<|endoftext|>") -> Figure:
    """A batch as a grid of tokens: learned ones blue, other ones white, padding grey."""
    longest = max(len(chat.ids) for chat in chats)
    figure = Figure(
        figsize=(min(14, 0.55 * longest), 0.55 * len(chats) + 0.8), layout="constrained"
    )
    axes = figure.subplots()
    for row, chat in enumerate(chats):
        for column in range(longest):
            real = column < len(chat.ids)
            colour = (
                "#dddddd" if not real else "#8ec1e6" if chat.assistant_mask[column] else "#ffffff"
            )
            axes.add_patch(_cell(column, row, colour))
            text = decode([chat.ids[column]]) if real else pad
            axes.text(
                column + 0.5,
                row + 0.5,
                text.replace("\n", "↵").replace("<|", "<|\n", 1)[:16],
                ha="center",
                va="center",
                fontsize=5,
            )
    axes.set(
        xlim=(0, longest),
        ylim=(len(chats), 0),
        yticks=[],
        xlabel="position",
        title="blue: learned; white: only read; grey: padding",
    )
    return figure


def _cell(column: int, row: int, colour: str):
    from matplotlib.patches import Rectangle

    return Rectangle((column, row), 1, 1, facecolor=colour, edgecolor="#999999", linewidth=0.5)


def draw_losses(log: Sequence[Mapping], title: str) -> Figure:
    """Training and validation loss of response tokens."""
    figure = Figure(figsize=(5, 3.2), layout="constrained")
    axes = figure.subplots()
    for name, label in (("train_loss", "training"), ("val_loss", "validation")):
        points = [(entry["step"], entry[name]) for entry in log if name in entry]
        if points:
            axes.plot(*zip(*points, strict=True), marker="o", markersize=3, label=label)
    axes.set(xlabel="step", ylabel="loss of a response token (nats)", title=title)
    axes.legend()
    return figure


def draw_rollouts(logs: Mapping[str, Sequence[Mapping]]) -> Figure:
    """Accuracy, KL to the reference and length of the responses of each rollout, one line per
    method.
    """
    figure = Figure(figsize=(9, 3), layout="constrained")
    panels = figure.subplots(1, 3)
    for axes, (key, label) in zip(
        panels,
        (
            ("accuracy", "accuracy of the responses"),
            ("kl", "KL to sft (nats per response)"),
            ("words", "words per response"),
        ),
        strict=True,
    ):
        for name, log in logs.items():
            axes.plot(
                range(1, len(log) + 1),
                [entry[key] for entry in log],
                color=COLOURS.get(name),
                label=name,
            )
        axes.set(xlabel="rollout", ylabel=label)
    panels[0].legend()
    return figure


def draw_stages(metrics: Mapping) -> Figure:
    """Accuracy of each stage in `metrics`, greedy (bar) and sampled (diamond), with 95 % intervals,
    beside the best shortcut.
    """
    figure = Figure(figsize=(6, 3.2), layout="constrained")
    axes = figure.subplots()
    stages = [name for name in STAGES if name in metrics]
    for row, name in enumerate(stages):
        greedy, sampled = metrics[name], metrics[name].get("sampled")
        axes.barh(
            row, greedy["exact_match"], color=COLOURS[name], xerr=error_bar(greedy), capsize=3
        )
        if sampled:
            axes.errorbar(
                sampled["exact_match"],
                row + 0.25,
                xerr=error_bar(sampled),
                fmt="D",
                markersize=4,
                capsize=3,
                color="black",
                markerfacecolor="white",
            )
    axes.errorbar(
        [], [], fmt="D", markersize=4, color="black", markerfacecolor="white", label="one sample"
    )
    axes.axvline(
        max(metrics["shortcuts"].values()),
        color="black",
        linestyle="--",
        linewidth=1,
        label="best shortcut",
    )
    axes.set(
        yticks=range(len(stages)),
        yticklabels=stages,
        xlim=(0, 1),
        xlabel="accuracy on unseen stories",
    )
    axes.invert_yaxis()
    figure.legend(loc="outside upper center", ncols=2, fontsize=9)
    return figure


def error_bar(accuracy: Mapping) -> list[list[float]]:
    """The 95 % interval as distances to the left and to the right, for Matplotlib."""
    value = accuracy["exact_match"]
    return [[value - accuracy["ci95_low"]], [accuracy["ci95_high"] - value]]
