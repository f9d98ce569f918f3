"""Labelled texts: read from a table, and split so that no text is on both sides.

A classifier memorises a text that it was trained on and recognises a copy in the test set. Equal
texts (up to case and punctuation) therefore stay in one split. Nothing is fitted before the split.
"""

import io
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from ch01_text.text_datasets import read_text_file

SUFFIXES = (".csv", ".tsv", ".jsonl")
FOLDS = 10  # the splits are made of tenths
FollowUp = Callable[[str, str], str]  # (text, answer of the first hop) -> text of the second hop


@dataclass(frozen=True)
class LabelledTexts:
    """Texts and their class numbers, row by row."""

    texts: list[str]
    labels: np.ndarray  # (n,) int64
    first_hop: np.ndarray | None = None  # (n,) int64; in a two-hop task, the class of the first hop

    def __len__(self) -> int:
        return len(self.texts)

    def take(self, rows: Sequence[int] | np.ndarray) -> "LabelledTexts":
        """These rows, in this order."""
        return LabelledTexts(
            [self.texts[row] for row in rows],
            self.labels[rows],
            None if self.first_hop is None else self.first_hop[rows],
        )


@dataclass(frozen=True)
class Task:
    """A classification data set: class names and its three splits."""

    name: str
    classes: tuple[str, ...]
    train: LabelledTexts
    val: LabelledTexts
    test: LabelledTexts
    # the class that F1, the ROC curve and a threshold refer to; None: there are more than two
    positive: int | None = None
    keep: str = "first"  # which end of a text that exceeds the context length is kept, or "last"
    epochs: float = 6.0  # passes over the training rows that suit their number
    # whether the run's language model was pretrained on texts of this kind
    in_domain: bool = False
    unlabelled: tuple[str, ...] = ()  # further texts of this kind, to pretrain on
    # for each class, how a language model would begin to write it after the text
    verbalizers: tuple[str, ...] | None = None
    follow_up: FollowUp | None = None  # of a two-hop task
    # what cheap rules predict for the test rows: (n_test,) class numbers, -1 for no prediction
    shortcuts: dict[str, np.ndarray] = field(default_factory=dict)
    notes: dict[str, int] = field(default_factory=dict)  # counts to report: rows, duplicates


def fingerprint(text: str) -> str:
    """The words of a text without case and punctuation: equal for texts that count as copies.

    >>> fingerprint("WINNER!! Call  now.") == fingerprint("winner, call now")
    True
    """
    return " ".join(re.findall(r"\w+", text.lower())) or text.strip()


def group_duplicates(texts: Sequence[str]) -> tuple[np.ndarray, int]:
    """Group numbers (n,), the same for equal texts, and how many texts repeat an earlier one."""
    groups = pd.factorize(pd.Series(list(map(fingerprint, texts)), dtype=object))[0]
    return groups, len(texts) - len(set(groups.tolist()))


def split_rows(data: LabelledTexts, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Row numbers for training (70 %), validation (10 %) and test (20 %). The classes have about
    the same proportions in each, and equal texts stay together. ValueError if a class has too few
    rows.
    """
    from sklearn.model_selection import StratifiedGroupKFold

    groups, _ = group_duplicates(data.texts)
    for label in np.unique(data.labels):
        n = len(np.unique(groups[data.labels == label]))
        if n < FOLDS:
            raise ValueError(
                f"a class has only {n} different texts; give every class at least {FOLDS}"
            )
    folds = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=seed)
    parts = [rows for _, rows in folds.split(np.zeros(len(data)), data.labels, groups)]
    return np.sort(np.concatenate(parts[3:])), parts[2], np.sort(np.concatenate(parts[:2]))


def read_table(path: Path, text_column: str, label_column: str) -> tuple[list[str], list[str]]:
    """Texts and labels of a CSV, TSV or JSONL file (UTF-8).

    ValueError if a column is missing, a text or a label is empty, or the file cannot be read.
    """
    if path.suffix not in SUFFIXES:
        raise ValueError(f"{path} is not a {', '.join(SUFFIXES)} file; rename or convert it")
    content = io.StringIO(read_text_file(path))
    try:
        if path.suffix == ".jsonl":
            table = pd.read_json(content, lines=True, dtype=False)
        else:
            table = pd.read_csv(
                content,
                sep="\t" if path.suffix == ".tsv" else ",",
                dtype=str,
                keep_default_na=False,
            )
    except ValueError as error:  # pandas' own errors are ValueErrors
        raise ValueError(f"{path} cannot be read as {path.suffix[1:].upper()} ({error})") from error
    for flag, column in (("--text-column", text_column), ("--label-column", label_column)):
        if column not in table:
            raise ValueError(
                f"{path} has no column {column!r}, only {', '.join(map(repr, table.columns))}; "
                f"name the right one with {flag}"
            )
    columns = []
    for column, what in ((text_column, "text"), (label_column, "label")):
        values = [
            "" if value is None or value != value else str(value).strip() for value in table[column]
        ]
        if empty := [row for row, value in enumerate(values) if not value]:
            raise ValueError(
                f"{len(empty)} rows of {path} have no {what} (the first: row {empty[0] + 1}); "
                "fill them in or remove them"
            )
        columns.append(values)
    return columns[0], columns[1]


def number_labels(labels: Sequence[str], classes: Sequence[str], where: str) -> np.ndarray:
    """Labels -> class numbers (n,); ValueError if one is not among `classes`."""
    numbers = {name: number for number, name in enumerate(classes)}
    if unknown := sorted(set(labels) - set(numbers)):
        raise ValueError(
            f"{where} has the label {unknown[0]!r}, which no training row has; "
            f"known are {', '.join(map(repr, classes))}"
        )
    return np.array([numbers[label] for label in labels], dtype=np.int64)


def make_task(
    name: str,
    texts: list[str],
    labels: list[str],
    seed: int,
    test: tuple[list[str], list[str]] | None = None,
    positive: str | None = None,
) -> Task:
    """Split labelled texts into a task, or test on the texts and labels of `test`, if given.

    Of two classes the rarer one is `positive`, unless named. ValueError if there is only one class.
    """
    counts = Counter(labels)
    if len(counts) < 2:
        raise ValueError(
            f"all rows have the label {labels[0]!r}; a classifier needs at least two classes"
        )
    classes = tuple(sorted(counts))
    data = LabelledTexts(texts, number_labels(labels, classes, "the table"))
    training, validation, testing = split_rows(data, seed)
    train_part, val_part, test_part = map(data.take, (training, validation, testing))
    notes = {"rows": len(texts), "repeated texts": group_duplicates(texts)[1]}
    if test is not None:
        train_part = data.take(np.sort(np.concatenate((training, testing))))
        known = set(map(fingerprint, texts))
        test_part = LabelledTexts(test[0], number_labels(test[1], classes, "the test table"))
        notes["test texts also in the training table"] = sum(
            fingerprint(text) in known for text in test[0]
        )
    if len(classes) == 2 and positive is None:
        positive = min(classes, key=lambda label: counts[label])
    return Task(
        name,
        classes,
        train_part,
        val_part,
        test_part,
        positive=classes.index(positive) if positive else None,
        notes=notes,
    )
