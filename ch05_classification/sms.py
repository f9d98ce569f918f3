"""Which text messages are spam? 5,574 of them (Almeida & Hidalgo 2011), 747 spam, by two protocols.

The whole set, or the book's: as many other messages as spam, drawn once. Both are split 70/10/20
with equal messages on one side; 403 messages are exact copies of an earlier one.
"""

import csv
from dataclasses import replace

import pandas as pd

from ch01_text import fetch
from ch05_classification.examples import Task, fingerprint, make_task

BOOK_SEED = 123  # the book's, for drawing the messages that are not spam


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
    """The book's listing: all spam, and as many others."""
    spam = df[df["Label"] == "spam"]
    ham = df[df["Label"] == "ham"].sample(len(spam), random_state=BOOK_SEED)
    return pd.concat([ham, spam])


def sms_task(balanced: bool, seed: int) -> Task:
    """The task on the whole set, or on the book's balanced part of it; messages left out there may
    still be read, their labels unseen.
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
