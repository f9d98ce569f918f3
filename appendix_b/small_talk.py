"""Short conversations whose answers a program can check: who is where, who has what, sums and
greetings.

People, places and things are those of the storyworld (chapter 1). A stable hash keeps a tenth of
the pairs (a person and a place or thing, two numbers, a person to greet) out of training. A correct
answer about such a pair cannot have been memorised.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np

from appendix_b.text_models import TokenBatch
from ch01_text import BPETokenizer
from ch01_text.storyworld.words import PEOPLE, PLACES, THINGS, held_out

USER, ASSISTANT = "<|user|>", "<|assistant|>"
KINDS = ("where", "who", "sum", "greeting", "unknown")
NUMBERS = range(1, 16)


@dataclass(frozen=True)
class Conversation:
    """One prompt of a user and its only correct answer."""

    prompt: str
    answer: str
    kind: str  # one of KINDS


def _sample_pair(kind: str, rng: np.random.Generator) -> tuple:
    """The two things that determine an answer; pairs of the test set never occur in training."""
    first = NUMBERS if kind == "sum" else PEOPLE
    second = {
        "where": tuple(PLACES),
        "who": THINGS,
        "unknown": tuple(PLACES),
        "sum": NUMBERS,
        "greeting": ("hello",),
    }
    return tuple(options[int(rng.integers(len(options)))] for options in (first, second[kind]))


def _conversation(kind: str, a, b, rng: np.random.Generator) -> Conversation:
    if kind == "sum":
        return Conversation(f"What is {a} plus {b}?", f"{a} plus {b} is {a + b}.", kind)
    if kind == "greeting":
        return Conversation(f"Hello, I am {a}.", f"Hello, {a}!", kind)
    # Facts about other people are distractors: the question is about a (and b) only.
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
    shuffled = [facts[i] for i in rng.permutation(len(facts))]
    return Conversation(" ".join([*shuffled, question]), answer, kind)


def conversations(
    rng: np.random.Generator, split: Literal["train", "test"] = "train"
) -> Iterator[Conversation]:
    """Endless conversations of all kinds; the pairs of `test` never occur in `train`."""
    while True:
        kind = KINDS[rng.integers(len(KINDS))]
        a, b = _sample_pair(kind, rng)
        if held_out(str(a), str(b)) == (split == "test"):
            yield _conversation(kind, a, b, rng)


def prompt_ids(tokenizer: BPETokenizer, prompt: str) -> list[int]:
    """The prompt in the chat format, ready for the model to answer."""
    return [
        tokenizer.special_tokens[USER],
        *tokenizer.encode(prompt),
        tokenizer.special_tokens[ASSISTANT],
    ]


def collate(batch: list[Conversation], tokenizer: BPETokenizer) -> TokenBatch:
    """Conversations as rows of ids, padded on the right; only the answer and its end-of-text token
    count in the loss.
    """
    rows = []
    for one in batch:
        prompt = prompt_ids(tokenizer, one.prompt)
        rows.append((len(prompt), [*prompt, *tokenizer.encode(one.answer), tokenizer.eot_id]))
    T = max(len(ids) for _, ids in rows)
    ids = np.full((len(rows), T), tokenizer.eot_id)
    weights = np.zeros((len(rows), T - 1), dtype=np.float32)
    for row, (n_prompt, whole) in enumerate(rows):
        ids[row, : len(whole)] = whole
        # Position t predicts token t + 1, so the first answer token is predicted at n_prompt - 1.
        weights[row, n_prompt - 1 : len(whole) - 1] = 1
    return TokenBatch(ids[:, :-1], ids[:, 1:], weights)
