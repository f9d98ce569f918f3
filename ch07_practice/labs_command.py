"""`main.py labs`: prompting and building, measured on the run's own models; a table, a picture
and JSON.
"""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Literal

import pandas as pd
from matplotlib.figure import Figure

from ch01_text.run import chapter_folder, write_atomically
from ch03_gpt import pick_device, pick_precision
from ch04_pretraining import ensure_pretrained, load_checkpoint
from ch07_practice.harness import Finding, Subject
from ch07_practice.labs import (
    Setting,
    context,
    few_shot,
    injection,
    retrieval,
    self_consistency,
    steps,
    structured,
    tools,
)
from ch07_practice.tuned import tuned_chat

LABS = {
    "few-shot": few_shot,
    "steps": steps,
    "self-consistency": self_consistency,
    "structured": structured,
    "tools": tools,
    "retrieval": retrieval,
    "injection": injection,
    "context": context,
}


def draw_labs(found: Mapping[str, Sequence[Finding]]) -> Figure:
    """A panel a lab, a bar a finding with its 95 % interval."""
    rows = [max(len(found[name]) for name in pair if name in found) for pair in _pairs(list(found))]
    figure = Figure(figsize=(13, sum(rows) * 0.24 + len(rows)), layout="constrained")
    panels = figure.subplots(
        len(rows), 2 if len(found) > 1 else 1, squeeze=False, height_ratios=rows
    )
    for axes in panels.flat[len(found) :]:
        axes.set_axis_off()
    for axes, (name, findings) in zip(panels.flat, found.items(), strict=False):
        values = [one.value for one in findings]
        errors = [
            [one.value - one.ci95_low for one in findings],
            [one.ci95_high - one.value for one in findings],
        ]
        axes.barh(
            range(len(findings)), values, xerr=errors, color="#56B4E9", ecolor="#333333", capsize=2
        )
        axes.set(
            yticks=range(len(findings)),
            yticklabels=[one.measure for one in findings],
            xlim=(0, 1),
            xlabel="share, with its 95 % interval",
            title=name,
        )
        axes.tick_params(labelsize=7)
        axes.invert_yaxis()
    return figure


def _pairs(names: list[str]) -> list[list[str]]:
    return [names[first : first + 2] for first in range(0, len(names), 2)]


def labs(
    what: Literal[
        "few-shot",
        "steps",
        "self-consistency",
        "structured",
        "tools",
        "retrieval",
        "injection",
        "context",
        "all",
    ] = "all",
    questions: int = 80,
    stage: Literal["sft", "dpo", "ppo", "grpo"] = "sft",
    run: Path = Path("runs/default"),
    seed: int = 1,
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto",
) -> dict:
    """Try what one does with a language model, and measure what it brings; two minutes for all.

    Args:
        what: One lab, or all. few-shot: solved examples in the prompt. steps: small questions in
            turn.
            self-consistency: a vote of several draws. structured: valid JSON, free and constrained.
            tools: calls that are executed. retrieval: the right story found among many. injection:
            orders hidden in a story. context: longer texts than the model can see.
        questions: In each row of a lab.
        stage: Which model of chapter 6 answers messages.
        run: Folder of the run; results go to RUN/ch07_practice/labs.json and .png, those of one lab
            to labs_WHAT.
        seed: Of questions and draws.
        device: Where to compute; auto prefers a GPU.
    """
    if questions < 1:
        raise ValueError(f"--questions must be at least 1, not {questions}")
    precision = pick_precision(pick_device(device))
    model, tokenizer = load_checkpoint(ensure_pretrained(run), precision.device)
    setting = Setting(
        Subject("base", model, tokenizer, precision),
        tuned_chat(run, precision, stage),
        questions,
        seed,
    )
    found, seconds = {}, {}
    for name, lab in LABS.items():
        if what in (name, "all"):
            began = time.perf_counter()
            found[name] = lab.measure(setting)
            seconds[name] = time.perf_counter() - began
            print(f"{name}: {lab.__doc__.splitlines()[0]}")
            table = pd.DataFrame(
                [
                    {"": one.measure, "share (95 % interval)": str(one), "n": one.n}
                    for one in found[name]
                ]
            )
            print(table.to_string(index=False) + "\n")
    folder = chapter_folder(run, "ch07_practice")
    name = "labs" if what == "all" else f"labs_{what}"
    result = {
        "questions": questions,
        "stage": stage,
        "seconds": seconds,
        "labs": {name: [asdict(one) for one in findings] for name, findings in found.items()},
    }
    write_atomically(folder / f"{name}.json", json.dumps(result, indent=2) + "\n")
    draw_labs(found).savefig(folder / f"{name}.png", dpi=110)
    print(f"saved in {folder / name}.json and .png")
    return result
