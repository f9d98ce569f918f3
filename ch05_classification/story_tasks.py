"""Storyworld questions as classes: tasks where counting words does not help, because the order of
events decides.

    holder   who has the thing? one of 60 people, or nobody
    place    where is the thing? one of 32 places; asked in two steps (steps.py), so the people
             are classes, too
    reason   why is she happy, or sad? The name, thing or place that the reason ends with
    ending   will it end well? told up to the last event; as many happy as sad stories with the
             same words

Test stories are told about pairs of people and things that no training story has. Each task comes
with cheap rules that do without following the story.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from itertools import islice

import numpy as np
from tqdm import tqdm

from ch01_text.storyworld import Story, shortcut_answers, stories
from ch01_text.storyworld.questions import Question
from ch01_text.storyworld.story import question_lines
from ch01_text.storyworld.words import PEOPLE, PLACES, THINGS
from ch01_text.storyworld.world import World
from ch05_classification.examples import Examples, Task

TRAINING_ROWS = {"holder": 12_000, "place": 22_000, "reason": 12_000, "ending": 12_000}
# the same stories, with more questions to learn from
LEVELS = {"train": "base-drill", "val": "base", "test": "base"}
RULES = ("last mentioned", "last mover", "first mention", "same sentence")
SORTS = (
    dict.fromkeys(PEOPLE, "person")
    | dict.fromkeys(THINGS, "thing")
    | dict.fromkeys(PLACES, "place")
)
CLASSES = {
    "holder": (*PEOPLE, "nobody"),
    "place": (*PLACES, *PEOPLE, "nobody"),
    "reason": tuple(SORTS),
    "ending": ("sad", "happy"),
}
# text, class, what the cheap rules say, class to be found out first or ""
Row = tuple[str, str, dict[str, str], str]


def asked(kind: str, split: str, seed: int) -> Iterator[tuple[Story, Question, dict[str, str]]]:
    """Questions of one kind, asked at any time, and what the rules say; one a story at most where
    not for training, so that rows do not depend on each other.
    """
    for story in stories(
        split="test" if split == "test" else "train", level=LEVELS[split], seed=seed
    ):
        questions = [question for question in story.questions if question.kind == kind]
        for question in questions if split == "train" else questions[-1:]:
            yield (
                story,
                question,
                {
                    name: answer.removeprefix("the ")
                    for name, answer in shortcut_answers(story, question).items()
                    if name in RULES
                },
            )


def holder_rows(split: str, seed: int) -> Iterator[Row]:
    """Who has it?"""
    for story, question, rules in asked("who-has", split, seed):
        yield story.prompt(question), question.answer, rules, ""


def place_rows(split: str, seed: int) -> Iterator[Row]:
    """Where is it? The text asks who has it, which is to be found out first."""
    for story, question, rules in asked("where-object", split, seed):
        thing = question.about[0]
        text = f"{story.prose[: question.position]}\n{question_lines(f'Who has the {thing}?')}"
        yield (
            text,
            question.answer.removeprefix("the "),
            rules,
            story.world(question).holder(thing) or "nobody",
        )


def felt_last(story: Story) -> tuple[str, str, str, tuple[str, ...]] | None:
    """(who, the feeling, the reason, the sentences told) at the last moment when somebody feels
    something.
    """
    world, found = World(), None
    for number, event in enumerate(story.events):
        world.apply(event)
        following = (
            story.events[number + 1].sentence
            if number + 1 < len(story.events)
            else len(story.sentences)
        )
        if world.feels and following > event.sentence:
            person = max(world.feels)
            found = (
                person,
                world.feels[person].feeling,
                world.reason(person),
                story.sentences[:following],
            )
    return found


def names_in(text: str) -> list[str]:
    """People, things and places in the order in which they are named."""
    return [word for word in re.findall(r"\w+", text) if word in SORTS]


def reason_rows(split: str, seed: int) -> Iterator[Row]:
    """Why somebody feels so, all but the last name of the reason; at the last moment when it is
    so.
    """
    for story in stories(split="test" if split == "test" else "train", level="base", seed=seed):
        if found := felt_last(story):
            person, mood, reason, told = found
            last = names_in(reason)[-1]
            rivals = [
                (name, person in names)
                for names in map(names_in, told)
                for name in names
                if SORTS[name] == SORTS[last] and name != person
            ]
            mentioned = [name for name, _ in rivals]
            beside = [name for name, with_person in rivals if with_person]
            rules = {
                "last mentioned": mentioned[-1:],
                "same sentence": beside[-1:],
                "first mention": mentioned[:1],
            }
            text = (
                f"{' '.join(told)}\nQ: Why is {person} {mood}?\nA:"
                f" {reason[: reason.rindex(last)].rstrip()}"
            )
            yield text, last, {name: "".join(answer) for name, answer in rules.items()}, ""


def ending_rows(split: str, seed: int, n: int) -> Iterator[Row]:
    """Stories before their end is told. For every happy one there is a sad one that a counter of
    words rates the same, so that word counts alone are of no use.
    """
    source = stories(
        3 * n + 200, split="test" if split == "test" else "train", level="base", seed=seed
    )
    told = [(story.prose[: story.closing], story.ending, story) for story in source]
    for row in match_by_words(
        [text for text, _, _ in told], np.array([ending == "happy" for _, ending, _ in told])
    ):
        text, ending, story = told[row]
        rules = {
            "last feeling": last_feeling(story),
            "wish named at the end": wish_at_the_end(story),
        }
        yield text, ending, rules, ""


def last_feeling(story: Story) -> str:
    """The feeling told last before the end."""
    told = sum(
        story.closing >= end
        for end in np.cumsum([len(sentence) + 1 for sentence in story.sentences]) - 1
    )
    feelings = [
        event.feeling for event in story.events if event.verb == "feel" and event.sentence < told
    ]
    return feelings[-1] if feelings else ""


def wish_at_the_end(story: Story) -> str:
    """Happy where the last sentence before the end names whom or what the hero wished for."""
    wishes = [event for event in story.events if event.verb == "wish"]
    last = story.prose[: story.closing].rsplit(". ", 1)[-1]
    wanted = wishes[0].place or wishes[0].object or wishes[0].other if wishes else ""
    return "happy" if wanted in names_in(last) else "sad"


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
        "reason": lambda split: reason_rows(split, seed),
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
