"""The SMS spam collection: 5,574 messages, 747 of them spam (Almeida & Hidalgo 2011).

Two tasks: the whole collection, or the book's balanced part, all spam and as many other messages.
Both are split 70/10/20 with equal messages in one split; 403 messages are exact copies of an
earlier one.
"""

import csv
from dataclasses import replace

import pandas as pd

from ch01_text import fetch
from ch05_classification.dataset import Task, fingerprint, make_task

BOOK_SEED = 123  # the book's seed for sampling the messages that are not spam


def sms_table() -> pd.DataFrame:
    """All messages: columns Label ("ham" or "spam") and Text, as the book names them."""
    return pd.read_csv(
        fetch("sms-spam"),
        sep="\t",
        header=None,
        names=["Label", "Text"],
        quoting=csv.QUOTE_NONE,
        keep_default_na=False,
    )


def create_balanced_dataset(df: pd.DataFrame) -> pd.DataFrame:
    """The book's balanced set: all spam, and as many messages that are not spam."""
    spam = df[df["Label"] == "spam"]
    ham = df[df["Label"] == "ham"].sample(len(spam), random_state=BOOK_SEED)
    return pd.concat([ham, spam])


def sms_task(balanced: bool, seed: int) -> Task:
    """The task on the whole collection, or on the book's balanced part. The messages left out of
    that part are its unlabelled texts.
    """
    everything = sms_table()
    table = create_balanced_dataset(everything) if balanced else everything
    task = make_task(
        "sms-spam-book" if balanced else "sms-spam",
        table["Text"].tolist(),
        table["Label"].tolist(),
        seed,
        positive="spam",
    )
    known = {fingerprint(text) for part in (task.train, task.val, task.test) for text in part.texts}
    others = tuple(text for text in everything["Text"] if fingerprint(text) not in known)
    return replace(task, unlabelled=others)
