"""The `evaluate` command: the models of a run, or any others, on questions and texts; results as a
table and as JSON.
"""

import json
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import pandas as pd

from ch01_text import load_documents, split_documents
from ch01_text.run import chapter_folder, write_atomically
from ch01_text.text_datasets import TEXT_NAMES
from ch03_gpt import Precision, document_start, pick_device, pick_precision
from ch04_pretraining import from_pretrained, tokenizer_of
from ch04_pretraining.story_corpus import (
    HELD_OUT_STORIES,
    TEST_SETS,
    draw_questions,
    story_documents,
)
from ch06_instruction.grading import exact_match
from ch06_instruction.storyworld_tasks import evaluate_instructions, instructions, summarize_answers
from ch07_practice.evaluation.evaluation import (
    EvalModel,
    EvalResult,
    evaluate_choices,
    evaluate_continuations,
    evaluate_responses,
    evaluate_text,
)
from ch07_practice.load_model import find_checkpoints
from ch07_practice.story_questions import Pair, answer_choices, ask, story_prompt

Task = Literal["stories", "choice", "instructions", "text"]


@dataclass(frozen=True)
class EvalSize:
    """How much data each task uses."""

    questions: int = 500
    tokens: int = 50_000  # of each text
    texts: tuple[str, ...] = ("storyworld",)
    seed: int = 1


def answer_prompt(model: EvalModel, pair: Pair) -> list[int]:
    """The ids behind which the answer begins, in the form of chapter 4's texts: "Q: ... A:". A chat
    model's own responses also begin like this.
    """
    story, question = pair
    if not model.has_template:
        return document_start(model.tokenizer, story.prompt(question))
    question_alone = story_prompt([{"role": "user", "content": question.text}])
    return [*model.chat.prompt(ask(*pair)), *model.tokenizer.encode(question_alone)]


def evaluate_stories(model: EvalModel, size: EvalSize) -> list[EvalResult]:
    """Chapter 4's questions by exact match of the greedy answer."""
    results = []
    for name, level in TEST_SETS.items():
        pairs = draw_questions("test", level, size.questions, size.seed)
        measure = f"exact match, {name}"
        if model.has_template:
            conversations = [ask(*pair) for pair in pairs]
            answers = [question.answer for _, question in pairs]
            result = evaluate_responses(
                model, "stories", measure, conversations, answers, exact_match
            )
        else:
            rows = [(answer_prompt(model, pair), f" {pair[1].answer}\n") for pair in pairs]
            result = evaluate_continuations(model, "stories", measure, rows)
        results.append(result)
    return results


def evaluate_story_choices(model: EvalModel, size: EvalSize) -> list[EvalResult]:
    """The same questions as multiple choice among the story's own places or people."""
    pairs = draw_questions("test", "base", size.questions, size.seed)
    choices = [[f" {choice}" for choice in answer_choices(*pair)] for pair in pairs]
    prompts = [answer_prompt(model, pair) for pair in pairs]
    right = [
        options.index(f" {question.answer}")
        for options, (_, question) in zip(choices, pairs, strict=True)
    ]
    return evaluate_choices(model, "choice", list(zip(prompts, choices, strict=True)), right)


def evaluate_free_answers(model: EvalModel, size: EvalSize) -> list[EvalResult]:
    """Chapter 6's questions, answered freely; a model without chat template is asked in the form
    of chapter 4's texts.
    """
    tests = list(instructions(size.questions, size.seed, only="question"))
    rows, _ = evaluate_instructions(model.chat, tests, pretrained=not model.has_template)
    summary = summarize_answers(rows)
    parts = {"exact match": summary} | {
        name.replace("_", " "): summary[name] for name in ("one_hop", "two_hop") if name in summary
    }
    return [
        EvalResult(
            "instructions", name, one["exact_match"], one["ci95_low"], one["ci95_high"], one["n"]
        )
        for name, one in parts.items()
    ]


def held_out_documents(name: str, seed: int) -> list[str]:
    """Documents of a named text that no chapter trains on; of a file or folder, all of it."""
    if name == "storyworld":
        return story_documents("test", HELD_OUT_STORIES, seed)
    documents = load_documents(name)
    return split_documents(documents)[1] if name in TEXT_NAMES else documents


def evaluate_texts(model: EvalModel, size: EvalSize) -> list[EvalResult]:
    """Perplexity and bits per byte of each text."""
    return [
        result
        for name in size.texts
        for result in evaluate_text(model, name, held_out_documents(name, size.seed), size.tokens)
    ]


TASKS: dict[str, Callable[[EvalModel, EvalSize], list[EvalResult]]] = {
    "stories": evaluate_stories,
    "choice": evaluate_story_choices,
    "instructions": evaluate_free_answers,
    "text": evaluate_texts,
}


def open_eval_models(run: Path, models: tuple[str, ...], precision: Precision) -> list[EvalModel]:
    """The models named, or the run's own: the pretrained one and all that chapter 6 made of it."""
    sources = {name: name for name in models} or find_checkpoints(run)
    return [
        EvalModel(
            name, from_pretrained(source).to(precision.device), tokenizer_of(source), precision
        )
        for name, source in sources.items()
    ]


def format_results(rows: list[dict]) -> str:
    """The results as a table: one line per measure, one column per model."""
    table = pd.DataFrame(rows)
    wide = table.pivot_table(
        index=["task", "measure"], columns="model", values="formatted", aggfunc="first", sort=False
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
    """Measure how good models are; every value comes with its 95 % interval.

    Args:
        tasks: stories: chapter 4's questions, exact match. choice: the same as multiple choice by
            likelihood.
            instructions: chapter 6's questions, exact match of free answers. text: perplexity and
                bits per byte.
        model: Checkpoint folders, gpt2 to gpt2-xl, Hub repositories or their folders; by default
            the run's pretrained model and all that chapter 6 made of it.
        text: Texts for the task text: shakespeare, storyworld, the-verdict, tinyshakespeare (the
            part held out of training), or any UTF-8 file or folder.
        questions: Number of questions in each task.
        tokens: Maximum number of tokens of each text.
        dtype: Number format of matrix products; auto takes bfloat16 where the device computes it
            fast.
        run: Folder of the run; results go to RUN/ch07_practice/evaluate.json.
        seed: Seed for drawing questions.
        device: Where to compute; auto prefers a GPU.
    """
    for name, value in (("questions", questions), ("tokens", tokens)):
        if value < 1:
            raise ValueError(f"--{name} must be at least 1, not {value}")
    size = EvalSize(questions, tokens, text, seed)
    rows = []
    for eval_model in open_eval_models(run, model, pick_precision(pick_device(device), dtype)):
        print(f"evaluating {eval_model.name}")
        rows += [
            {"model": eval_model.name, **asdict(result), "formatted": str(result)}
            for task in tasks
            for result in TASKS[task](eval_model, size)
        ]
    numbers = [
        {
            key: None if isinstance(value, float) and math.isnan(value) else value
            for key, value in row.items()
            if key != "formatted"
        }
        for row in rows
    ]
    result = {"questions": questions, "seed": seed, "results": numbers}
    path = chapter_folder(run, "ch07_practice") / "evaluate.json"
    write_atomically(path, json.dumps(result, indent=2, allow_nan=False) + "\n")
    print(format_results(rows))
    print(f"saved in {path}")
    return result
