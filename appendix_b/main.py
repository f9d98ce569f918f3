"""Appendix B: train everything from a line to a chat model with an engine of our own, on NumPy."""

import json
import sys
import time
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import pandas as pd

from appendix_b import chat
from appendix_b.bench import compare_speed
from appendix_b.gpt import Shape
from appendix_b.image_experiments import compare_classifiers, regularisation, transfer
from appendix_b.plots import (
    draw_classifiers,
    draw_filters,
    draw_regression,
    draw_remedies,
    draw_text_models,
    draw_transfer,
)
from appendix_b.regression import (
    fit_line,
    fit_separator,
    least_squares,
    points_on_a_line,
    separates,
)
from appendix_b.small_talk import small_talk
from appendix_b.text_models import TextPlan, contenders, train_text, windows_of
from ch01_text import CharTokenizer, load_text
from ch01_text.run import chapter_folder, command_line, write_metrics

CHAPTER = "appendix_b"
What = Literal["regression", "digits", "regularisation", "transfer", "text", "gpt", "speed", "all"]
Found = tuple[dict, Callable[[], None]]  # what an experiment measured, and what draws it
RATES = {"RNN": 6e-3, "LSTM": 1e-2, "transformer": 6e-3}  # the best of those tried, for each model


def run_regression(folder: Path, seed: int) -> Found:
    """A line through points, a line between classes, and two moons that need a hidden layer."""
    from sklearn.datasets import make_moons
    from sklearn.linear_model import LogisticRegression

    rng = np.random.default_rng(seed)
    x, y = points_on_a_line(60, rng)
    line, losses = fit_line(x, y, rng)
    found = np.array([line.weight.data.item(), line.bias.data.item()])
    exact = least_squares(x, y)
    residuals = y.ravel() - (exact[0] * x.ravel() + exact[1])
    points, labels = make_moons(300, noise=0.2, random_state=seed)
    points = points.astype(np.float32)
    straight, bent = (
        fit_separator(points, labels, rng, hidden, penalty=1 / 300 if hidden == 0 else 0.0)
        for hidden in (0, 16)
    )
    theirs = LogisticRegression().fit(points, labels)
    ours = np.append(straight.layers[0].weight.data.ravel(), straight.layers[0].bias.data)
    scores = {
        "logistic regression": separates(straight, points, labels),
        "MLP": separates(bent, points, labels),
    }
    print(
        f"line: y = {found[0]:.3f} x {found[1]:+.3f}; least squares: {exact[0]:.3f} x"
        f" {exact[1]:+.3f}"
    )
    print("moons: " + ", ".join(f"{name} {score:.1%}" for name, score in scores.items()))

    def draw() -> None:
        models = [
            (f"{name}: {scores[name]:.1%}", model)
            for name, model in zip(scores, (straight, bent), strict=True)
        ]
        draw_regression(
            x, y, *found, losses, float((residuals**2).mean()), models, points, labels
        ).savefig(folder / "regression.png")

    return {
        "line_max_difference": float(np.abs(found - exact).max()),
        "logistic_max_difference": float(
            np.abs(ours - np.append(theirs.coef_, theirs.intercept_)).max()
        ),
        "moons_accuracy": scores,
    }, draw


def run_digits(folder: Path, data: str, seeds: range, epochs: int | None) -> Found:
    """Our classifiers beside scikit-learn's on the same splits; means and standard deviations
    over seeds.
    """
    table, last = compare_classifiers(data, seeds, epochs)
    summary = table.groupby("classifier", sort=False).agg(
        accuracy=("accuracy", "mean"), sd=("accuracy", "std"), seconds=("seconds", "mean")
    )
    print(summary.to_string(float_format="{:.4f}".format, na_rep=""))

    def draw() -> None:
        draw_classifiers(table).savefig(folder / "digits.png")
        draw_filters(last.layers[0].weight.data[:, 0]).savefig(folder / "filters.png")

    return {
        name: {key: float(value) for key, value in row.items() if np.isfinite(value)}
        for name, row in summary.iterrows()
    } | {"seeds": len(seeds), "data": data}, draw


def run_regularisation(folder: Path, seeds: range, epochs: int | None) -> Found:
    """Training and validation curves of an MLP on 100 digits with some wrong labels, with each
    remedy.
    """
    runs = [regularisation(seed, epochs=epochs) for seed in seeds]
    rows = [{"remedy": remedy, **log[-1]} for logs in runs for remedy, log in logs.items()]
    keys = ["train loss", "val loss", "val accuracy"]
    summary = pd.DataFrame(rows).groupby("remedy", sort=False)[keys].mean()
    print(summary.to_string(float_format="{:.3f}".format))
    return (
        {remedy: row.to_dict() for remedy, row in summary.iterrows()},
        lambda: draw_remedies(runs[0]).savefig(folder / "regularisation.png"),
    )


def run_transfer(folder: Path, seeds: range, epochs: int | None) -> Found:
    """From 0 ... 4 to 5 ... 9: accuracy by epochs, with and without what was learned before."""
    table = transfer(seeds, epochs=epochs)
    means = table.pivot_table("accuracy", ["images", "epoch"], "start", sort=False)
    print(means.to_string(float_format="{:.3f}".format))
    return (
        {
            start: {
                f"{count} images, epoch {epoch}": float(value)
                for (count, epoch), value in column.items()
            }
            for start, column in means.items()
        },
        lambda: draw_transfer(table).savefig(folder / "transfer.png"),
    )


def run_text(
    folder: Path, name_of_text: str, text: str, seconds: float, steps: int | None, seed: int
) -> Found:
    """RNN, LSTM and transformer of one size on the same characters, each for the same time."""
    tokenizer = CharTokenizer.train(text)
    ids = np.array(tokenizer.encode(text))
    cut = len(ids) * 9 // 10
    val = windows_of(ids[cut:], 64, 256)(np.random.default_rng(0))
    logs = {}
    for name, model in contenders(tokenizer.n_vocab, 64, np.random.default_rng(seed)).items():
        plan = TextPlan(RATES[name], steps, seconds)
        logs[name] = train_text(
            model, windows_of(ids[:cut], 64, 32), val, plan, np.random.default_rng(seed), name
        )
        last = logs[name][-1]
        print(
            f"{name:<12} {model.n_parameters():,} parameters, {last['step']:,} steps in"
            f" {last['seconds']:.0f} s, held-out loss {last['val_loss']:.3f} nats a character"
        )
    return (
        {
            name: {key: log[-1][key] for key in ("val_loss", "step", "tokens", "seconds")}
            for name, log in logs.items()
        },
        lambda: draw_text_models(logs, name_of_text).savefig(folder / "text.png"),
    )


def run_gpt(folder: Path, seconds: float, steps: int | None, seed: int) -> Found:
    """Pretrain a tiny GPT on stories, tune it on small talk, and measure both; what it becomes
    is saved.
    """
    tokenizer, train, held_out = chat.story_ids(4000 if steps is None else 40, seed)
    shape = Shape(tokenizer.n_vocab, context_length=96, width=96, heads=4, layers=3)
    model, story_log = chat.pretrain(
        tokenizer, train, held_out, shape, TextPlan(6e-3, steps, seconds), seed
    )
    talks = list(islice(small_talk(np.random.default_rng(seed + 1), test=True), 300))
    before = chat.exact_match(model, tokenizer, talks)
    talk_log = chat.tune(model, tokenizer, TextPlan(5e-3, steps, seconds), seed)
    after = chat.exact_match(model, tokenizer, talks)
    chat.save_chat(folder, model, tokenizer)
    said = [talk.said for talk in talks[:5]]
    for one, answer in zip(
        said,
        chat.answers(model, tokenizer, said, np.random.default_rng(seed), temperature=0.0),
        strict=True,
    ):
        print(f"> {one}\n  {answer}")
    guess = chat.same_answer(talks)
    print(
        f"right answers before tuning {before['all']:.1%}, after {after['all']:.1%}; always the"
        f" same answer {guess:.1%}; saved in {folder / chat.FILE}"
    )
    print(", ".join(f"{kind} {share:.0%}" for kind, share in after.items() if kind != "all"))
    return (
        {
            "parameters": model.n_parameters(),
            "story_loss": story_log[-1]["val_loss"],
            "before": before,
            "after": after,
            "same_answer": guess,
            "steps": [log[-1]["step"] for log in (story_log, talk_log)],
        },
        lambda: draw_text_models({"stories": story_log, "small talk": talk_log}).savefig(
            folder / "gpt.png"
        ),
    )


def ask_model(folder: Path, said: str, seed: int, temperature: float) -> dict:
    """Answer `said`, or every line that is typed where it is "-"."""
    model, tokenizer = chat.load_chat(folder)
    rng = np.random.default_rng(seed)
    lines = [said] if said != "-" else (line.strip() for line in sys.stdin if line.strip())
    talked = []
    for line in lines:
        (answer,) = chat.answers(model, tokenizer, [line], rng, temperature=temperature)
        talked.append({"said": line, "answer": answer})
        print(answer)
    return {"answers": talked}


def main(
    what: What = "all",
    data: Literal["digits", "mnist"] = "digits",
    text: str = "shakespeare",
    seeds: int = 3,
    seconds: float = 60.0,
    steps: int | None = None,
    epochs: int | None = None,
    ask: str | None = None,
    temperature: float = 0.0,
    run: Path = Path("runs/default"),
    seed: int = 1337,
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto",
) -> dict:
    """Train models from linear regression to a tiny chat model with nothing but NumPy and our own
    gradients.

    Args:
        what: regression: lines and moons. digits: MLP and CNN beside baselines. regularisation:
            overfitting and what helps. transfer: 0-4, then 5-9. text: RNN, LSTM, transformer. gpt:
            pretrain and tune a chat model. speed: beside PyTorch. Or all.
        data: Images for `digits`: scikit-learn's 8 x 8, or MNIST (a download of 11 MB).
        text: Text for `text`: shakespeare, storyworld, or a UTF-8 file or folder.
        seeds: How often the image experiments are repeated.
        seconds: Training time of each text model and of each stage of the chat model.
        steps: Train text models for so many steps instead.
        epochs: Passes over the images, in the place of each experiment's own.
        ask: Train nothing: say this to the run's chat model, or, with -, every line that is typed.
        temperature: Of the answers to --ask; 0 always takes the most likely token.
        run: Folder of the run; results go to RUN/appendix_b.
        seed: Of weights, splits and draws; the image experiments count on from it.
        device: Accepted as in every chapter; NumPy computes on the CPU.
    """
    began = time.perf_counter()
    for name, value in {
        "seeds": seeds,
        "seconds": seconds,
        "steps": steps,
        "epochs": epochs,
    }.items():
        if value is not None and value <= 0:
            raise ValueError(f"--{name} must be positive, not {value}")
    if ask is not None:
        return ask_model(Path(run) / CHAPTER, ask, seed, temperature)
    every = range(seed, seed + seeds)
    chosen = get_args(What)[:-1] if what == "all" else [what]
    # a wrong name is refused before anything is trained
    corpus = load_text(text) if "text" in chosen else ""
    folder = chapter_folder(run, CHAPTER)
    experiments = {
        "regression": lambda: run_regression(folder, seed),
        "digits": lambda: run_digits(folder, data, every, epochs),
        "regularisation": lambda: run_regularisation(folder, every, epochs),
        "transfer": lambda: run_transfer(folder, every, epochs),
        "text": lambda: run_text(folder, text, corpus, seconds, steps, seed),
        "gpt": lambda: run_gpt(folder, seconds, steps, seed),
        "speed": lambda: (compare_speed(seed), lambda: None),
    }
    path = folder / "metrics.json"
    metrics = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    for name in chosen:
        print(f"\n{name}")
        metrics[name], draw = experiments[name]()
        metrics["wall_seconds"] = time.perf_counter() - began
        write_metrics(folder, metrics)
        draw()
    return metrics


if __name__ == "__main__":
    command_line(main)
