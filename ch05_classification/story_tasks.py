"""Storyworld questions as classification tasks in which the order of events decides, so that
counting words does not help.

    holder   Who has the thing? One of 60 people, or nobody.
    place    Where is the thing? One of 32 places. A two-hop task whose first hop asks who has it,
             so the people are classes, too.
    reason   Why is she happy, or sad? The person, thing or place that the reason ends with.
    ending   Will it end well? The story up to its last event; as many happy as sad stories with the
             same words.

Test stories use pairs of people and things that occur in no training story. Each task comes with
shortcuts: cheap rules that do not follow the story.
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import islice

import numpy as np
from tqdm import tqdm

from ch01_text.storyworld import Story, shortcut_answers, stories
from ch01_text.storyworld.questions import Question
from ch01_text.storyworld.story import question_lines
from ch01_text.storyworld.words import PEOPLE, PLACES, PRONOUNS, THINGS, the
from ch01_text.storyworld.world import World
from ch05_classification.dataset import FollowUp, LabelledTexts, Task

TRAINING_ROWS = {"holder": 12_000, "place": 22_000, "reason": 12_000, "ending": 12_000}
EPOCHS = {"holder": 2, "place": 1, "reason": 2, "ending": 2}
# the same stories, with more questions for training
LEVELS = {"train": "base-drill", "val": "base", "test": "base"}
RULES = ("last mentioned", "last mover", "first mention", "same sentence")
KINDS = (
    dict.fromkeys(PEOPLE, "person")
    | dict.fromkeys(THINGS, "thing")
    | dict.fromkeys(PLACES, "place")
)
CLASSES = {
    "holder": (*PEOPLE, "nobody"),
    "place": (*PLACES, *PEOPLE, "nobody"),
    "reason": tuple(KINDS),
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
    wanted = holder if holder in PRONOUNS else the(thing[0])
    return f"{text} {holder}\n{question_lines(f'Where is {wanted}?')} the"


FOLLOW_UPS: dict[str, FollowUp] = {"place": ask_for_the_place}  # of the two-hop tasks


def questions_of(
    kind: str, split: str, seed: int
) -> Iterator[tuple[Story, Question, dict[str, str]]]:
    """Questions of one kind with the shortcuts' answers. Outside training each story has at most
    one, so that the rows are independent.
    """
    for story in stories_of(split, seed):
        questions = [question for question in story.questions if question.kind == kind]
        for question in questions if split == "train" else questions[-1:]:
            answers = shortcut_answers(story, question)
            yield story, question, {rule: answers[rule].removeprefix("the ") for rule in RULES}


def holder_rows(split: str, seed: int) -> Iterator[Row]:
    """Who has it?"""
    for story, question, shortcuts in questions_of("who-has", split, seed):
        yield story.prompt(question), question.answer, shortcuts, ""


def place_rows(split: str, seed: int) -> Iterator[Row]:
    """Where is it? The text asks who has it, the first hop."""
    for story, question, shortcuts in questions_of("where-object", split, seed):
        thing = question.about[0]
        text = f"{story.prose[: question.position]}\n{question_lines(f'Who has the {thing}?')}"
        place = question.answer.removeprefix("the ")
        yield text, place, shortcuts, story.world(question).holder(thing) or "nobody"


def felt_last(story: Story) -> tuple[str, str, str, tuple[str, ...]] | None:
    """(person, feeling, reason, sentences up to then) at the last moment when somebody feels
    something, or None.
    """
    world, last = World(), None
    for number, event in enumerate(story.events):
        world.apply(event)
        following = (
            story.events[number + 1].sentence
            if number + 1 < len(story.events)
            else len(story.sentences)
        )
        if world.feels and following > event.sentence:
            person = max(world.feels)
            last = (
                person,
                world.feels[person].feeling,
                world.reason(person),
                story.sentences[:following],
            )
    return last


def names_in(text: str) -> list[str]:
    """The people, things and places in `text`, in order."""
    return [word for word in re.findall(r"\w+", text) if word in KINDS]


def reason_rows(split: str, seed: int) -> Iterator[Row]:
    """Why does somebody feel so? The text gives the reason up to its last name, the class."""
    for story in stories(split="test" if split == "test" else "train", level="base", seed=seed):
        if moment := felt_last(story):
            person, mood, reason, sentences = moment
            last = names_in(reason)[-1]
            rivals = [
                (name, person in names)
                for names in map(names_in, sentences)
                for name in names
                if KINDS[name] == KINDS[last] and name != person
            ]
            mentioned = [name for name, _ in rivals]
            beside = [name for name, with_person in rivals if with_person]
            shortcuts = {
                "last mentioned": mentioned[-1:],
                "same sentence": beside[-1:],
                "first mention": mentioned[:1],
            }
            text = (
                f"{' '.join(sentences)}\nQ: Why is {person} {mood}?\nA:"
                f" {reason[: reason.rindex(last)].rstrip()}"
            )
            yield text, last, {rule: "".join(names) for rule, names in shortcuts.items()}, ""


def ending_rows(split: str, seed: int, n: int) -> Iterator[Row]:
    """Will it end well? For each happy story there is a sad one that a bag-of-words model scores
    the same, so that word counts alone are of no use.
    """
    source = stories(
        3 * n + 200, split="test" if split == "test" else "train", level="base", seed=seed
    )
    candidates = [(story.prose[: story.closing], story.ending, story) for story in source]
    for row in match_by_words(
        [text for text, _, _ in candidates],
        np.array([ending == "happy" for _, ending, _ in candidates]),
    ):
        text, ending, story = candidates[row]
        shortcuts = {
            "last feeling": last_feeling(story),
            "wish named at the end": wish_at_the_end(story),
        }
        yield text, ending, shortcuts, ""


def last_feeling(story: Story) -> str:
    """The last feeling that is mentioned before the end."""
    n_sentences = sum(
        story.closing >= end
        for end in np.cumsum([len(sentence) + 1 for sentence in story.sentences]) - 1
    )
    feelings = [
        event.feeling
        for event in story.events
        if event.verb == "feel" and event.sentence < n_sentences
    ]
    return feelings[-1] if feelings else ""


def wish_at_the_end(story: Story) -> str:
    """ "happy" if the last sentence before the end names what the hero wished for, else "sad"."""
    wishes = [event for event in story.events if event.verb == "wish"]
    last = story.prose[: story.closing].rsplit(". ", 1)[-1]
    wanted = wishes[0].place or wishes[0].object or wishes[0].other if wishes else ""
    return "happy" if wanted in names_in(last) else "sad"


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
    """One of the four tasks, with stories written for this `seed`."""
    n_rows = {"train": n_train or TRAINING_ROWS[name], "val": n_val, "test": n_test}
    makers: dict[str, Callable[[str, int], Iterator[Row]]] = {
        "holder": holder_rows,
        "place": place_rows,
        "reason": reason_rows,
        "ending": lambda split, seed: ending_rows(split, seed, n_rows[split]),
    }
    splits, shortcuts = {}, ()
    for number, (split, n) in enumerate(n_rows.items()):
        seed = 3 * seed + number  # training and validation stories differ
        rows = islice(makers[name](split, seed), n)
        rows = list(tqdm(rows, f"writing stories ({split})", n, disable=None, leave=False))
        texts, labels, shortcuts, first_hop = zip(*rows, strict=True)
        splits[split] = LabelledTexts(
            list(texts),
            class_numbers(labels, name),
            class_numbers(first_hop, name) if name in FOLLOW_UPS else None,
        )
    return Task(
        name,
        CLASSES[name],
        **splits,
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
