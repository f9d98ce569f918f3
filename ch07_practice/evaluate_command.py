"""`main.py evaluate`: the harness on the models of a run, or on any other, as a table and as
JSON.
"""

import json
import math
from pathlib import Path
from typing import Literal

import pandas as pd

from ch01_text.run import chapter_folder, write_atomically
from ch03_gpt import Precision, pick_device, pick_precision
from ch04_pretraining import ensure_pretrained, from_pretrained, tokenizer_of
from ch07_practice.harness import Size, Subject, examine_subject
from ch07_practice.tuned import tuned_checkpoints

Task = Literal["stories", "choice", "instructions", "text"]


def open_subjects(run: Path, models: tuple[str, ...], precision: Precision) -> list[Subject]:
    """The models named, or the run's own: the pretrained one and all that chapter 6 made of it."""
    sources = {name: name for name in models}
    if not sources:
        sources = {"base": ensure_pretrained(run)} | tuned_checkpoints(run)
    return [
        Subject(name, from_pretrained(source).to(precision.device), tokenizer_of(source), precision)
        for name, source in sources.items()
    ]


def show_findings(rows: list[dict]) -> str:
    """Findings as a table: a line a measure, a column a model."""
    table = pd.DataFrame(rows)
    wide = table.pivot_table(
        index=["task", "measure"], columns="model", values="shown", aggfunc="first", sort=False
    )
    return wide.fillna("").reset_index().rename_axis(columns=None).to_string(index=False)


def evaluate(
    tasks: tuple[Task, ...] = ("stories", "choice", "instructions", "text"),
    model: tuple[str, ...] = (),
    text: tuple[str, ...] = ("storyworld",),
    questions: int = 500,
    tokens: int = 50_000,
    dtype: Literal["auto", "float32", "bfloat16"] = "auto",
    run: Path = Path("runs/default"),
    seed: int = 1,
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto",
) -> dict:
    """Measure how good models are, each value with its 95 % interval.

    Args:
        tasks: stories: chapter 4's questions, exact match. choice: the same as multiple choice by
            likelihood.
            instructions: chapter 6's questions, exact match by writing. text: perplexity and bits
                per byte.
        model: Checkpoint folders, gpt2 to gpt2-xl, Hub repositories or their folders; by default
            the run's pretrained model and all that chapter 6 made of it.
        text: What to read for the task text: shakespeare, storyworld, the-verdict, tinyshakespeare
            (what was held out of training), or any UTF-8 file or folder.
        questions: In each task.
        tokens: At most so many of each text.
        dtype: Number format of matrix products; auto takes bfloat16 where the device is good at it.
        run: Folder of the run; results go to RUN/ch07_practice/evaluate.json.
        seed: Of the questions.
        device: Where to compute; auto prefers a GPU.
    """
    for name, value in (("questions", questions), ("tokens", tokens)):
        if value < 1:
            raise ValueError(f"--{name} must be at least 1, not {value}")
    size = Size(questions, tokens, text, seed)
    rows = []
    for subject in open_subjects(run, model, pick_precision(pick_device(device), dtype)):
        print(f"examining {subject.name}")
        rows += examine_subject(subject, tasks, size)
    numbers = [
        {
            key: None if isinstance(value, float) and math.isnan(value) else value
            for key, value in row.items()
            if key != "shown"
        }
        for row in rows
    ]
    result = {"questions": questions, "seed": seed, "findings": numbers}
    path = chapter_folder(run, "ch07_practice") / "evaluate.json"
    write_atomically(path, json.dumps(result, indent=2, allow_nan=False) + "\n")
    print(show_findings(rows))
    print(f"saved in {path}")
    return result
