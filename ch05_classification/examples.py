"""Texts with labels: read from a table, and split so that no text is on both sides.

A text that occurs twice would be learned by heart from one side and recognised on the other, so
equal texts (but for case and punctuation) stay together. Nothing is fitted before the split.
"""

import io
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from ch01_text.text_datasets import read_text_file

SUFFIXES = (".csv", ".tsv", ".jsonl")
FOLDS = 10  # a split is made of tenths


@dataclass(frozen=True)
class Examples:
    """Texts and the numbers of their classes, row by row; `first`, where there is something to be
    found out before (steps.py), the number of that class.
    """

    texts: list[str]
    labels: np.ndarray  # (n,) int64
    first: np.ndarray | None = None  # (n,) int64

    def __len__(self) -> int:
        return len(self.texts)

    def take(self, rows: Sequence[int] | np.ndarray) -> "Examples":
        """These rows, in this order."""
        return Examples(
            [self.texts[row] for row in rows],
            self.labels[rows],
            None if self.first is None else self.first[rows],
        )


@dataclass(frozen=True)
class Task:
    """What is to be told apart: names of the classes, and examples for training, validation and
    test.

    `positive`: the class that F1, the ROC curve and a threshold are about; None where there are
        more than two.
    `shortcuts`: what cheap rules answer on the test rows (class numbers; -1: nothing). `notes`:
    what was counted on the way. `about_stories`: whether chapter 4's story model is the one to
    begin with. `answers`: how a language model would begin to write each class, where the texts end
    in a question. `unlabelled`: more texts of the same kind.
    """

    name: str
    classes: tuple[str, ...]
    train: Examples
    val: Examples
    test: Examples
    positive: int | None = None
    shortcuts: dict[str, np.ndarray] = field(default_factory=dict)
    notes: dict[str, int] = field(default_factory=dict)
    about_stories: bool = False
    unlabelled: tuple[str, ...] = ()
    answers: tuple[str, ...] | None = None

    @property
    def keep(self) -> str:
        """Which tokens stay of a text that is longer than the context: of a story, with the
        question at its end, the "last" ones, else the "first".
        """
        return "last" if self.about_stories else "first"


def fingerprint(text: str) -> str:
    """What makes two texts the same: their words, whatever the case and the punctuation.

    >>> fingerprint("WINNER!! Call  now.") == fingerprint("winner, call now")
    True
    """
    return " ".join(re.findall(r"\w+", text.lower())) or text.strip()


def group_duplicates(texts: Sequence[str]) -> tuple[np.ndarray, int]:
    """The number of each text's group of equal ones (n,), and how many texts repeat an earlier
    one.
    """
    groups = pd.factorize(pd.Series(list(map(fingerprint, texts)), dtype=object))[0]
    return groups, len(texts) - len(set(groups.tolist()))


def split_rows(examples: Examples, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Row numbers for training (seven tenths), validation (one) and test (two), the classes in
    about the same proportions in each and equal texts together. ValueError where a class has too
    few rows.
    """
    from sklearn.model_selection import StratifiedGroupKFold

    groups, _ = group_duplicates(examples.texts)
    for label in np.unique(examples.labels):
        n = len(np.unique(groups[examples.labels == label]))
        if n < FOLDS:
            raise ValueError(
                f"a class has {n} different texts only; give every class at least {FOLDS}"
            )
    folds = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=seed)
    parts = [rows for _, rows in folds.split(np.zeros(len(examples)), examples.labels, groups)]
    return np.sort(np.concatenate(parts[3:])), parts[2], np.sort(np.concatenate(parts[:2]))


def read_table(path: Path, text_column: str, label_column: str) -> tuple[list[str], list[str]]:
    """Texts and labels of a CSV, TSV or JSONL file (UTF-8).

    ValueError where a column is missing, a text or a label is empty, or the file cannot be read.
    """
    if path.suffix not in SUFFIXES:
        raise ValueError(f"{path} is none of {', '.join(SUFFIXES)}; rename it, or convert it")
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
    except ValueError as error:  # pandas' own errors are among them
        raise ValueError(f"{path} cannot be read as {path.suffix[1:].upper()} ({error})") from error
    for flag, column in (("--text-column", text_column), ("--label-column", label_column)):
        if column not in table:
            raise ValueError(
                f"{path} has no column {column!r}, but {', '.join(map(repr, table.columns))}; "
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
                "fill them in or take them out"
            )
        columns.append(values)
    return columns[0], columns[1]


def number_labels(labels: Sequence[str], classes: Sequence[str], where: str) -> np.ndarray:
    """Labels -> class numbers (n,); ValueError where one is none of `classes`."""
    numbers = {name: number for number, name in enumerate(classes)}
    if unknown := sorted(set(labels) - set(numbers)):
        raise ValueError(
            f"{where} has the label {unknown[0]!r}, which training has no row of; "
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
    """Split labelled texts into a task; `test`, where given, are other rows to test on.

    Of two classes the rarer one is `positive`, unless named. ValueError where there is one class
    only.
    """
    counts = Counter(labels)
    if len(counts) < 2:
        raise ValueError(
            f"all rows have the label {labels[0]!r}; a classifier needs at least two classes"
        )
    classes = tuple(sorted(counts))
    examples = Examples(texts, number_labels(labels, classes, "the table"))
    training, validation, testing = split_rows(examples, seed)
    parts = [examples.take(rows) for rows in (training, validation, testing)]
    notes = {"rows": len(texts), "repeated texts": group_duplicates(texts)[1]}
    if test is not None:
        parts[0] = examples.take(np.sort(np.concatenate((training, testing))))
        known = set(map(fingerprint, texts))
        parts[2] = Examples(test[0], number_labels(test[1], classes, "the test table"))
        notes["test texts that training has, too"] = sum(
            fingerprint(text) in known for text in test[0]
        )
    if len(classes) == 2 and positive is None:
        positive = min(classes, key=lambda label: counts[label])
    return Task(
        name, classes, *parts, positive=classes.index(positive) if positive else None, notes=notes
    )
