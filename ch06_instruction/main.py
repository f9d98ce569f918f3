"""Chapter 6: teach the language model to follow instructions, then to prefer right answers;
every stage measured.
"""

import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

import pandas as pd
import torch
from tyro.conf import arg

from ch01_text.run import chapter_folder, command_line, write_atomically, write_metrics
from ch03_gpt import pick_device, pick_precision
from ch06_instruction.answering import Chat
from ch06_instruction.best_of_n import best_scored, best_there_was, draw_answers, most_agreed
from ch06_instruction.evaluation import ask_base, examine, grade_drawn, kl_from, shortcut_scores
from ch06_instruction.file_data import tune_on_file
from ch06_instruction.grading import by_group, grade_responses, summarize_answers
from ch06_instruction.instructions import Instruction, instructions
from ch06_instruction.plots import STAGES, draw_losses, draw_rewards, draw_stages
from ch06_instruction.stages import Course, Plan, Stage, base_chat

CHAPTER = "ch06_instruction"
TRAINED = ("sft", "dpo", "ppo", "grpo")
SHOWN = (
    "exact_match",
    "ci95_low",
    "ci95_high",
    "one_hop",
    "two_hop",
    "drawn",
    "kl",
    "words",
    "seconds",
)


def measure(
    name: str, stage: Stage, tests: dict[str, list[Instruction]], tuned: Chat | None, folder: Path
) -> dict:
    """What metrics.json says of one stage; writes its answers to a table."""
    ask = ask_base if name == "base" else examine
    rows, answers = ask(stage.chat, tests["test"])
    table = rows.assign(
        prompt=[one.messages[-1]["content"] for one in tests["test"]],
        wanted=[one.answer for one in tests["test"]],
        response=answers,
    )
    write_atomically(folder / f"answers-{name}.csv", table.to_csv(index=False))
    found = summarize_answers(rows) | {"seconds": stage.seconds, **stage.extra}
    found["by_task"] = by_group(rows, "task").to_dict("records")
    found["by_form"] = by_group(rows[rows["task"] == "question"], "form").to_dict("records")
    longer, _ = ask(stage.chat, tests["longer"])
    found["longer_stories"] = summarize_answers(longer)
    if tuned is not None:
        generator = torch.Generator(tuned.precision.device).manual_seed(0)
        found["drawn"] = grade_drawn(stage.chat, tests["test"], generator)
        found["kl"] = kl_from(tuned.model, stage.chat, tests["test"][:128], generator)
    return found


def measure_best_of(course: Course, tuned: Chat, asked: list[Instruction], n: int) -> dict:
    """Best of n by the reward model and by agreement, on as many questions as its draws take
    reasonable time for.
    """
    began = time.perf_counter()
    drawn = draw_answers(tuned, asked, n, course.seed)
    seconds = time.perf_counter() - began
    chosen = best_scored(course.scorer, tuned, asked, drawn)
    agreed = [most_agreed(answers) for answers in drawn]
    found = summarize_answers(grade_responses(asked, chosen)) | {"seconds": seconds}
    return found | {
        "most_agreed": summarize_answers(grade_responses(asked, agreed))["exact_match"],
        "any_of_them": best_there_was(asked, drawn),
    }


def show(metrics: dict) -> None:
    """The table of all stages in the terminal."""
    rows = []
    for name in STAGES:
        if name in metrics:
            stage = {
                key: value["exact_match"] if isinstance(value, dict) else value
                for key, value in metrics[name].items()
                if key in SHOWN
            }
            if "drawn" in stage:
                drawn = metrics[name]["drawn"]
                stage["drawn"] = (
                    f"{drawn['exact_match']:.1%} ({drawn['ci95_low']:.1%}-{drawn['ci95_high']:.1%})"
                )
            rows.append({"stage": name} | {key: stage.get(key) for key in SHOWN})
    table = pd.DataFrame(rows)
    shares = dict.fromkeys(
        ("exact_match", "ci95_low", "ci95_high", "one_hop", "two_hop"), "{:.1%}".format
    )
    others = {"kl": "{:.2f}".format, "words": "{:.1f}".format, "seconds": "{:.0f}".format}
    print(table.to_string(index=False, na_rep="", formatters=shares | others))
    if "shortcuts" in metrics:
        print(
            "shortcuts: "
            + ", ".join(f"{name} {value:.1%}" for name, value in metrics["shortcuts"].items())
        )


def show_answers(folder: Path, n: int = 4) -> None:
    """A few answers of each stage that has been measured."""
    for path in (folder / f"answers-{name}.csv" for name in ("base", *TRAINED)):
        if path.is_file():
            print(f"\n{path.stem}:")
            for _, row in pd.read_csv(path, keep_default_na=False).head(n).iterrows():
                question = str(row["prompt"]).rpartition("\n")[2]
                response = str(row["response"]).replace("\n", " | ")
                print(f"  {question}\n    wanted: {row['wanted']}\n    said:   {response}")


def main(
    stage: Literal["sft", "reward", "dpo", "ppo", "grpo", "all"] = "all",
    data: str = "storyworld",
    start: Annotated[str, arg(name="from")] = "pretrained",
    conversations: int = 30_000,
    lora_rank: int = 0,
    pairs: int = 1200,
    prompts: int = 1000,
    loss: Literal["dpo", "ipo", "simpo", "orpo", "kto"] = "dpo",
    rounds: int | None = None,
    beta: float | None = None,
    epochs: float | None = None,
    questions: int = 2000,
    judge_url: str | None = None,
    judge_model: str = "default",
    dtype: Literal["auto", "float32", "bfloat16"] = "auto",
    run: Path = Path("runs/default"),
    seed: int = 1337,
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto",
) -> dict:
    """Tune the story model on instructions, then on preferences and rewards, and compare all
    stages.

    Args:
        stage: One stage, or all: base, sft (instruction tuning), best of 8 by a reward model, dpo,
            ppo, grpo.
        data: storyworld, book (the book's 1,100 instructions), or a JSON or JSONL file of
            instructions or chats.
        start: pretrained: the run's story model. Or a checkpoint folder, gpt2 to gpt2-xl, a Hub
            repository.
        conversations: Storyworld conversations to tune on; a fifth as many texts like chapter 4's
            come with them.
        lora_rank: Tune corrections of this rank instead of all weights; 0: no LoRA.
        pairs: Made pairs of responses that the reward model learns from.
        prompts: Questions that dpo, ppo and grpo draw answers to.
        loss: What the dpo stage makes of a pair of responses.
        rounds: Of drawing and learning, for ppo and grpo.
        beta: How strongly ppo and grpo are held near the tuned model, or the loss's own beta for
            dpo.
        epochs: Passes over the conversations when tuning.
        questions: Unseen instructions to measure with.
        judge_url: An OpenAI-compatible endpoint that grades answers to `data` from files, too.
        judge_model: The name of the judge's model there.
        dtype: Number format of matrix products; auto takes bfloat16 where the device is good at it.
        run: Folder of the run; results go to RUN/ch06_instruction.
        seed: Of stories, weights and draws.
        device: Where to compute; auto prefers a GPU.
    """
    began = time.perf_counter()
    given = {
        "conversations": conversations,
        "pairs": pairs,
        "prompts": prompts,
        "rounds": rounds,
        "epochs": epochs,
        "questions": questions,
    }
    for name, value in given.items():
        if value is not None and value <= 0:
            raise ValueError(f"--{name} must be positive, not {value}")
    if lora_rank < 0:
        raise ValueError(f"--lora-rank must be 0 (no LoRA) or more, not {lora_rank}")
    precision = pick_precision(pick_device(device), dtype)
    folder = chapter_folder(run, CHAPTER)
    plan = Plan(conversations=conversations, pairs=pairs, prompts=prompts)
    plan = make_plan(plan, lora_rank, loss, rounds, beta, epochs)
    course = Course(folder, lambda: base_chat(start, Path(run), precision), plan, precision, seed)
    if data != "storyworld":
        if stage not in ("sft", "all"):
            raise ValueError(
                f"--stage {stage} needs answers that a program can check; use --data storyworld"
            )
        return tune_on_file(course, data, folder, judge_url, judge_model)
    metrics, logs = run_stages(stage, course, questions, folder)
    metrics["wall_seconds"] = time.perf_counter() - began
    write_metrics(folder, metrics)
    draw_plots(metrics, logs, folder)
    show_answers(folder)
    show(metrics)
    return metrics


def make_plan(
    plan: Plan,
    lora_rank: int,
    loss: str,
    rounds: int | None,
    beta: float | None,
    epochs: float | None,
) -> Plan:
    """`plan` with what is given (not None) in its place."""
    tuning = replace(plan.tuning, lora_rank=lora_rank, **({"epochs": epochs} if epochs else {}))
    given = {
        name: value for name, value in (("rounds", rounds), ("beta", beta)) if value is not None
    }
    return replace(
        plan,
        tuning=tuning,
        preferring=replace(plan.preferring, loss=loss, beta=beta),
        ppo=replace(plan.ppo, **given),
        grpo=replace(plan.grpo, **given),
    )


def run_stages(
    stage: str, course: Course, questions: int, folder: Path
) -> tuple[dict, dict[str, list[dict]]]:
    """Do one stage or all, measure each; returns the metrics, those of earlier stages kept, and
    logs by stage.
    """
    tests = {
        "test": list(instructions(questions, 1)),
        "longer": list(instructions(max(1, questions // 8), 2, level="base", only="question")),
    }
    path = folder / "metrics.json"
    metrics = (
        json.loads(path.read_text(encoding="utf-8"))
        if stage not in ("sft", "all") and path.is_file()
        else {}
    )
    metrics |= {"shortcuts": shortcut_scores(tests["test"], course.seed), "n_questions": questions}
    logs: dict[str, list[dict]] = {}
    if stage in ("sft", "all"):
        metrics["base"] = measure("base", Stage(course.base()), tests, None, folder)
        tuned = course.sft()
        metrics["sft"] = measure("sft", tuned, tests, tuned.chat, folder)
        logs["sft"] = tuned.log
    tuned_chat = course.start()
    if stage in ("reward", "all"):
        metrics["reward"] = course.reward().extra
        asked = [one for one in tests["test"] if one.task == "question"][:400]
        metrics["best-of-8"] = measure_best_of(course, tuned_chat, asked, 8)
    for name in ("dpo", "ppo", "grpo"):
        if stage in (name, "all"):
            done = course.dpo() if name == "dpo" else course.reinforce(name)
            metrics[name] = measure(name, done, tests, tuned_chat, folder)
            if name != "dpo":
                logs[name] = done.log
    return metrics, logs


def draw_plots(metrics: dict, logs: dict[str, list[dict]], folder: Path) -> None:
    """sft.png, rewards.png and stages.png, as far as there is something to draw."""
    if "sft" in logs:
        draw_losses(logs.pop("sft"), "instruction tuning").savefig(folder / "sft.png", dpi=110)
    if logs:
        draw_rewards(logs).savefig(folder / "rewards.png", dpi=110)
    if any(name in metrics for name in STAGES):
        draw_stages(metrics).savefig(folder / "stages.png", dpi=110)


if __name__ == "__main__":
    command_line(main)
