"""Instruction tuning on conversations from a file, the book's among them: losses, samples, and
perhaps a judge.

Here no program knows the right answer. What is left is the loss on unseen conversations, reading
the answers, and asking another model; a small one that has read about a village answers hardly any
of them rightly.
"""

import time
from pathlib import Path

import pandas as pd

from ch01_text.run import write_atomically, write_metrics
from ch06_instruction.answering import Chat
from ch06_instruction.chat import EncodedChat, encode_chat
from ch06_instruction.conversations import (
    TEMPLATE,
    Conversation,
    book_conversations,
    read_conversations,
    split_conversations,
)
from ch06_instruction.judge import judge_answers
from ch06_instruction.leaks import leak_report
from ch06_instruction.plots import draw_losses
from ch06_instruction.sft import mean_response_loss
from ch06_instruction.stages import Course

SHOWN = 3


def encode_all(chat: Chat, conversations: list[Conversation]) -> list[EncodedChat]:
    """Conversations as ids that fit the context."""
    return [
        encode_chat(chat.tokenizer, messages, chat.model.config.context_length)
        for messages in conversations
    ]


def bare(conversation: Conversation) -> str:
    """What the user says, without the template that all the book's prompts begin with."""
    return conversation[-2]["content"].removeprefix(TEMPLATE)


def answer_all(chat: Chat, conversations: list[Conversation]) -> pd.DataFrame:
    """The model's answers beside the expected ones."""
    answers = chat.respond([messages[:-1] for messages in conversations])
    return pd.DataFrame(
        {
            "instruction": [bare(messages) for messages in conversations],
            "wanted": [messages[-1]["content"] for messages in conversations],
            "answer": answers,
        }
    )


def tune_on_file(
    course: Course, data: str, folder: Path, judge_url: str | None, judge_model: str
) -> dict:
    """Tune on `data` ("book" or a path), save and return the metrics, and say how it went."""
    everything = book_conversations() if data == "book" else read_conversations(Path(data))
    train, test, val = split_conversations(everything)
    leaks = leak_report([bare(one) for one in train], [bare(one) for one in test])
    print(
        f"{len(train):,} conversations to learn from, {len(val):,} to validate, {len(test):,} to"
        f" test; {leaks['test_affected']} of these are nearly in the training part"
    )
    base = course.base()
    parts = {
        name: encode_all(base, part)
        for name, part in (("train", train), ("val", val), ("test", test))
    }
    cut = sum(one.truncated for part in parts.values() for one in part)
    if cut:
        print(f"{cut} conversations were longer than the context and lost their beginning")

    def losses(chat: Chat) -> dict:
        return {
            f"{name}_loss": mean_response_loss(
                chat.model, part, chat.tokenizer.eot_id, chat.precision
            )
            for name, part in parts.items()
        }

    before, began = losses(base), time.perf_counter()
    done = course.sft(parts["train"], parts["val"])
    metrics = {
        "data": data,
        "base": before,
        "sft": losses(done.chat) | {"seconds": time.perf_counter() - began},
        "truncated": cut,
        "leaks": {
            name: leaks[name] for name in ("test_in_train", "test_affected", "train_repeats")
        },
    }
    table = answer_all(done.chat, test)
    if judge_url:
        table["grade"] = judge_answers(
            judge_url,
            judge_model,
            list(table["instruction"]),
            list(table["answer"]),
            list(table["wanted"]),
        )
        metrics["judged"] = {
            "mean": float(table["grade"].mean()),
            "n": int(table["grade"].notna().sum()),
        }
    write_atomically(folder / "answers-file.csv", table.to_csv(index=False))
    write_metrics(folder, metrics)
    draw_losses(done.log, f"instruction tuning on {Path(data).name}").savefig(
        folder / "sft.png", dpi=110
    )
    for name in ("base", "sft"):
        print(
            f"{name:<5} loss of a response token: "
            + ", ".join(f"{part} {metrics[name][f'{part}_loss']:.3f}" for part in parts)
        )
    for row in table.head(SHOWN).itertuples():
        print(f"\n{row.instruction}\n  wanted: {row.wanted}\n  said:   {row.answer}")
    return metrics
