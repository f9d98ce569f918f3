"""Chapter 6: teach the language model to follow instructions, then align it with preferences and
rewards; every stage is measured.
"""

import json
import time
from dataclasses import KW_ONLY, dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Literal

import pandas as pd
import torch
from tyro.conf import arg

from ch01_text.run import (
    chapter_folder,
    check_positive,
    command_line,
    write_atomically,
    write_metrics,
)
from ch03_gpt import pick_device, pick_precision
from ch06_instruction.answering import Chat
from ch06_instruction.best_of_n import best_of_n, majority_vote, pass_at_n, sample_responses
from ch06_instruction.config import DPOConfig, GRPOConfig, PPOConfig, RewardConfig, SFTConfig
from ch06_instruction.evaluation import evaluate_sampled, sampled_kl
from ch06_instruction.grading import accuracy_by, grade
from ch06_instruction.pipeline import AlignmentConfig, AlignmentPipeline, StageResult, base_chat
from ch06_instruction.plots import STAGES, draw_losses, draw_rollouts, draw_stages
from ch06_instruction.rewards import RewardFn, model_reward
from ch06_instruction.sft_from_file import sft_from_file
from ch06_instruction.storyworld_tasks import (
    Instruction,
    StoryworldData,
    evaluate_instructions,
    instructions,
    shortcut_scores,
    summarize_answers,
    with_details,
)

CHAPTER = "ch06_instruction"
TRAINED = ("sft", "dpo", "ppo", "grpo")
COLUMNS = (
    *("exact_match", "ci95_low", "ci95_high", "one_hop", "two_hop"),
    *("sampled", "kl", "words", "seconds"),
)


@dataclass(frozen=True)
class InstructionConfig:
    """What to do, and on how much data."""

    # One stage, or all: base, sft (instruction tuning), best of 8 by a reward model, dpo, ppo and
    # grpo.
    stage: Literal["sft", "reward", "dpo", "ppo", "grpo", "all"] = "all"
    # storyworld, book (the book's 1,100 instructions), or a JSON or JSONL file of conversations.
    data: str = "storyworld"
    # pretrained: the run's story model. Or a checkpoint folder, gpt2 to gpt2-xl, a Hub repository.
    start: Annotated[str, arg(name="from")] = "pretrained"
    # Storyworld conversations to tune on.
    conversations: int = 30_000
    # Unseen instructions to measure with.
    questions: int = 2000

    _: KW_ONLY

    # Pretraining texts among the conversations, as a fraction of their number.
    replay: float = 0.2
    # Pairs of a better and a worse response for the reward model.
    pairs: int = 1200
    # Questions that dpo, ppo and grpo sample responses to.
    prompts: int = 1000
    # An OpenAI-compatible endpoint that grades the answers to a file's instructions.
    judge_url: str | None = None
    # The name of the judge's model there.
    judge_model: str = "default"

    def __post_init__(self) -> None:
        check_positive(self, "conversations", "questions", "pairs", "prompts")
        if self.replay < 0:
            raise ValueError(f"--replay must be 0 (none) or more, not {self.replay}")
        if self.data != "storyworld" and self.stage not in ("sft", "all"):
            raise ValueError(
                f"--stage {self.stage} needs answers that a program can check; use --data"
                " storyworld"
            )


def main(
    config: Annotated[InstructionConfig, arg(name="")] = InstructionConfig(),
    sft: Annotated[SFTConfig, arg(name="")] = SFTConfig(),
    reward: RewardConfig = RewardConfig(),
    dpo: DPOConfig = DPOConfig(),
    ppo: PPOConfig = PPOConfig(),
    grpo: GRPOConfig = GRPOConfig(),
    *,
    run: Path = Path("runs/default"),
    seed: int = 1337,
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto",
    dtype: Literal["auto", "float32", "bfloat16"] = "auto",
) -> dict:
    """Tune the story model on instructions, then on preferences and rewards, and compare all
    stages.

    Args:
        config: What to do, and on how much data.
        sft: The recipe of instruction tuning.
        reward: The recipe of the reward model.
        dpo: The recipe of DPO.
        ppo: The recipe of PPO.
        grpo: The recipe of GRPO.
        run: Folder of the run; results go to RUN/ch06_instruction.
        seed: Seed of stories, weights and samples.
        device: Where to compute; auto prefers a GPU.
        dtype: Number format of matrix products; auto picks bfloat16 where it is fast.
    """
    began = time.perf_counter()
    precision = pick_precision(pick_device(device), dtype)
    folder = chapter_folder(run, CHAPTER)
    make_pipeline = partial(
        AlignmentPipeline,
        folder,
        partial(base_chat, config.start, Path(run), precision),
        config=AlignmentConfig(sft, reward, dpo, ppo, grpo),
        precision=precision,
        seed=seed,
    )
    if config.data != "storyworld":
        return sft_from_file(config.data, make_pipeline, config.judge_url, config.judge_model)
    n_replay = round(config.replay * config.conversations)
    data = StoryworldData(config.conversations, n_replay, config.pairs, config.prompts, seed)
    pipeline = make_pipeline(data)  # type: ignore[arg-type]  # the same parts, as properties
    metrics = run_stages(config.stage, pipeline, config.questions)
    metrics["wall_seconds"] = time.perf_counter() - began
    write_metrics(folder, metrics)
    show_answers(folder)
    show(metrics)
    return metrics


def run_stages(stage: str, pipeline: AlignmentPipeline, questions: int) -> dict:
    """Run one stage or all and measure each; metrics and plots are written after every stage.

    Metrics of earlier runs are kept, unless instruction tuning starts again.
    """
    folder, path = pipeline.folder, pipeline.folder / "metrics.json"
    tests = {
        "test": list(instructions(questions, 1)),
        "longer": list(instructions(max(1, questions // 8), 2, level="long", only="question")),
    }
    metrics: dict = {}
    if stage not in ("sft", "all") and path.is_file():
        metrics = json.loads(path.read_text(encoding="utf-8"))
    metrics |= {
        "shortcuts": shortcut_scores(tests["test"], pipeline.seed),
        "n_questions": questions,
    }
    logs: dict[str, list[dict]] = {}

    def record(name: str, done: StageResult, tuned: Chat | None) -> None:
        metrics[name] = measure(name, done, tests, tuned, folder)
        logs[name] = done.log
        write_metrics(folder, metrics)
        draw_plots(metrics, logs, folder)

    if stage in ("sft", "all"):
        record("base", StageResult(pipeline.base()), None)
        done = pipeline.sft()
        record("sft", done, done.chat)
    tuned = pipeline.sft_chat()
    if stage in ("reward", "all"):
        model, done = pipeline.reward_model()
        metrics["reward"] = done.metrics
        write_metrics(folder, metrics)
        asked = [one for one in tests["test"] if one.task == "question"][:400]
        metrics["best-of-8"] = measure_best_of_n(
            model_reward(model, tuned), tuned, asked, 8, pipeline.seed
        )
        write_metrics(folder, metrics)
    for name in ("dpo", "ppo", "grpo"):
        if stage in (name, "all"):
            record(name, getattr(pipeline, name)(), tuned)
    return metrics


def measure(
    name: str,
    stage: StageResult,
    tests: dict[str, list[Instruction]],
    tuned: Chat | None,
    folder: Path,
) -> dict:
    """The metrics of one stage; its answers are written to a table.

    `tuned` is the SFT model, from which the KL is measured; None for the base model, which has no
    chat template.
    """
    rows, responses = evaluate_instructions(stage.chat, tests["test"], pretrained=tuned is None)
    table = rows.assign(
        prompt=[one.messages[-1]["content"] for one in tests["test"]],
        wanted=[one.answer for one in tests["test"]],
        response=responses,
    )
    write_atomically(folder / f"answers-{name}.csv", table.to_csv(index=False))
    metrics = summarize_answers(rows) | {"seconds": stage.seconds, **stage.metrics}
    metrics["by_task"] = accuracy_by(rows, "task").to_dict("records")
    metrics["by_form"] = accuracy_by(rows[rows["task"] == "question"], "form").to_dict("records")
    longer, _ = evaluate_instructions(stage.chat, tests["longer"], pretrained=tuned is None)
    metrics["longer_stories"] = summarize_answers(longer)
    if tuned is not None:
        generator = torch.Generator(tuned.precision.device).manual_seed(0)
        questions = [one for one in tests["test"] if one.task == "question"]
        prompts, answers = [one.messages for one in questions], [one.answer for one in questions]
        metrics["sampled"] = evaluate_sampled(stage.chat, prompts, answers, generator)
        some = [one.messages for one in tests["test"][:128]]
        metrics["kl"] = sampled_kl(tuned.model, stage.chat, some, generator)
    return metrics


def measure_best_of_n(
    reward_fn: RewardFn, tuned: Chat, asked: list[Instruction], n: int, seed: int
) -> dict:
    """Best of n by the reward model and by majority vote, and what a perfect judge could reach."""
    prompts, answers = [one.messages for one in asked], [one.answer for one in asked]
    began = time.perf_counter()
    sampled = sample_responses(tuned, prompts, n, seed)
    seconds = time.perf_counter() - began
    best = best_of_n(reward_fn, prompts, sampled)
    voted = grade([majority_vote(group) for group in sampled], answers)
    return summarize_answers(with_details(grade(best, answers), asked, best)) | {
        "majority_vote": float(voted["exact_match"].mean()),
        "pass_at_n": pass_at_n(sampled, answers),
        "seconds": seconds,
    }


def draw_plots(metrics: dict, logs: dict[str, list[dict]], folder: Path) -> None:
    """sft.png, rewards.png and stages.png, as far as there is something to draw."""
    if "sft" in logs:
        draw_losses(logs["sft"], "instruction tuning").savefig(folder / "sft.png", dpi=110)
    rollouts: dict[str, list[dict]] = {name: logs[name] for name in ("ppo", "grpo") if name in logs}
    if rollouts:
        draw_rollouts(rollouts).savefig(folder / "rewards.png", dpi=110)
    draw_stages(metrics).savefig(folder / "stages.png", dpi=110)


def show(metrics: dict) -> None:
    """Print the table of all stages."""
    rows = []
    for name in (name for name in STAGES if name in metrics):
        row = {key: metrics[name].get(key) for key in COLUMNS}
        for key in ("one_hop", "two_hop"):
            row[key] = row[key] and row[key]["exact_match"]
        if sampled := row["sampled"]:
            row["sampled"] = (
                f"{sampled['exact_match']:.1%}"
                f" ({sampled['ci95_low']:.1%}-{sampled['ci95_high']:.1%})"
            )
        rows.append({"stage": name} | row)
    formats = dict.fromkeys(COLUMNS[:5], "{:.1%}".format)
    formats |= {"kl": "{:.2f}".format, "words": "{:.1f}".format, "seconds": "{:.0f}".format}
    print(pd.DataFrame(rows).to_string(index=False, na_rep="", formatters=formats))
    shortcuts = (f"{name} {value:.1%}" for name, value in metrics["shortcuts"].items())
    print("shortcuts: " + ", ".join(shortcuts))


def show_answers(folder: Path, n: int = 4) -> None:
    """Print a few answers of each stage that has been measured."""
    for path in (folder / f"answers-{name}.csv" for name in ("base", *TRAINED)):
        if path.is_file():
            print(f"\n{path.stem}:")
            for _, row in pd.read_csv(path, keep_default_na=False).head(n).iterrows():
                question = str(row["prompt"]).rpartition("\n")[2]
                response = str(row["response"]).replace("\n", " | ")
                print(f"  {question}\n    wanted:   {row['wanted']}\n    response: {response}")


if __name__ == "__main__":
    command_line(main)
