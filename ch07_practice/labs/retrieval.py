"""Retrieval: the story that a question is about is looked up among many and then read (Lewis et al.
    2020).

A question names the story by its people and things, as a reader would. hit@k: the right story is
among the first k found. Then the tuned model answers without a story, with the first one found, and
with the right one: what finding costs is the gap between the last two. Left out: cutting long texts
into pieces; a story here is one piece.
"""

from collections import Counter
from collections.abc import Sequence
from itertools import islice

import numpy as np

from ch01_text.storyworld import Story, stories
from ch01_text.storyworld.words import the
from ch06_instruction.grading import exact_match
from ch07_practice.harness import Finding, share
from ch07_practice.labs.setting import Pair, Setting, closing_pairs, draw_pairs, user
from ch07_practice.retrieval import Bm25Index, TfidfIndex, VectorIndex, embed

STORIES = 500
TYPICAL = 50  # training questions that say what a query looks like
LAYERS = {"token embeddings": 0, "first block": 1, "all blocks": None}


def cast_of(story: Story) -> tuple[str, ...]:
    """Whom a reader would name: two people and the first thing."""
    cast = story.cast
    return (*cast.people[:2], cast.things[0])


def query_of(pair: Pair) -> str:
    """A question that says which story it is about."""
    first, second, thing = cast_of(pair[0])
    return f"In the story of {first}, {second} and {the(thing)}: {pair[1].text}"


def find(
    setting: Setting, texts: Sequence[str], queries: Sequence[str], k: int
) -> dict[str, np.ndarray]:
    """(Q, k) numbers of texts by every way of searching."""
    base, found = setting.base, {}
    typical = [query_of(pair) for pair in draw_pairs(TYPICAL, setting.seed, split="train")]
    for name, layer in LAYERS.items():
        stored, usual, asked = (
            embed(base.model, base.tokenizer, some, base.precision, layer)
            for some in (texts, typical, queries)
        )
        found[name] = VectorIndex(stored, usual).search(asked, k)
    return found | {
        "TF-IDF": TfidfIndex(texts).search(queries, k),
        "BM25": Bm25Index(texts).search(queries, k),
    }


def measure(setting: Setting) -> list[Finding]:
    """hit@1 and hit@5 of every search, and the answers that follow."""
    stored = list(stories(STORIES, split="test", seed=setting.seed + 4))
    texts, alike = [story.prose for story in stored], Counter(map(cast_of, stored))
    place = {story.prose: number for number, story in enumerate(stored)}
    unique = (story for story in stored if alike[cast_of(story)] == 1)
    pairs = list(islice(closing_pairs(unique), setting.n))
    chosen = [place[story.prose] for story, _ in pairs]
    found = find(setting, texts, [query_of(pair) for pair in pairs], 5)
    findings = [
        share(
            "retrieval",
            f"{name}: hit@{k}",
            [number in row[:k] for number, row in zip(chosen, rows.tolist(), strict=True)],
        )
        for name, rows in found.items()
        for k in (1, 5)
    ]
    reading = {
        "no story": None,
        **{f"story found by {name}": rows[:, 0] for name, rows in found.items()},
        "the right story": chosen,
    }
    for name, numbers in reading.items():
        given = [[]] * len(pairs) if numbers is None else [[texts[number]] for number in numbers]
        said = setting.chat.respond(
            [user(*story, one.text) for story, (_, one) in zip(given, pairs, strict=True)]
        )
        findings.append(
            share(
                "retrieval",
                f"answers, {name}",
                [exact_match(text, one.answer) for text, (_, one) in zip(said, pairs, strict=True)],
            )
        )
    return findings
