"""Chapter 5: turn the language model into a classifier, beside baselines, with error bars."""

import sys
import time
from dataclasses import replace
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
from ch05_classification.examples import Task, make_task, read_table
from ch05_classification.experiment import (
    PLACES,
    STORIES,
    TEXTS,
    Recipe,
    Result,
    measure,
    misclassified,
    run_task,
    score_table,
)
from ch05_classification.lora import merge_lora, save_adapter
from ch05_classification.plots import (
    draw_ablation,
    draw_confusion,
    draw_curves,
    draw_reliability,
    draw_table,
    draw_training,
)
from ch05_classification.saved import classify, load_classifier, save_classifier
from ch05_classification.sms import sms_task
from ch05_classification.story_tasks import CLASSES, story_task

CHAPTER = "ch05_classification"
TASKS = (*CLASSES, "sms-spam", "sms-spam-book")
# a classifier each: measures, task, result, all scores
Finished = list[tuple[dict, Task, Result, pd.DataFrame]]


def load_task(
    name: str, seed: int, rows: int | None, text_column: str, label_column: str, test: Path | None
) -> Task:
    """A task by name, or from a table, with `rows` labelled texts to learn from or all that there
    are; ValueError or OSError where there is none such.
    """
    if test is not None and name in TASKS:
        raise ValueError(f"{name} has test rows of its own; leave --test out")
    if name in CLASSES:
        return story_task(name, seed, rows)
    if name in TASKS:
        task = sms_task(name == "sms-spam-book", seed)
    else:
        task = table_task(Path(name), seed, text_column, label_column, test)
    return few_labels(task, rows, seed) if rows else task


def table_task(
    path: Path, seed: int, text_column: str, label_column: str, test: Path | None
) -> Task:
    """A task from a table and, where given, another one to test on."""
    if not path.is_file():
        raise FileNotFoundError(
            f"there is no task {str(path)!r}; choose {', '.join(TASKS)}, or give the path of a "
            "CSV, TSV or JSONL file"
        )
    others = read_table(test, text_column, label_column) if test else None
    return make_task(path.name, *read_table(path, text_column, label_column), seed, others)


def describe(task: Task) -> str:
    """What the task is, in two lines."""
    counts = np.bincount(task.test.labels, minlength=len(task.classes))
    notes = "".join(f"; {what}: {n:,}" for what, n in task.notes.items())
    return (
        f"{task.name}: {len(task.train):,} rows to learn from, {len(task.val):,} to validate,"
        f" {len(task.test):,} to test{notes}\n{len(task.classes)} classes, the most frequent one"
        f" {counts.max() / counts.sum():.1%} of the test rows"
    )


def draw_plots(task: Task, result: Result, table: pd.DataFrame, folder: Path) -> None:
    """All pictures of one classifier."""
    labels = task.test.labels
    draw_training(result.history.log, task.name).savefig(folder / "training.png", dpi=110)
    draw_confusion(labels, result.predicted, task.classes).savefig(
        folder / "confusion.png", dpi=110
    )
    draw_reliability(result.logits, labels, result.choice.temperature).savefig(
        folder / "reliability.png", dpi=110
    )
    draw_table(table, task.name).savefig(folder / "table.png", dpi=110)
    if task.positive is not None:
        scores = {"ours": result.probabilities[:, task.positive]}
        draw_curves(scores, labels == task.positive).savefig(folder / "curves.png", dpi=110)


def show_table(table: pd.DataFrame) -> None:
    """The table of all classifiers in the terminal."""
    shown = table[
        [
            "classifier",
            "accuracy",
            "ci95_low",
            "ci95_high",
            "f1",
            "only ours right",
            "only it right",
            "p",
        ]
    ]
    shares = dict.fromkeys(("accuracy", "ci95_low", "ci95_high"), "{:.2%}".format)
    print(
        shown.to_string(
            index=False, formatters=shares | {"f1": "{:.3f}".format, "p": "{:.2g}".format}
        )
        + "\n"
    )


def answer(text: str, folder: Path, precision: Precision) -> dict:
    """Classify a text, or line after line from the terminal where it is "-"."""
    classifier, tokenizer, choice = load_classifier(folder, precision.device)
    found: dict = {"task": choice.task, "texts": []}
    lines = [text] if text != "-" else (line.strip() for line in sys.stdin if line.strip())
    for line in lines:
        names, probabilities = classify([line], classifier, tokenizer, choice, precision)
        best = np.argsort(-probabilities[0])[:3]
        print(
            f"{names[0]:<12} "
            + "  ".join(f"{choice.classes[n]} {probabilities[0, n]:.1%}" for n in best)
        )
        found["texts"].append(
            {"text": line, "class": names[0], "probability": float(probabilities[0].max())}
        )
    return found


def main(
    task: str = "holder",
    start: Annotated[str, arg(name="from")] = "pretrained",
    pretrain_steps: int = 400,
    train: Literal["all", "last-block", "head"] = "all",
    lora_rank: int = 0,
    lora_alpha: float = 16.0,
    pooling: Literal["last", "first", "mean", "max", "padding"] = "last",
    epochs: float | None = None,
    batch_size: int | None = None,
    lr: float | None = None,
    class_weights: bool = False,
    rows: int | None = None,
    text_column: str = "text",
    label_column: str = "label",
    test: Path | None = None,
    repeats: int = 1,
    ablation: bool = False,
    classify: str | None = None,
    dtype: Literal["auto", "float32", "bfloat16"] = "auto",
    run: Path = Path("runs/default"),
    seed: int = 1337,
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto",
) -> dict:
    """Fine-tune a classifier and compare it with baselines on the same rows.

    Args:
        task: holder, place, ending (storyworld), sms-spam, sms-spam-book, or a CSV, TSV or
            JSONL file.
        start: pretrained: from the run's story model, or, for texts that are no stories, from a
            small model that chapter 4 first trains on the training texts without their labels.
            scratch: untrained. Or a checkpoint folder, gpt2 to gpt2-xl, a Hub repository or its
            folder.
        pretrain_steps: How long the small model of the training texts reads them.
        train: What learns: everything, the last block with norm and head, or the head alone.
        lora_rank: Learn corrections of this rank and the head instead; 0: no LoRA. Try --lr 0.002
            with it.
        lora_alpha: The corrections are multiplied by alpha / rank.
        pooling: Where the head looks: the last real token, the first, their mean or maximum, or the
            end of the row, filling included (padding).
        epochs: Passes over the training rows, at most; it ends early when validation gets no
            better.
        batch_size: Texts in a batch.
        lr: Peak learning rate of AdamW.
        class_weights: Let rare classes count as much as frequent ones.
        rows: Learn from so many labelled texts only.
        text_column: Of a table: the column of the texts.
        label_column: Of a table: the column of the labels.
        test: Another table to test on; else two tenths of the first are kept for it.
        repeats: Train so often, each time with the next seed, that is another split and other
            weights.
        ablation: Answer the book's questions instead: which token, which mask, what learns, how
            wide, how many labels.
        classify: Train nothing: classify this text with the run's classifier, or, with -, every
            line that is typed.
        dtype: Number format of matrix products; auto takes bfloat16 where the device is good at it.
        run: Folder of the run; results go to RUN/ch05_classification.
        seed: Of split, stories and weights.
        device: Where to compute; auto prefers a GPU.
    """
    began = time.perf_counter()
    positive = {
        "epochs": epochs,
        "batch-size": batch_size,
        "lr": lr,
        "repeats": repeats,
        "rows": rows,
        "pretrain-steps": pretrain_steps,
        "lora-alpha": lora_alpha,
    }
    for name, value in positive.items():
        if value is not None and value <= 0:
            raise ValueError(f"--{name} must be positive, not {value}")
    if lora_rank < 0:
        raise ValueError(f"--lora-rank must be 0 (no LoRA) or more, not {lora_rank}")
    if lora_rank and train != "all":
        raise ValueError("with --lora-rank the corrections learn; leave --train out")
    precision = pick_precision(pick_device(device), dtype)
    if classify is not None:
        return answer(classify, Path(run) / CHAPTER / "classifier", precision)

    recipe = recipe_for(
        task, epochs=epochs, batch_size=batch_size, lr=lr, class_weights=class_weights
    )
    recipe = replace(
        recipe,
        part=train,
        lora_rank=lora_rank,
        lora_alpha=lora_alpha,
        pooling=pooling,
        refits=min(recipe.refits, 1) if lora_rank else recipe.refits,
    )  # one adapter
    data = load_task(task, seed, rows, text_column, label_column, test)
    print(describe(data))
    if ablation:
        models = {
            source: find_base_model(data, source, Path(run), seed, pretrain_steps)
            for source in ("pretrained", "scratch")
        }
        return run_ablation(data, recipe, models, Path(run), precision, seed, repeats)
    finished = []
    for number in range(repeats):
        if number:
            data = load_task(task, seed + number, rows, text_column, label_column, test)
        model, tokenizer = find_base_model(data, start, Path(run), seed + number, pretrain_steps)
        result = run_task(data, model, tokenizer, recipe, precision, seed + number)
        print("fitting the baselines")
        table = score_table(data, fit_baselines(data), {f"ours ({start})": result.predicted}, seed)
        show_table(table)
        finished.append((measure(data, result, table), data, result, table))
    settings = {
        "task": data.name,
        "start": start,
        "train": train,
        "lora_rank": lora_rank,
        "pooling": pooling,
        "seed": seed,
        "dtype": dtype,
    }
    folder = chapter_folder(run, CHAPTER)
    metrics = keep(finished, folder, settings, time.perf_counter() - began)
    report(finished, folder)
    return metrics


def recipe_for(task: str, **given) -> Recipe:
    """What suits the task, with what is given (not None) in its place."""
    recipe = PLACES if task == "place" else STORIES if task in CLASSES else TEXTS
    given = {name: value for name, value in given.items() if value is not None}
    return replace(recipe, plan=replace(recipe.plan, **given))


def run_ablation(
    task: Task,
    recipe: Recipe,
    models: dict[str, tuple],
    run: Path,
    precision: Precision,
    seed: int,
    repeats: int,
) -> dict:
    """Train all variants; writes ablation.csv and ablation.png."""
    table = ablate(task, recipe, models, precision, seed, repeats)
    folder = chapter_folder(run, CHAPTER)
    write_atomically(folder / "ablation.csv", table.to_csv(index=False))
    draw_ablation(table).savefig(folder / "ablation.png", dpi=110)
    means = table.groupby(["question", "answer"], sort=False)[
        ["accuracy", "f1", "learned", "seconds"]
    ].mean()
    print(means.to_string(float_format="{:,.3f}".format))
    return {"task": task.name, "ablation": table.to_dict("records")}


def keep(finished: Finished, folder: Path, settings: dict, seconds: float) -> dict:
    """Write the first classifier and the metrics of all; returns these."""
    metrics, task, result, table = finished[0]
    write_atomically(folder / "misclassified.csv", misclassified(task, result).to_csv(index=False))
    if settings["lora_rank"]:
        save_adapter(result.classifier, folder / "adapter.safetensors")
        merge_lora(result.classifier)
    save_classifier(folder / "classifier", result.classifier, result.tokenizer, result.choice)
    each = [
        {name: one[name] for name in ("accuracy", "f1", "baseline_accuracy", "seconds")}
        for one, *_ in finished
    ]
    return write_metrics(
        folder,
        metrics
        | {
            "repeats": each,
            "table": table.to_dict("records"),
            "settings": settings,
            "wall_seconds": seconds,
        },
    )


def report(finished: Finished, folder: Path) -> None:
    """Draw and print what the first classifier does, and the mean of all."""
    metrics, task, result, table = finished[0]
    if result.truncated:
        print(f"{result.truncated} texts were longer than the context and were cut")
    print(
        f"confidence: ECE {metrics['calibration_error']:.3f}, after temperature scaling "
        f"{metrics['calibration_error_scaled']:.3f}"
    )
    if task.positive is not None:
        print(
            f"threshold of the best F1 on validation rows: {metrics['threshold']:.3f}, F1 on test"
            f" rows {metrics['threshold_f1']:.3f}"
        )
    errors = misclassified(task, result)
    print(f"{len(errors)} of {metrics['n_test']} test rows are wrong; the surest of them:")
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
