"""Short conversations whose answers a program can check: who is where, who has what, sums,
greetings.

The people, places and things are the storyworld's (chapter 1). A stable hash keeps a tenth of the
pairs (a person and a place or thing, two numbers, a person to greet) out of training, so that a
right answer there was not memorised.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from appendix_b.text_models import Batch
from ch01_text import BPETokenizer
from ch01_text.storyworld.words import PEOPLE, PLACES, THINGS, held_out

USER, ASSISTANT = "<|user|>", "<|assistant|>"
KINDS = ("where", "who", "sum", "greeting", "unknown")
NUMBERS = range(1, 16)


@dataclass(frozen=True)
class Talk:
    """What the user says, the only right answer, and what kind of question it is."""

    said: str
    answer: str
    kind: str


def _pair(kind: str, rng: np.random.Generator) -> tuple:
    """The two things that decide an answer: those of a test are never seen together in training."""
    first = NUMBERS if kind == "sum" else PEOPLE
    second = {
        "where": tuple(PLACES),
        "who": THINGS,
        "unknown": tuple(PLACES),
        "sum": NUMBERS,
        "greeting": ("hello",),
    }
    return tuple(options[rng.integers(len(options))] for options in (first, second[kind]))


def _talk(kind: str, a, b, rng: np.random.Generator) -> Talk:
    if kind == "sum":
        return Talk(f"What is {a} plus {b}?", f"{a} plus {b} is {a + b}.", kind)
    if kind == "greeting":
        return Talk(f"Hello, I am {a}.", f"Hello, {a}!", kind)
    others = [person for person in PEOPLE if person != a]
    x, y = (others[i] for i in rng.choice(len(others), 2, replace=False))
    place, thing = tuple(PLACES)[rng.integers(len(PLACES))], THINGS[rng.integers(len(THINGS))]
    if kind == "who":
        facts = [f"{a} has the {b}.", f"{x} is {PLACES[place]} the {place}."]
        question = f"Who has the {b}?"
        answer = f"{a} has the {b}."
    else:
        facts = [
            f"{a} is {PLACES[b]} the {b}.",
            f"{x} has the {thing}.",
            f"{y} is {PLACES[place]} the {place}.",
        ]
        question, answer = f"Where is {a}?", facts[0]
        if kind == "unknown":
            facts, answer = facts[1:], "I do not know."
    return Talk(
        " ".join([*(facts[i] for i in rng.permutation(len(facts))), question]), answer, kind
    )


def small_talk(rng: np.random.Generator, test: bool = False) -> Iterator[Talk]:
    """Endless conversations, all kinds alike; `test` asks for the pairs only that training never
    has.
    """
    while True:
        kind = KINDS[rng.integers(len(KINDS))]
        a, b = _pair(kind, rng)
        if held_out(str(a), str(b)) == test:
            yield _talk(kind, a, b, rng)


def prompt_ids(tokenizer: BPETokenizer, said: str) -> list[int]:
    """What the model sees before it answers."""
    return [
        tokenizer.special_tokens[USER],
        *tokenizer.encode(said),
        tokenizer.special_tokens[ASSISTANT],
    ]


def talk_batch(talks: list[Talk], tokenizer: BPETokenizer) -> Batch:
    """Conversations in rows, filled up on the right; only the answer and the end of text count
    in the loss.
    """
    rows = []
    for talk in talks:
        asked = prompt_ids(tokenizer, talk.said)
        rows.append((len(asked), [*asked, *tokenizer.encode(talk.answer), tokenizer.eot_id]))
    T = max(len(ids) for _, ids in rows)
    ids = np.full((len(rows), T), tokenizer.eot_id)
    weights = np.zeros((len(rows), T - 1), dtype=np.float32)
    for row, (begin, whole) in enumerate(rows):
        ids[row, : len(whole)] = whole
        weights[row, begin - 1 : len(whole) - 1] = 1
    return Batch(ids[:, :-1], ids[:, 1:], weights)
