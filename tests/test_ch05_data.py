"""Labelled texts: tables, splits, messages, story tasks. Oracles: counts by hand, brute force,
the world itself.
"""

import json
import os
from random import Random

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from ch01_text import CharTokenizer, fetch
from ch01_text.storyworld import Cast, Event, Story, stories
from ch01_text.storyworld.phrases import tell
from ch05_classification import (
    LabelledTexts,
    Task,
    create_balanced_dataset,
    fit_baselines,
    group_duplicates,
    make_task,
    random_split,
    read_table,
    sms_table,
    sms_task,
    split_rows,
    tokenize,
)
from ch05_classification.dataset import fingerprint
from ch05_classification.story_tasks import ending_shortcuts, match_by_words, story_task

needs_messages = pytest.mark.skipif(
    not os.environ.get("LLM_COMPANION_DATA"),
    reason="LLM_COMPANION_DATA does not name the folder of SMSSpamCollection",
)


@given(st.lists(st.integers(0, 40), min_size=60, max_size=200), st.integers(0, 5))
@settings(max_examples=25, deadline=None)
def test_a_split_keeps_equal_texts_together_and_loses_none(numbers, seed):
    texts = [f"Text {number}{'!' * (row % 3)}" for row, number in enumerate(numbers)] + [
        f"a{i}" for i in range(20)
    ]
    labels = np.array([number % 2 for number in numbers] + [0] * 10 + [1] * 10)
    if (
        min(
            len({t for t, y in zip(map(fingerprint, texts), labels, strict=True) if y == side})
            for side in (0, 1)
        )
        < 10
    ):
        return
    parts = split_rows(LabelledTexts(texts, labels), seed)
    assert sorted(np.concatenate(parts).tolist()) == list(range(len(texts)))
    sides = [{fingerprint(texts[row]) for row in part} for part in parts]
    assert not (sides[0] & sides[1] or sides[0] & sides[2] or sides[1] & sides[2])


def test_a_split_has_the_promised_shares_and_proportions():
    labels = np.array([0] * 900 + [1] * 100)
    parts = split_rows(LabelledTexts([f"text {i}" for i in range(1000)], labels), 0)
    assert [len(part) for part in parts] == [700, 100, 200]
    assert [int(labels[part].sum()) for part in parts] == [70, 10, 20]
    assert not np.array_equal(
        parts[2], split_rows(LabelledTexts([f"text {i}" for i in range(1000)], labels), 1)[2]
    )


def test_equal_texts_are_counted():
    groups, n = group_duplicates(["WIN a prize!", "win a  prize", "No.", "no", "!!", "??"])
    assert groups.tolist() == [0, 0, 1, 1, 2, 3]
    assert n == 2


ROWS = [
    {
        "text": f"message {i}, {'buy now' if i % 3 else 'see you'}",
        "label": ("ad", "friend")[i % 3 == 0],
    }
    for i in range(60)
]


@pytest.fixture(params=["csv", "tsv", "jsonl"])
def table(request, tmp_path):
    path = tmp_path / f"table.{request.param}"
    frame = pd.DataFrame(ROWS)
    if request.param == "jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in ROWS), encoding="utf-8")
    else:
        frame.to_csv(path, sep="\t" if request.param == "tsv" else ",", index=False)
    return path


def test_tables_are_read_as_they_were_written(table):
    texts, labels = read_table(table, "text", "label")
    assert texts == [row["text"] for row in ROWS]
    assert labels == [row["label"] for row in ROWS]


def test_a_missing_column_is_named(table):
    with pytest.raises(
        ValueError, match=r"no column 'body', only 'text', 'label'; .* with --text-column"
    ):
        read_table(table, "body", "label")
    with pytest.raises(ValueError, match="name the right one with --label-column"):
        read_table(table, "text", "class")


@pytest.mark.parametrize(
    ("content", "name", "words"),
    [
        (
            "text,label\nhello,\nbye,a\n",
            "a.csv",
            r"1 rows of .*a.csv have no label \(the first: row 1\)",
        ),
        (
            "text,label\nhi,a\n  ,a\n",
            "a.csv",
            r"1 rows of .*a.csv have no text \(the first: row 2\)",
        ),
        ('{"text": "a", "label": null}\n', "a.jsonl", "have no label"),
        ("{broken\n", "a.jsonl", "cannot be read as JSONL"),
        ('text,label\n"a,b\n', "a.csv", "cannot be read as CSV"),
        ("", "a.csv", "is empty"),
        ("x", "a.parquet", "is not a .csv, .tsv, .jsonl file"),
    ],
)
def test_bad_tables_are_refused(tmp_path, content, name, words):
    (tmp_path / name).write_text(content, encoding="utf-8")
    with pytest.raises(ValueError, match=words):
        read_table(tmp_path / name, "text", "label")


def test_a_table_that_is_not_utf8_is_refused(tmp_path):
    (tmp_path / "a.csv").write_bytes("text,label\ncafé,a\n".encode("latin-1"))
    with pytest.raises(ValueError, match="not UTF-8"):
        read_table(tmp_path / "a.csv", "text", "label")


def test_numbers_are_labels_too(tmp_path):
    lines = "".join(json.dumps({"text": f"t{i}", "label": i % 3}) + "\n" for i in range(90))
    (tmp_path / "a.jsonl").write_text(lines, encoding="utf-8")
    task = make_task("a", *read_table(tmp_path / "a.jsonl", "text", "label"), 0)
    assert task.classes == ("0", "1", "2")
    assert task.positive is None


def test_the_rarer_class_is_positive_unless_named():
    texts, labels = [row["text"] for row in ROWS], [row["label"] for row in ROWS]
    assert make_task("a", texts, labels, 0).positive == 1  # 20 of "friend"
    assert make_task("a", texts, labels, 0, positive="ad").positive == 0


def test_another_test_table_takes_the_place_of_the_test_part():
    texts, labels = [row["text"] for row in ROWS], [row["label"] for row in ROWS]
    task = make_task("a", texts, labels, 0, test=(["hello", texts[0]], ["friend", "ad"]))
    assert task.test.texts == ["hello", texts[0]]
    assert len(task.train) + len(task.val) == 60
    assert task.notes["test texts also in the training table"] == 1
    with pytest.raises(
        ValueError, match="label 'foe', which no training row has; known are 'ad', 'friend'"
    ):
        make_task("a", texts, labels, 0, test=(["hello"], ["foe"]))


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        (["a"] * 60, "needs at least two classes"),
        (["a"] * 55 + ["b"] * 5, "only 5 different texts"),
    ],
)
def test_tasks_without_enough_to_learn_are_refused(labels, words):
    with pytest.raises(ValueError, match=words):
        make_task("a", [f"t{i}" for i in range(60)], labels, 0)


@pytest.mark.parametrize(("keep", "expected"), [("first", "abc"), ("last", "cde")])
def test_long_texts_are_cut_and_counted(keep, expected):
    tokenizer = CharTokenizer.train("abcde")
    encoded = tokenize(tokenizer, LabelledTexts(["abcde", "ab"], np.array([0, 1])), 4, keep)
    assert encoded.rows[0][0] == tokenizer.eot_id
    assert tokenizer.decode(encoded.rows[0][1:]) == expected
    assert encoded.n_truncated == 1
    with pytest.raises(ValueError, match="a text is empty"):
        tokenize(tokenizer, LabelledTexts([" "], np.array([0])), 4)


@needs_messages
def test_messages_are_what_the_file_says():
    """Oracle: the file's lines, cut at the tab."""
    lines = fetch("sms-spam").read_text(encoding="utf-8").splitlines()
    table = sms_table()
    assert [
        f"{label}\t{text}" for label, text in zip(table["Label"], table["Text"], strict=True)
    ] == lines
    assert table["Text"].duplicated().sum() == 403
    assert (table["Label"] == "spam").sum() == 747


@pytest.fixture(scope="module")
def messages() -> Task:
    """All messages, split once for both tests."""
    return sms_task(False, 0)


@needs_messages
def test_both_protocols_keep_equal_messages_on_one_side(messages):
    for balanced, sizes in ((False, (3900, 558, 1116)), (True, (1044, 150, 300))):
        task = sms_task(True, 0) if balanced else messages
        assert tuple(map(len, (task.train, task.val, task.test))) == sizes
        assert task.classes[task.positive] == "spam"
        sides = [set(map(fingerprint, part.texts)) for part in (task.train, task.val, task.test)]
        assert not (sides[0] & sides[1] or sides[0] & sides[2] or sides[1] & sides[2])
        assert task.notes["repeated texts"] > 100
        assert not set(map(fingerprint, task.unlabelled)) & set.union(*sides)
        assert bool(task.unlabelled) is balanced


@needs_messages
def test_the_books_split_leaks_and_has_its_sizes():
    table = create_balanced_dataset(sms_table())
    assert table["Label"].value_counts().to_dict() == {"ham": 747, "spam": 747}
    parts = random_split(table, 0.7, 0.1)
    assert [len(part) for part in parts] == [1045, 149, 300]
    assert set(parts[0]["Text"]) & set(parts[2]["Text"])


@needs_messages
def test_the_baselines_are_as_good_as_published(messages):
    """A TF-IDF logistic regression should be near 97 to 98 % here, and everything above the
    majority.
    """
    right = {b.name: b.predicted == messages.test.labels for b in fit_baselines(messages)}
    accuracy = {name: values.mean() for name, values in right.items()}
    assert accuracy["majority"] == pytest.approx(0.8656, abs=1e-3)
    assert all(
        accuracy[name] > 0.975 for name in ("naive Bayes", "TF-IDF words", "TF-IDF characters")
    )


SMALL = 150, 30, 60  # rows to learn from, to validate, to test


@pytest.mark.parametrize("name", ["holder", "place", "ending"])
def test_story_tasks(name):
    task = story_task(name, 0, *SMALL)
    assert [len(task.train), len(task.val), len(task.test)] == [150, 30, 60]
    assert task.keep == "last"
    assert task.in_domain
    again = story_task(name, 0, *SMALL)
    assert again.test.texts == task.test.texts
    assert (again.test.labels == task.test.labels).all()
    assert not set(task.train.texts) & {*task.val.texts, *task.test.texts}
    assert all(len(answers) == 60 for answers in task.shortcuts.values())
    assert all(text.rsplit("\nA:", 1)[1] == "" for text in task.test.texts)
    if name != "ending":
        said = [task.classes[label] for label in task.test.labels]
        told = sum(
            word in text
            for word, text in zip(said, task.test.texts, strict=True)
            if word != "nobody"
        )
        assert told == sum(word != "nobody" for word in said)  # every answer is in its story


def test_an_ending_is_what_the_world_says_and_its_shortcuts_read_single_sentences():
    """Oracles: the state of the world after the last event, and two stories told by hand."""
    told = {" ".join(story.sentences[:-1]): story for story in stories(400, seed=0)}
    task = story_task("ending", 0, 60, 20, 20)
    for text, label in zip(task.train.texts, task.train.labels, strict=True):
        prose, asked = text.split("\n", 1)
        story = told[prose]
        assert asked == f"Q: Is {story.cast.people[0]} happy?\nA:"
        holders = {story.world().holder(thing) for thing in story.cast.things}
        assert (story.cast.people[0] in holders) == (task.classes[label] == "happy")

    def guesses(*events: Event) -> list[str]:
        events = (Event("wish", "Tom"), *events, Event("sad", "Tom"))
        sentences = [tell(Random(0), event) for event in events]
        cast = Cast(("Tom", "Mia"), "Ben", ("kite",), ("mill",))
        story = Story(tuple(sentences), events, (), cast, "sad", "base", "train")
        return list(ending_shortcuts(story).values())

    own, gift = Event("own", "Tom", "kite"), Event("give", "Tom", "kite", other="Mia")
    back, walk = Event("give", "Mia", "kite", other="Tom"), Event("move", "Tom", place="mill")
    assert guesses(own, gift) == guesses(own, walk) == ["sad", "happy"]
    assert guesses(own, gift, back) == ["happy", "happy"]
    assert guesses(walk) == ["sad", "sad"]


def test_matching_takes_the_words_their_use():
    """Texts whose words give the label away 80 % of the time: of matched rows, a fresh counter
    makes no more than chance would (up to sampling).
    """
    generator = np.random.default_rng(0)
    positive = generator.random(4000) < 0.5
    hints = np.where(generator.random(4000) < 0.8, positive, ~positive)
    texts = [
        f"{'good' if hint else 'bad'} word{generator.integers(50)} word{generator.integers(50)}"
        for hint in hints
    ]
    rows = match_by_words(texts, positive)
    assert positive[rows].mean() == pytest.approx(0.5, abs=1e-9)
    assert len(rows) > 1000
    counter = make_pipeline(CountVectorizer(), LogisticRegression())
    half = len(rows) // 2
    fitted = counter.fit([texts[row] for row in rows[:half]], positive[rows[:half]])
    assert fitted.score([texts[row] for row in rows[half:]], positive[rows[half:]]) < 0.55
