"""Instruction tuning on conversations from a file, such as the book's: losses, samples, perhaps a
judge.

No program knows the right answers here. What is left is the loss on unseen conversations, reading
the responses, and asking another model. A small model that has only read about a village can answer
hardly any of them.
"""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from ch01_text.run import write_atomically, write_metrics
from ch06_instruction.answering import Chat
from ch06_instruction.chat import Conversation
from ch06_instruction.chat_datasets import (
    TEMPLATE,
    book_conversations,
    read_conversations,
    split_conversations,
)
from ch06_instruction.contamination import contamination_report
from ch06_instruction.judge import judge_answers
from ch06_instruction.pipeline import AlignmentData, AlignmentPipeline, encode_all
from ch06_instruction.plots import draw_losses
from ch06_instruction.sft import mean_response_loss

SHOWN = 3  # responses to print


def last_instruction(conversation: Conversation) -> str:
    """The last user message, without the template that all of the book's prompts share."""
    return conversation[-2]["content"].removeprefix(TEMPLATE)


def answer_all(chat: Chat, conversations: Sequence[Conversation]) -> pd.DataFrame:
    """The model's responses beside the expected ones."""
    return pd.DataFrame(
        {
            "instruction": [*map(last_instruction, conversations)],
            "wanted": [messages[-1]["content"] for messages in conversations],
            "answer": chat.respond([messages[:-1] for messages in conversations]),
        }
    )


def check_contamination(train: Sequence[Conversation], test: Sequence[Conversation]) -> dict:
    """Count test instructions that are in the training part, and say so."""
    report = contamination_report([*map(last_instruction, train)], [*map(last_instruction, test)])
    print(
        f"{len(train):,} conversations to learn from, {len(test):,} to test;"
        f" {report['test_affected']} of these are nearly in the training part"
    )
    return {name: report[name] for name in ("test_in_train", "test_affected", "train_repeats")}


def grade_by_judge(table: pd.DataFrame, url: str, model: str) -> dict:
    """Add the judge's grades to the table; return their mean and number."""
    table["grade"] = judge_answers(
        url, model, list(table["instruction"]), list(table["answer"]), list(table["wanted"])
    )
    return {"mean": float(table["grade"].mean()), "n": int(table["grade"].notna().sum())}


def sft_from_file(
    data: str,
    make_pipeline: Callable[[AlignmentData], AlignmentPipeline],
    judge_url: str | None = None,
    judge_model: str = "default",
) -> dict:
    """Tune on `data` ("book" or a path); save, print and return the metrics."""
    conversations = book_conversations() if data == "book" else read_conversations(Path(data))
    train, test, val = split_conversations(conversations)
    pipeline = make_pipeline(AlignmentData(conversations=train, validation=val))
    metrics: dict[str, Any] = {"data": data, "contamination": check_contamination(train, test)}
    base = pipeline.base()
    parts = {
        name: encode_all(base, part)
        for name, part in (("train", train), ("val", val), ("test", test))
    }
    metrics["truncated"] = sum(one.truncated for part in parts.values() for one in part)
    if metrics["truncated"]:
        print(f"{metrics['truncated']} conversations exceed the context and lose their beginning")

    def losses(chat: Chat) -> dict:
        return {
            f"{name}_loss": mean_response_loss(
                chat.model, part, chat.tokenizer.eot_id, chat.precision
            )
            for name, part in parts.items()
        }

    metrics["base"] = losses(base)
    began = time.perf_counter()
    done = pipeline.sft()
    metrics["sft"] = losses(done.chat) | {"seconds": time.perf_counter() - began}
    table = answer_all(done.chat, test)
    if judge_url:
        metrics["judged"] = grade_by_judge(table, judge_url, judge_model)
    write_atomically(pipeline.folder / "answers-file.csv", table.to_csv(index=False))
    write_metrics(pipeline.folder, metrics)
    draw_losses(done.log, f"instruction tuning on {Path(data).name}").savefig(
        pipeline.folder / "sft.png", dpi=110
    )
    show(metrics, table)
    return metrics


def show(metrics: dict, table: pd.DataFrame) -> None:
    """Print the losses before and after, and a few responses."""
    for name in ("base", "sft"):
        losses = {part: metrics[name][f"{part}_loss"] for part in ("train", "val", "test")}
        print(
            f"{name:<5} loss per response token: "
            + ", ".join(f"{part} {loss:.3f}" for part, loss in losses.items())
        )
    for row in table.head(SHOWN).itertuples():
        print(f"\n{row.instruction}\n  wanted:   {row.wanted}\n  response: {row.answer}")
