"""Pictures of instruction tuning and of what comes after it."""

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
    """What `collate` makes of conversations: a cell a token; blue ones are learned, grey ones
    are filling.
    """
    longest = max(len(chat.ids) for chat in chats)
    figure = Figure(
        figsize=(min(14, 0.55 * longest), 0.55 * len(chats) + 0.8), layout="constrained"
    )
    axes = figure.subplots()
    for row, chat in enumerate(chats):
        for column in range(longest):
            real = column < len(chat.ids)
            colour = "#dddddd" if not real else "#8ec1e6" if chat.said[column] else "#ffffff"
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
        title="blue: learned; white: only read; grey: filling",
    )
    return figure


def _cell(column: int, row: int, colour: str):
    from matplotlib.patches import Rectangle

    return Rectangle((column, row), 1, 1, facecolor=colour, edgecolor="#999999", linewidth=0.5)


def draw_losses(log: Sequence[Mapping], title: str) -> Figure:
    """Training and validation loss of the responses."""
    figure = Figure(figsize=(5, 3.2), layout="constrained")
    axes = figure.subplots()
    for name, label in (("train_loss", "training"), ("val_loss", "validation")):
        points = [(entry["step"], entry[name]) for entry in log if name in entry]
        if points:
            axes.plot(*zip(*points, strict=True), marker="o", markersize=3, label=label)
    axes.set(xlabel="step", ylabel="loss of a response token (nats)", title=title)
    axes.legend()
    return figure


def draw_rewards(rounds: Mapping[str, Sequence[Mapping]]) -> Figure:
    """Reward, KL from the tuned model and length of the drawn responses, round by round, a line
    a method.
    """
    figure = Figure(figsize=(9, 3), layout="constrained")
    panels = figure.subplots(1, 3)
    for axes, (key, label) in zip(
        panels,
        (
            ("right", "share of right answers"),
            ("kl", "KL from sft (nats a response)"),
            ("words", "words a response"),
        ),
        strict=True,
    ):
        for name, log in rounds.items():
            axes.plot(
                range(1, len(log) + 1),
                [entry[key] for entry in log],
                color=COLOURS.get(name),
                label=name,
            )
        axes.set(xlabel="round", ylabel=label)
    panels[0].legend()
    return figure


def draw_stages(metrics: Mapping) -> Figure:
    """What metrics.json says of every stage: right answers, the likeliest (bar) and drawn ones
    (diamond), each with its 95 % interval, beside the best shortcut.
    """
    figure = Figure(figsize=(6, 3.2), layout="constrained")
    axes = figure.subplots()
    stages = [name for name in STAGES if name in metrics]
    for row, name in enumerate(stages):
        likeliest, drawn = metrics[name], metrics[name].get("drawn")
        axes.barh(
            row, likeliest["exact_match"], color=COLOURS[name], xerr=error_bar(likeliest), capsize=3
        )
        if drawn:
            axes.errorbar(
                drawn["exact_match"],
                row + 0.25,
                xerr=error_bar(drawn),
                fmt="D",
                markersize=4,
                capsize=3,
                color="black",
                markerfacecolor="white",
            )
    axes.errorbar(
        [], [], fmt="D", markersize=4, color="black", markerfacecolor="white", label="drawn once"
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
        xlabel="right answers on unseen stories",
    )
    axes.invert_yaxis()
    figure.legend(loc="outside upper center", ncols=2, fontsize=9)
    return figure


def error_bar(share: Mapping) -> list[list[float]]:
    """How far the 95 % interval reaches to the left and to the right."""
    return [[share["exact_match"] - share["ci95_low"]], [share["ci95_high"] - share["exact_match"]]]
