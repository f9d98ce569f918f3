"""Storyworld questions as classification tasks in which the order of events decides, so that
counting words does not help.

    holder   Who has the thing? One of 20 people, or nobody.
    place    Where is the thing? One of 14 places. A two-hop task whose first hop asks who has it,
             so the people are classes, too.
    ending   Is the hero happy? The story without its last sentence; as many happy as sad stories
             with the same words.

Test stories contain pairs of people and things that no training story has. Each task comes with
shortcuts: cheap rules that do not follow the story.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from itertools import islice

import numpy as np
from tqdm import tqdm

from ch01_text.storyworld import (
    NOBODY,
    Question,
    Story,
    question_lines,
    shortcut_answers,
    stories,
    where_is,
    who_has,
)
from ch01_text.storyworld.words import PEOPLE, PLACES
from ch05_classification.dataset import FollowUp, LabelledTexts, Task

TRAINING_ROWS = {"holder": 12_000, "place": 22_000, "ending": 12_000}
EPOCHS = {"holder": 2, "place": 1, "ending": 2}
CLASSES = {
    "holder": (*PEOPLE, NOBODY),
    "place": (*PLACES, *PEOPLE, NOBODY),
    "ending": ("sad", "happy"),
}
# text, class, prediction of each shortcut, class of the first hop or ""
Row = tuple[str, str, dict[str, str], str]


def ask_for_the_place(text: str, holder: str) -> str:
    """The second hop of `place`: a text that ends in "Q: Who has the ring?", "A:" -> the same with
    that answer and the next question.

    >>> ask_for_the_place("Q: Who has the ring?\\nA:", "Tom")
    'Q: Who has the ring?\\nA: Tom\\nQ: Where is Tom?\\nA: the'
    >>> ask_for_the_place("Q: Who has the ring?\\nA:", "nobody")
    'Q: Who has the ring?\\nA: nobody\\nQ: Where is the ring?\\nA: the'
    """
    thing = re.findall(r"Who has the (\w+)\?", text)[-1:]
    if not thing:
        raise ValueError(
            f"the text must end in a question like 'Q: Who has the ring?', not in {text[-20:]!r}"
        )
    follow_up = where_is(holder if holder in PEOPLE else thing[0])
    return f"{text} {holder}\n{question_lines(follow_up)} the"


FOLLOW_UPS: dict[str, FollowUp] = {"place": ask_for_the_place}  # of the two-hop tasks


def stories_of(split: str, seed: int, n: int | None = None) -> Iterator[Story]:
    """Stories of a split. Those for validation are training stories of another seed."""
    return stories(n, split="test" if split == "test" else "train", seed=seed)


def questions_of(
    kind: str, split: str, seed: int
) -> Iterator[tuple[Story, Question, dict[str, str]]]:
    """Questions of one kind with the shortcuts' answers. Outside training only the last one of each
    story is used, so that the rows are independent.
    """
    for story in stories_of(split, seed):
        questions = [question for question in story.questions if question.kind == kind]
        for question in questions if split == "train" else questions[-1:]:
            answers = shortcut_answers(story, question)
            yield story, question, {rule: a.removeprefix("the ") for rule, a in answers.items()}


def holder_rows(split: str, seed: int) -> Iterator[Row]:
    """Who has it?"""
    for story, question, shortcuts in questions_of("who-has", split, seed):
        yield story.prompt(question), question.answer, shortcuts, ""


def place_rows(split: str, seed: int) -> Iterator[Row]:
    """Where is it? The text asks who has it, the first hop."""
    for story, question, shortcuts in questions_of("where-thing", split, seed):
        thing = question.about
        text = f"{story.told(question)}\n{question_lines(who_has(thing))}"
        holder = story.world(question).holder(thing) or NOBODY
        yield text, question.answer.removeprefix("the "), shortcuts, holder


def ending_rows(split: str, seed: int, n: int) -> Iterator[Row]:
    """Does it end well? It does if the hero has something in the end. The text is the story without
    its last sentence, and a question in the stories' form. For each happy story there is a sad one
    that a bag-of-words model scores the same, so that word counts alone are of no use.
    """
    candidates = list(stories_of(split, seed, 3 * n + 200))
    texts = [
        " ".join(story.sentences[:-1]) + "\n" + question_lines(f"Is {story.cast.people[0]} happy?")
        for story in candidates
    ]
    happy = np.array([story.ending == "happy" for story in candidates])
    for row in match_by_words(texts, happy):
        yield texts[row], candidates[row].ending, ending_shortcuts(candidates[row]), ""


def ending_shortcuts(story: Story) -> dict[str, str]:
    """Guess the ending from single events, without following who has what.

    "last event": happy if the hero gets something in it; "ever gets something": happy if the hero
    gets something in any event.
    """
    hero = story.cast.people[0]
    gets = [
        event.other == hero or (event.verb in ("own", "take") and event.actor == hero)
        for event in story.events[:-1]
    ]
    return {
        "last event": "happy" if gets[-1] else "sad",
        "ever gets something": "happy" if any(gets) else "sad",
    }


def match_by_words(texts: list[str], positive: np.ndarray, bin_size: int = 60) -> np.ndarray:
    """Row numbers in random order, with as many positive as negative texts in each bin of a
    bag-of-words score.

    Logistic regression on the other half of the texts gives a text its score; balancing it is
    propensity-score matching (Rosenbaum & Rubin 1983).
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
    for rows in np.array_split(np.argsort(scores), max(1, len(texts) // bin_size)):
        sides = [rng.permutation(rows[positive[rows] == side]) for side in (False, True)]
        n = min(map(len, sides))
        kept += [*sides[0][:n], *sides[1][:n]]
    return rng.permutation(kept)


def class_numbers(answers: Sequence[str], name: str) -> np.ndarray:
    """Answers -> class numbers of a task (n,), -1 for an answer that is no class."""
    numbers = {label: number for number, label in enumerate(CLASSES[name])}
    return np.array([numbers.get(answer, -1) for answer in answers], dtype=np.int64)


def story_task(
    name: str, seed: int, n_train: int | None = None, n_val: int = 600, n_test: int = 1000
) -> Task:
    """One of the three tasks, with stories written for this `seed`."""
    n_rows = {"train": n_train or TRAINING_ROWS[name], "val": n_val, "test": n_test}
    makers: dict[str, Callable[[str, int], Iterator[Row]]] = {
        "holder": holder_rows,
        "place": place_rows,
        "ending": lambda split, seed: ending_rows(split, seed, n_rows[split]),
    }
    splits: dict[str, LabelledTexts] = {}
    shortcuts: Sequence[dict[str, str]] = ()
    for number, (split, n) in enumerate(n_rows.items()):
        # training and validation stories differ
        rows = islice(makers[name](split, 3 * seed + number), n)
        written = list(tqdm(rows, f"writing stories ({split})", n, disable=None, leave=False))
        texts, labels, shortcuts, first_hop = zip(*written, strict=True)
        splits[split] = LabelledTexts(
            list(texts),
            class_numbers(labels, name),
            class_numbers(first_hop, name) if name in FOLLOW_UPS else None,
        )
    return Task(
        name,
        CLASSES[name],
        splits["train"],
        splits["val"],
        splits["test"],
        positive=1 if name == "ending" else None,
        keep="last",  # the question is at the end
        epochs=EPOCHS[name],
        in_domain=True,
        verbalizers=None if name == "ending" else tuple(f" {label}" for label in CLASSES[name]),
        follow_up=FOLLOW_UPS.get(name),
        shortcuts={  # those of the test rows
            rule: class_numbers([row[rule] for row in shortcuts], name) for rule in shortcuts[0]
        },
    )
