"""Storyworld questions as classes: tasks where counting words does not help, because the order of
events decides.

    holder   who has the thing? one of the 24 people, or nobody
    place    where is the thing? one of the 16 places; asked in two steps (steps.py), so the people
             are classes, too
    ending   does the hero have the wanted thing in the end? The text stops before the ending is
             told; as many happy as sad stories with the same words

Test stories contain pairs of people and things that no training story has. Each task comes with
cheap rules that do without following the story.
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import islice

import numpy as np
from tqdm import tqdm

from ch01_text.storyworld import (
    NOBODY,
    Question,
    Story,
    names_in,
    question_lines,
    shortcut_answers,
    stories,
    who_has,
)
from ch01_text.storyworld.words import PEOPLE, PLACES
from ch05_classification.examples import Examples, Task

TRAINING_ROWS = {"holder": 12_000, "place": 22_000, "ending": 12_000}
CLASSES = {
    "holder": (*PEOPLE, NOBODY),
    "place": (*PLACES, *PEOPLE, NOBODY),
    "ending": ("sad", "happy"),
}
# text, class, what the cheap rules say, class to be found out first or ""
Row = tuple[str, str, dict[str, str], str]


def stories_of(split: str, seed: int, n: int | None = None) -> Iterator[Story]:
    """Stories of a split; validation stories are training stories of another seed."""
    return stories(n, split="test" if split == "test" else "train", seed=seed)


def asked(kind: str, split: str, seed: int) -> Iterator[tuple[Story, Question, dict[str, str]]]:
    """Questions of one kind, and what the rules say. All of a story are used for training, and else
    only the last one, so that rows do not depend on each other.
    """
    for story in stories_of(split, seed):
        questions = [question for question in story.questions if question.kind == kind]
        for question in questions if split == "train" else questions[-1:]:
            rules = shortcut_answers(story, question)
            yield story, question, {k: rule.removeprefix("the ") for k, rule in rules.items()}


def holder_rows(split: str, seed: int) -> Iterator[Row]:
    """Who has it?"""
    for story, question, rules in asked("who-has", split, seed):
        yield story.prompt(question), question.answer, rules, ""


def place_rows(split: str, seed: int) -> Iterator[Row]:
    """Where is it? The text asks who has it, which is to be found out first."""
    for story, question, rules in asked("where-thing", split, seed):
        thing = question.about
        text = f"{story.told(question)}\n{question_lines(who_has(thing))}"
        holder = story.world(question).holder(thing) or NOBODY
        yield text, question.answer.removeprefix("the "), rules, holder


def ending_rows(split: str, seed: int, n: int) -> Iterator[Row]:
    """Stories before their ending is told. For every happy one there is a sad one that a counter of
    words rates the same, so that word counts alone are of no use.
    """
    told = list(stories_of(split, seed, 3 * n + 200))
    texts = [" ".join(story.sentences[:-1]) for story in told]
    happy = np.array([story.ending == "happy" for story in told])
    for row in match_by_words(texts, happy):
        yield texts[row], told[row].ending, ending_rules(told[row]), ""


def ending_rules(story: Story) -> dict[str, str]:
    """Guess the ending from the names in single sentences, without following who has what.

    "last event": happy if the last event names the hero and the thing; "ever together": happy if
    any event after the wish does.
    """
    hero, wanted = story.cast.people[0], story.cast.things[0]
    wish = next(number for number, event in enumerate(story.events) if event.verb == "wish")
    together = [
        {hero, wanted} <= {*names_in(sentence)} for sentence in story.sentences[wish + 1 : -1]
    ]
    return {
        "last event": "happy" if together[-1] else "sad",
        "ever together": "happy" if any(together) else "sad",
    }


def match_by_words(texts: list[str], positive: np.ndarray, a_bin: int = 60) -> np.ndarray:
    """Row numbers, as many positive as not at every height of a bag-of-words score, in random
    order.

    The score of a text comes from logistic regression on the other half of the texts; balancing it
    is matching on a propensity score (Rosenbaum & Rubin 1983).
    """
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import cross_val_predict
    from sklearn.pipeline import make_pipeline
    from threadpoolctl import threadpool_limits

    counter = make_pipeline(TfidfVectorizer(), LogisticRegression(C=10, max_iter=200, tol=1e-3))
    with threadpool_limits(1):
        scores = cross_val_predict(counter, texts, positive, cv=2, method="decision_function")
    rng = np.random.default_rng(0)
    kept = []
    for rows in np.array_split(np.argsort(scores), max(1, len(texts) // a_bin)):
        sides = [rng.permutation(rows[positive[rows] == side]) for side in (False, True)]
        n = min(map(len, sides))
        kept += [*sides[0][:n], *sides[1][:n]]
    return rng.permutation(kept)


def story_task(
    name: str, seed: int, n_train: int | None = None, n_val: int = 600, n_test: int = 1000
) -> Task:
    """One of the tasks, told anew for each `seed`."""
    rows = {"train": n_train or TRAINING_ROWS[name], "val": n_val, "test": n_test}
    makers: dict[str, Callable[[str], Iterator[Row]]] = {
        "holder": lambda split: holder_rows(split, seed),
        "place": lambda split: place_rows(split, seed),
        "ending": lambda split: ending_rows(split, seed, rows[split]),
    }
    classes = CLASSES[name]

    def numbers(names: Sequence[str]) -> np.ndarray:
        return np.array([classes.index(one) for one in names], dtype=np.int64)

    parts, rules = {}, ()
    for number, (split, n) in enumerate(rows.items()):
        seed = 3 * seed + number  # training and validation stories differ
        found = list(
            tqdm(
                islice(makers[name](split), n),
                f"telling stories ({split})",
                n,
                disable=None,
                leave=False,
            )
        )
        texts, labels, rules, firsts = zip(*found, strict=True)
        parts[split] = Examples(
            list(texts), numbers(labels), numbers(firsts) if all(firsts) else None
        )
    shortcuts = {
        rule: np.array([classes.index(row[rule]) if row[rule] in classes else -1 for row in rules])
        for rule in rules[0]
    }
    answers = None if name == "ending" else tuple(f" {label}" for label in classes)
    return Task(
        name,
        classes,
        **parts,
        positive=1 if len(classes) == 2 else None,
        shortcuts=shortcuts,
        about_stories=True,
        answers=answers,
    )
