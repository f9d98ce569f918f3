"""Cheap ways to answer without tracking the state: the baselines beside which an accuracy counts.

Some do not read the name in the question: the most frequent answer to each kind of question, the
place or person mentioned last or most often. A logistic regression on bags of words does not know
the order of the words. "same sentence" reads the name, and is nearly the right rule for one-step
questions; it fails where two facts have to be combined.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence

from ch01_text.storyworld.questions import Question
from ch01_text.storyworld.story import Story
from ch01_text.storyworld.words import PEOPLE, PLACES, THINGS, the

Pair = tuple[Story, Question]

RULES = ("last mentioned", "most mentioned", "first mention", "same sentence")
BLIND_RULES = ("majority", "bag of words", "last mentioned", "most mentioned")
NAMES = {name: the(name) for name in (*PLACES, *THINGS)} | {name: name for name in PEOPLE}


def names_in(text: str) -> list[str]:
    """List people, things and places in the order in which `text` names them.

    >>> names_in("Tom gave Mia the kite. The kite was old.")
    ['Tom', 'Mia', 'kite', 'kite']
    """
    return [word for word in re.findall(r"\w+", text) if word in NAMES]


def shortcut_answers(story: Story, question: Question) -> dict[str, str]:
    """Return the answer of each rule to `question`; "" where it has none.

    The candidates are people for "Who ...?" and places for "Where ...?". "last mentioned" and "most
    mentioned" choose among all of the prose so far; "first mention" and "same sentence" take the
    last candidate in the first and in the newest sentence that names what is asked about.
    """
    candidates = PEOPLE if question.kind == "who-has" else PLACES
    told = [names_in(sentence) for sentence in story.sentences[: question.position]]
    named = [([one for one in names if one in candidates], names) for names in told]
    mentioned = [one for some, _ in named for one in some]
    beside = [some[-1] for some, names in named if some and question.about in names]
    found = {
        "last mentioned": mentioned[-1:],
        "most mentioned": [name for name, _ in Counter(mentioned).most_common(1)],
        "first mention": beside[:1],
        "same sentence": beside[-1:],
    }
    return {rule: NAMES[names[0]] if names else "" for rule, names in found.items()}


def fit_majority(questions: Iterable[Question]) -> dict[str, str]:
    """Return the most frequent answer to each kind of question."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for question in questions:
        counts[question.kind][question.answer] += 1
    return {kind: answers.most_common(1)[0][0] for kind, answers in counts.items()}


def fit_bag_of_words(pairs: Iterable[Pair]) -> Callable[[Sequence[Pair]], list[str]]:
    """Fit a logistic regression on the word counts of the prompts, one for each kind of question.

    Returns a function from pairs to answers. Kinds that are not in `pairs` are answered "".
    """
    from sklearn.feature_extraction.text import CountVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from threadpoolctl import threadpool_limits

    def prompts(some: Iterable[Pair]) -> list[str]:
        return [story.prompt(question) for story, question in some]

    models = {}
    for kind, examples in by_kind(pairs).items():
        answers = [question.answer for _, question in examples]
        if len(set(answers)) > 1:
            regression = LogisticRegression(C=0.1, max_iter=500, tol=1e-2)
            model = make_pipeline(CountVectorizer(), regression)
            with threadpool_limits(1):  # threads only slow down so small a problem
                models[kind] = model.fit(prompts(examples), answers)

    def answer(pairs: Sequence[Pair]) -> list[str]:
        found: dict[int, str] = {}
        for kind, examples in by_kind(pairs).items():
            if kind in models:
                predicted = map(str, models[kind].predict(prompts(examples)))
                found |= zip(map(id, examples), predicted, strict=True)
        return [found.get(id(pair), "") for pair in pairs]

    return answer


def by_kind(pairs: Iterable[Pair]) -> dict[str, list[Pair]]:
    """Group pairs by the kind of their question."""
    kinds: dict[str, list[Pair]] = defaultdict(list)
    for pair in pairs:
        kinds[pair[1].kind].append(pair)
    return kinds


def all_shortcuts(fitted_on: Sequence[Pair], pairs: Sequence[Pair]) -> dict[str, list[str]]:
    """Return the answers of every shortcut to the questions of `pairs`, by name."""
    majority = fit_majority(question for _, question in fitted_on)
    rules = [shortcut_answers(*pair) for pair in pairs]
    return {
        "majority": [majority.get(question.kind, "") for _, question in pairs],
        "bag of words": fit_bag_of_words(fitted_on)(pairs),
        **{rule: [answers[rule] for answers in rules] for rule in RULES},
    }


def shortcut_table(fitted_on: Sequence[Pair], pairs: Sequence[Pair]) -> dict[str, dict[str, float]]:
    """Return the accuracy of every shortcut on `pairs`, by kind of question and on all of them."""
    groups = {"all": range(len(pairs))} | {
        kind: [row for row, (_, question) in enumerate(pairs) if question.kind == kind]
        for kind in by_kind(pairs)
    }
    return {
        name: {
            kind: sum(answers[row] == pairs[row][1].answer for row in rows) / max(1, len(rows))
            for kind, rows in groups.items()
        }
        for name, answers in all_shortcuts(fitted_on, pairs).items()
    }
