"""Chapter 5: fine-tune the language model into a classifier, beside baselines, with error bars."""

import sys
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import pandas as pd
from tyro.conf import arg

from ch01_text.run import chapter_folder, command_line, write_atomically, write_metrics
from ch03_gpt import Precision, pick_device, pick_precision
from ch05_classification.ablations import ablate, few_labels
from ch05_classification.base_model import find_base_model
from ch05_classification.baselines import fit_baselines
from ch05_classification.checkpoint import classify as classify_texts
from ch05_classification.checkpoint import load_classifier, save_classifier
from ch05_classification.config import ClassifierConfig
from ch05_classification.dataset import Task, make_task, read_table
from ch05_classification.evaluation import compute_metrics, misclassified, score_table
from ch05_classification.experiment import Result, run_task
from ch05_classification.lora import merge_lora, save_adapter
from ch05_classification.plots import (
    draw_ablation,
    draw_confusion,
    draw_curves,
    draw_reliability,
    draw_table,
    draw_training,
)
from ch05_classification.sms import sms_task
from ch05_classification.story_tasks import CLASSES, FOLLOW_UPS, story_task

CHAPTER = "ch05_classification"
TASKS = (*CLASSES, "sms-spam", "sms-spam-book")
# of one trained classifier: metrics, task, result, score table
Finished = tuple[dict, Task, Result, pd.DataFrame]


def load_task(config: ClassifierConfig) -> Task:
    """The task of this name, or from this table; ValueError or OSError if there is none."""
    if config.test is not None and config.task in TASKS:
        raise ValueError(f"{config.task} has test rows of its own; leave --test out")
    if config.task in CLASSES:
        return story_task(config.task, config.seed, config.train_rows)
    if config.task in TASKS:
        task = sms_task(config.task == "sms-spam-book", config.seed)
    else:
        task = table_task(config)
    return few_labels(task, config.train_rows, config.seed) if config.train_rows else task


def table_task(config: ClassifierConfig) -> Task:
    """A task from a table, and from a second one to test on, if given."""
    path, columns = Path(config.task), (config.text_column, config.label_column)
    if not path.is_file():
        raise FileNotFoundError(
            f"there is no task {str(path)!r}; choose {', '.join(TASKS)}, or give the path of a "
            "CSV, TSV or JSONL file"
        )
    test = read_table(Path(config.test), *columns) if config.test else None
    return make_task(path.name, *read_table(path, *columns), config.seed, test)


def describe(task: Task) -> str:
    """The sizes of a task, in two lines."""
    counts = np.bincount(task.test.labels, minlength=len(task.classes))
    notes = "".join(f"; {what}: {n:,}" for what, n in task.notes.items())
    return (
        f"{task.name}: {len(task.train):,} rows for training, {len(task.val):,} for validation,"
        f" {len(task.test):,} for testing{notes}\n"
        f"{len(task.classes)} classes, the most frequent one {counts.max() / counts.sum():.1%} of"
        " the test rows"
    )


def draw_plots(task: Task, result: Result, table: pd.DataFrame, folder: Path) -> None:
    """All plots of one classifier."""
    labels = task.test.labels
    plots = {
        "training": draw_training(result.history.log, task.name),
        "confusion": draw_confusion(labels, result.predicted, task.classes),
        "reliability": draw_reliability(result.logits, labels, result.metadata.temperature),
        "table": draw_table(table, task.name),
    }
    if task.positive is not None:
        scores = {"ours": result.probabilities[:, task.positive]}
        plots["curves"] = draw_curves(scores, labels == task.positive)
    for name, figure in plots.items():
        figure.savefig(folder / f"{name}.png", dpi=110)


def print_table(table: pd.DataFrame) -> None:
    """The scores of all classifiers."""
    scores = ["accuracy", "ci95_low", "ci95_high", "f1"]
    tests = ["only ours right", "only it right", "p"]
    formats = dict.fromkeys(scores, "{:.2%}".format) | {"f1": "{:.3f}".format, "p": "{:.2g}".format}
    columns = table[["classifier", *scores, *tests]]
    print(columns.to_string(index=False, formatters=formats) + "\n")


def classify_input(text: str, folder: Path, precision: Precision) -> dict:
    """Classify a text, or every line of standard input if it is "-"."""
    classifier, tokenizer, metadata = load_classifier(folder, precision.device)
    task, rows = metadata.config.task, []
    lines = [text] if text != "-" else (line.strip() for line in sys.stdin if line.strip())
    for line in lines:
        names, probabilities = classify_texts(
            [line], classifier, tokenizer, metadata, precision, FOLLOW_UPS.get(task)
        )
        best = np.argsort(-probabilities[0])[:3]
        print(
            f"{names[0]:<12} "
            + "  ".join(f"{metadata.classes[n]} {probabilities[0, n]:.1%}" for n in best)
        )
        rows.append({"text": line, "class": names[0], "probability": float(probabilities.max())})
    return {"task": task, "texts": rows}


def main(
    config: Annotated[ClassifierConfig, arg(name="")] = ClassifierConfig(),
    *,
    classify: str | None = None,
    repeats: int = 1,
    ablation: bool = False,
    run: Path = Path("runs/default"),
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto",
) -> dict:
    """Fine-tune a classifier and compare it with baselines on the same rows.

    Args:
        config: What is trained, and how.
        classify: Train nothing: classify this text, or, with "-", every line of standard input.
        repeats: Train this many times, each time with the next seed: another split, other weights.
        ablation: Compare variants: which token, which weights, which width, how many labels.
        run: Folder of the run; results go to RUN/ch05_classification.
        device: Where to compute; auto prefers a GPU.
    """
    began = time.perf_counter()
    if repeats < 1:
        raise ValueError(f"--repeats must be positive, not {repeats}")
    run, precision = Path(run), pick_precision(pick_device(device), config.dtype)
    if classify is not None:
        return classify_input(classify, run / CHAPTER / "classifier", precision)
    if ablation:
        return run_ablation(config, run, precision, repeats)
    finished = [
        train_and_compare(replace(config, seed=seed), run, precision)
        for seed in range(config.seed, config.seed + repeats)
    ]
    folder = chapter_folder(run, CHAPTER)
    metrics = save_results(finished, folder, time.perf_counter() - began)
    report(finished, folder)
    return metrics


def train_and_compare(config: ClassifierConfig, run: Path, precision: Precision) -> Finished:
    """Train one classifier and score it beside the baselines."""
    task = load_task(config)
    print(describe(task))
    result = run_task(task, *find_base_model(task, config, run), config, precision)
    print("fitting the baselines")
    predictions = {f"ours ({config.start})": result.predicted}
    table = score_table(task, fit_baselines(task), predictions, config.seed)
    print_table(table)
    return compute_metrics(task, result, table), task, result, table


def run_ablation(config: ClassifierConfig, run: Path, precision: Precision, repeats: int) -> dict:
    """Train all variants; write ablation.csv and ablation.png."""
    task = load_task(config)
    print(describe(task))
    models = {
        start: find_base_model(task, replace(config, start=start), run)
        for start in (config.start, "scratch")
    }
    table = ablate(task, config, models, precision, repeats)
    folder = chapter_folder(run, CHAPTER)
    write_atomically(folder / "ablation.csv", table.to_csv(index=False))
    draw_ablation(table).savefig(folder / "ablation.png", dpi=110)
    columns = ["accuracy", "f1", "trainable_params", "seconds"]
    means = table.groupby(["question", "variant"], sort=False)[columns].mean()
    print(means.to_string(float_format="{:,.3f}".format))
    return {"task": task.name, "ablation": table.to_dict("records")}


def save_results(finished: list[Finished], folder: Path, seconds: float) -> dict:
    """Write the first classifier, its errors and the metrics of all; return the metrics."""
    metrics, task, result, table = finished[0]
    write_atomically(folder / "misclassified.csv", misclassified(task, result).to_csv(index=False))
    config = result.metadata.config
    if config.lora_rank:
        save_adapter(result.classifier, folder / "adapter.safetensors")
        merge_lora(result.classifier)
    save_classifier(folder / "classifier", result.classifier, result.tokenizer, result.metadata)
    names = ("accuracy", "f1", "baseline_accuracy", "seconds")
    metrics |= {
        "repeats": [{name: one[name] for name in names} for one, *_ in finished],
        "table": table.to_dict("records"),
        "settings": asdict(config) | {"task": task.name},
        "wall_seconds": seconds,
    }
    return write_metrics(folder, metrics)


def report(finished: list[Finished], folder: Path) -> None:
    """Draw the plots of the first classifier and print its errors, then the means of all."""
    metrics, task, result, table = finished[0]
    if result.n_truncated:
        print(f"{result.n_truncated} texts exceeded the context length and were cut")
    print(
        f"confidence: ECE {metrics['calibration_error']:.3f}, after temperature scaling "
        f"{metrics['calibration_error_scaled']:.3f}"
    )
    if task.positive is not None:
        print(
            f"threshold with the best F1 on validation rows: {metrics['threshold']:.3f}, F1 on test"
            f" rows {metrics['threshold_f1']:.3f}"
        )
    errors = misclassified(task, result)
    print(f"{len(errors)} of {metrics['n_test']} test rows are wrong; the most confident errors:")
    print(errors.head(5).to_string(index=False, max_colwidth=90, float_format="{:.2f}".format))
    if len(finished) > 1:
        for name in ("accuracy", "f1", "baseline_accuracy"):
            values = np.array([one[name] for one, *_ in finished])
            print(
                f"{name:<18} {values.mean():.4f}, standard deviation {values.std(ddof=1):.4f},"
                f" {len(values)} seeds"
            )
    draw_plots(task, result, table, folder)
    print(f"classifier and plots are in {folder}")


if __name__ == "__main__":
    command_line(main)
