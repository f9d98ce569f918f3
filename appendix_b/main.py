"""Appendix B: train models from a straight line to a chat model with our own engine on NumPy."""

import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Annotated, Literal, get_args

import numpy as np
import pandas as pd
from tyro.conf import arg

from appendix_b import chat
from appendix_b.bench import compare_speed
from appendix_b.convolution import Conv2d
from appendix_b.gpt import GPTConfig
from appendix_b.image_experiments import compare_classifiers, regularisation, transfer
from appendix_b.layers import Linear
from appendix_b.plots import (
    draw_classifiers,
    draw_filters,
    draw_regression,
    draw_remedies,
    draw_text_models,
    draw_transfer,
)
from appendix_b.regression import (
    binary_accuracy,
    fit_binary_classifier,
    fit_line,
    least_squares,
    noisy_line,
)
from appendix_b.small_talk import conversations
from appendix_b.text_models import (
    TextTrainConfig,
    build_models,
    random_windows,
    train_language_model,
)
from ch01_text import CharTokenizer, load_text
from ch01_text.run import chapter_folder, check_positive, command_line, write_metrics

CHAPTER = "appendix_b"
Experiment = Literal[
    "regression", "digits", "regularisation", "transfer", "text", "gpt", "speed", "all"
]
Result = tuple[dict, Callable[[], None]]  # the metrics of an experiment, and what saves its plots
LEARNING_RATES = {"RNN": 6e-3, "LSTM": 1e-2, "transformer": 6e-3}  # the best of a small grid


@dataclass(frozen=True)
class ExperimentConfig:
    """Which experiments to run, on which data and with which budget."""

    # regression: lines and moons. digits: MLP and CNN with baselines. regularisation: overfitting
    # and remedies. transfer: from 0-4 to 5-9. text: RNN, LSTM and transformer. gpt: a chat model.
    # speed: compared with PyTorch. all: everything.
    experiment: Experiment = "all"
    # Images: scikit-learn's 8 x 8 digits, or MNIST (a download of 11 MB).
    data: Literal["digits", "mnist"] = "digits"
    # Text of the `text` experiment: shakespeare, storyworld, or a UTF-8 file or folder.
    text: str = "shakespeare"
    # Number of repetitions of the image experiments.
    seeds: int = 3
    # Passes over the images; by default each experiment has its own number.
    epochs: int | None = None
    # Training time of each text model and of each stage of the chat model.
    seconds: float = 60.0
    # Train text models for this number of steps instead.
    steps: int | None = None

    def __post_init__(self):
        check_positive(self, "seeds", "epochs", "seconds", "steps")


def run_regression(folder: Path, seed: int) -> Result:
    """A line through points, a line between two classes, and a hidden layer for two moons."""
    from sklearn.datasets import make_moons
    from sklearn.linear_model import LogisticRegression

    rng = np.random.default_rng(seed)
    x, y = noisy_line(60, rng)
    model, losses = fit_line(x, y, rng)
    assert model.bias is not None
    line = np.array([model.weight.data.item(), model.bias.data.item()])
    exact = least_squares(x, y)
    residuals = y.ravel() - (exact[0] * x.ravel() + exact[1])

    points, labels = make_moons(300, noise=0.2, random_state=seed)
    points = points.astype(np.float32)
    # scikit-learn's default penalty, C = 1, is 1 / (2 n) times the squared weights of a mean loss.
    models = {
        "logistic regression": fit_binary_classifier(points, labels, rng, l2=1 / len(points)),
        "MLP": fit_binary_classifier(points, labels, rng, hidden_size=16),
    }
    accuracy = {name: binary_accuracy(one, points, labels) for name, one in models.items()}
    layer = models["logistic regression"].layers[0]
    assert isinstance(layer, Linear) and layer.bias is not None
    ours = np.append(layer.weight.data.ravel(), layer.bias.data)
    reference = LogisticRegression().fit(points, labels)
    theirs = np.append(reference.coef_, reference.intercept_)
    print(f"gradient descent: y = {line[0]:.3f} x {line[1]:+.3f}")
    print(f"least squares:    y = {exact[0]:.3f} x {exact[1]:+.3f}")
    print("moons: " + ", ".join(f"{name} {value:.1%}" for name, value in accuracy.items()))

    def draw() -> None:
        titled = {f"{name}: {accuracy[name]:.1%}": one for name, one in models.items()}
        best_loss = float((residuals**2).mean())
        draw_regression((x, y), tuple(line), losses, best_loss, (points, labels), titled).savefig(
            folder / "regression.png"
        )

    return {
        "line_max_difference": float(np.abs(line - exact).max()),
        "logistic_max_difference": float(np.abs(ours - theirs).max()),
        "moons_accuracy": accuracy,
    }, draw


def run_digits(folder: Path, data: str, seeds: range, epochs: int | None) -> Result:
    """Our classifiers and scikit-learn's on the same splits: means and standard deviations."""
    table, cnn = compare_classifiers(data, seeds, epochs)
    summary = table.groupby("classifier", sort=False).agg(
        accuracy=("accuracy", "mean"), sd=("accuracy", "std"), seconds=("seconds", "mean")
    )
    print(summary.to_string(float_format="{:.4f}".format, na_rep=""))

    def draw() -> None:
        draw_classifiers(table).savefig(folder / "digits.png")
        first = cnn.layers[0]
        assert isinstance(first, Conv2d)
        draw_filters(first.weight.data[:, 0]).savefig(folder / "filters.png")

    return {
        name: {key: float(value) for key, value in row.items() if np.isfinite(value)}
        for name, row in summary.iterrows()
    } | {"seeds": len(seeds), "data": data}, draw


def run_regularisation(folder: Path, seeds: range, epochs: int | None) -> Result:
    """Training curves of an MLP on 100 digits with some wrong labels, with each remedy."""
    runs = [regularisation(seed, epochs=epochs) for seed in seeds]
    rows = [{"remedy": remedy, **log[-1]} for logs in runs for remedy, log in logs.items()]
    keys = ["train loss", "val loss", "val accuracy"]
    summary = pd.DataFrame(rows).groupby("remedy", sort=False)[keys].mean()
    print(summary.to_string(float_format="{:.3f}".format))
    return (
        {remedy: row.to_dict() for remedy, row in summary.iterrows()},
        lambda: draw_remedies(runs[0]).savefig(folder / "regularisation.png"),
    )


def run_transfer(folder: Path, seeds: range, epochs: int | None) -> Result:
    """From the digits 0 to 4 to the digits 5 to 9: accuracy by epoch, with and without
    pretraining.
    """
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


def run_text(folder: Path, text: str, config: ExperimentConfig, seed: int) -> Result:
    """RNN, LSTM and transformer of equal size on the same characters, each for the same budget."""
    tokenizer = CharTokenizer.train(text)
    ids = np.array(tokenizer.encode(text))
    train, held_out = np.split(ids, [len(ids) * 9 // 10])
    val = random_windows(held_out, 64, 256)(np.random.default_rng(0))
    logs = {}
    for name, model in build_models(tokenizer.n_vocab, 64, np.random.default_rng(seed)).items():
        train_config = TextTrainConfig(LEARNING_RATES[name], config.steps, config.seconds)
        logs[name] = train_language_model(
            model,
            random_windows(train, 64, 32),
            val,
            train_config,
            np.random.default_rng(seed),
            name,
        )
        last = logs[name][-1]
        print(
            f"{name:<12} {model.n_parameters():,} parameters, {last['step']:,} steps in"
            f" {last['seconds']:.0f} s, held-out loss {last['val_loss']:.3f} nats per character"
        )
    return (
        {
            name: {key: log[-1][key] for key in ("val_loss", "step", "tokens", "seconds")}
            for name, log in logs.items()
        },
        lambda: draw_text_models(logs, config.text).savefig(folder / "text.png"),
    )


def run_gpt(folder: Path, config: ExperimentConfig, seed: int) -> Result:
    """Pretrain a tiny GPT on stories, fine-tune it on small talk, test it before and after, and
    save it.
    """
    tokenizer, train, held_out = chat.prepare_stories(4000 if config.steps is None else 40, seed)
    model_config = GPTConfig(tokenizer.n_vocab, context_length=96, emb_dim=96)
    pretrain_config, tune_config = (
        TextTrainConfig(lr, config.steps, config.seconds) for lr in (6e-3, 5e-3)
    )
    model, story_log = chat.pretrain(train, held_out, model_config, pretrain_config, seed)
    test = list(islice(conversations(np.random.default_rng(seed + 1), split="test"), 300))
    before = chat.exact_match(model, tokenizer, test)
    talk_log = chat.fine_tune(model, tokenizer, tune_config, seed)
    after = chat.exact_match(model, tokenizer, test)
    chat.save_chat(folder, model, tokenizer)

    prompts = [one.prompt for one in test[:5]]
    answers = chat.answer_prompts(
        model, tokenizer, prompts, np.random.default_rng(seed), temperature=0.0
    )
    for prompt, answer in zip(prompts, answers, strict=True):
        print(f"> {prompt}\n  {answer}")
    baseline = chat.majority_baseline(test)
    print(
        f"correct answers before fine-tuning {before['all']:.1%}, after {after['all']:.1%}; always"
        f" the most frequent answer {baseline:.1%}; saved in {folder / chat.FILE}"
    )
    print(", ".join(f"{kind} {value:.0%}" for kind, value in after.items() if kind != "all"))
    return (
        {
            "parameters": model.n_parameters(),
            "story_loss": story_log[-1]["val_loss"],
            "before": before,
            "after": after,
            "majority_baseline": baseline,
            "steps": [log[-1]["step"] for log in (story_log, talk_log)],
        },
        lambda: draw_text_models({"stories": story_log, "small talk": talk_log}).savefig(
            folder / "gpt.png"
        ),
    )


def ask_model(folder: Path, prompt: str, seed: int, temperature: float) -> dict:
    """Answer `prompt` or, if it is "-", every line of the standard input."""
    model, tokenizer = chat.load_chat(folder)
    rng = np.random.default_rng(seed)
    prompts = [prompt] if prompt != "-" else (line.strip() for line in sys.stdin if line.strip())
    answered = []
    for one in prompts:
        (answer,) = chat.answer_prompts(model, tokenizer, [one], rng, temperature=temperature)
        answered.append({"prompt": one, "answer": answer})
        print(answer)
    return {"answers": answered}


def main(
    config: Annotated[ExperimentConfig, arg(name="")] = ExperimentConfig(),
    *,
    ask: str | None = None,
    temperature: float = 0.0,
    run: Path = Path("runs/default"),
    seed: int = 1337,
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto",
) -> dict:
    """Train models from linear regression to a tiny chat model with NumPy and our own gradients.

    Args:
        config: Which experiments to run, on which data and with which budget.
        ask: Do not train; put this question to the run's chat model, or, with -, every typed line.
        temperature: Sampling temperature of the answers to --ask; 0 takes the most likely token.
        run: Folder of the run; results go to RUN/appendix_b.
        seed: Seed of weights, splits and samples; the image experiments also use the next ones.
        device: Accepted as in every chapter; NumPy always computes on the CPU.
    """
    started = time.perf_counter()
    if ask is not None:
        return ask_model(Path(run) / CHAPTER, ask, seed, temperature)
    seeds = range(seed, seed + config.seeds)
    chosen = get_args(Experiment)[:-1] if config.experiment == "all" else [config.experiment]
    # Loaded first, so that an unknown name is refused before anything is trained.
    text = load_text(config.text) if "text" in chosen else ""
    folder = chapter_folder(run, CHAPTER)
    experiments = {
        "regression": lambda: run_regression(folder, seed),
        "digits": lambda: run_digits(folder, config.data, seeds, config.epochs),
        "regularisation": lambda: run_regularisation(folder, seeds, config.epochs),
        "transfer": lambda: run_transfer(folder, seeds, config.epochs),
        "text": lambda: run_text(folder, text, config, seed),
        "gpt": lambda: run_gpt(folder, config, seed),
        "speed": lambda: (compare_speed(seed), lambda: None),
    }
    path = folder / "metrics.json"
    metrics = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    for name in chosen:
        print(f"\n{name}")
        metrics[name], draw = experiments[name]()
        metrics["wall_seconds"] = time.perf_counter() - started
        write_metrics(folder, metrics)
        draw()
    return metrics


if __name__ == "__main__":
    command_line(main)
