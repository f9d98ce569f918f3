"""The `labs` command: prompting and building, measured on the run's own models; a table, a plot and
JSON.
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
from ch07_practice.evaluation.evaluation import EvalModel, EvalResult
from ch07_practice.labs import (
    context,
    few_shot,
    injection,
    retrieval,
    self_consistency,
    steps,
    structured,
    tools,
)
from ch07_practice.labs.setting import Setting
from ch07_practice.load_model import tuned_chat

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


def draw_labs(results: Mapping[str, Sequence[EvalResult]]) -> Figure:
    """A panel per lab, a bar per result with its 95 % interval; two panels stand side by side."""
    names = list(results)
    pairs = [names[first : first + 2] for first in range(0, len(names), 2)]
    heights = [max(len(results[name]) for name in pair) for pair in pairs]
    figure = Figure(figsize=(13, sum(heights) * 0.24 + len(heights)), layout="constrained")
    panels = figure.subplots(
        len(heights), 2 if len(results) > 1 else 1, squeeze=False, height_ratios=heights
    )
    for axes in panels.flat[len(results) :]:
        axes.set_axis_off()
    for axes, (name, several) in zip(panels.flat, results.items(), strict=False):
        values = [one.value for one in several]
        errors = [
            [one.value - one.ci95_low for one in several],
            [one.ci95_high - one.value for one in several],
        ]
        axes.barh(
            range(len(several)), values, xerr=errors, color="#56B4E9", ecolor="#333333", capsize=2
        )
        axes.set(
            yticks=range(len(several)),
            yticklabels=[one.measure for one in several],
            xlim=(0, 1),
            xlabel="share, with its 95 % interval",
            title=name,
        )
        axes.tick_params(labelsize=7)
        axes.invert_yaxis()
    return figure


def labs(
    lab: Literal[
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
    """Try techniques for using a language model, and measure what each gains; two minutes for all.

    Args:
        lab: One lab, or all. few-shot: solved examples in the prompt. steps: one sub-question at a
            time.
            self-consistency: a vote of several samples. structured: valid JSON, free and
                constrained.
            tools: calls that are executed. retrieval: the right story, found among many. injection:
            orders hidden in a story. context: texts longer than the model's context.
        questions: Questions per row of a lab's table.
        stage: Which of chapter 6's models answers messages.
        run: Folder of the run; results go to RUN/ch07_practice/labs.json and .png, those of one lab
            to labs_LAB.
        seed: Seed for drawing questions and sampling answers.
        device: Where to compute; auto prefers a GPU.
    """
    if questions < 1:
        raise ValueError(f"--questions must be at least 1, not {questions}")
    precision = pick_precision(pick_device(device))
    model, tokenizer = load_checkpoint(ensure_pretrained(run), precision.device)
    setting = Setting(
        EvalModel("base", model, tokenizer, precision),
        tuned_chat(run, precision, stage),
        questions,
        seed,
    )
    results, seconds = {}, {}
    for name, module in LABS.items():
        if lab in (name, "all"):
            began = time.perf_counter()
            results[name] = module.measure(setting)
            seconds[name] = time.perf_counter() - began
            title = " ".join((module.__doc__ or "").partition("\n\n")[0].split())
            print(f"{name}: {title}")
            table = pd.DataFrame(
                [
                    {"": one.measure, "share (95 % interval)": str(one), "n": one.n}
                    for one in results[name]
                ]
            )
            print(table.to_string(index=False) + "\n")
    folder = chapter_folder(run, "ch07_practice")
    name = "labs" if lab == "all" else f"labs_{lab}"
    summary = {
        "questions": questions,
        "stage": stage,
        "seconds": seconds,
        "labs": {name: [asdict(one) for one in several] for name, several in results.items()},
    }
    write_atomically(folder / f"{name}.json", json.dumps(summary, indent=2) + "\n")
    draw_labs(results).savefig(folder / f"{name}.png", dpi=110)
    print(f"saved in {folder / name}.json and .png")
    return summary
