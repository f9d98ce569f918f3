"""Retrieval: the story that a question is about is looked up among many and then read (Lewis et al. 2020).

A question names the story by its people and things, as a reader would. hit@k: the right story is among the first k
found. Then the tuned model answers without a story, with the first one found, and with the right one: what finding
costs is the gap between the last two. Left out: cutting long texts into pieces; a story here is one piece.
"""

from collections import Counter
from collections.abc import Sequence

import numpy as np

from ch01_text.storyworld.words import the
from ch06_instruction.grading import exact_match
from ch07_practice.harness import Finding, share
from ch07_practice.labs.setting import Pair, Setting, draw_pairs, user
from ch07_practice.retrieval import Bm25Index, TfidfIndex, VectorIndex, embed

STORIES = 1000


def cast_of(pair: Pair) -> tuple[str, ...]:
    """Whom a reader would name: two people and the first thing."""
    cast = pair[0].cast
    return (*cast.people[:2], cast.things[0])


def query_of(pair: Pair) -> str:
    """A question that says which story it is about."""
    first, second, thing = cast_of(pair)
    return f"In the story of {first}, {second} and {the(thing)}: {pair[1].text}"


def find(setting: Setting, texts: Sequence[str], queries: Sequence[str], k: int) -> dict[str, np.ndarray]:
    """(Q, k) numbers of texts by every way of searching."""
    base, found = setting.base, {}
    for name, layer in (("token embeddings", 0), ("hidden states", None)):
        stored, asked = (embed(base.model, base.tokenizer, some, base.precision, layer) for some in (texts, queries))
        found[name] = VectorIndex(stored).search(asked, k)
    return found | {"TF-IDF": TfidfIndex(texts).search(queries, k), "BM25": Bm25Index(texts).search(queries, k)}


def measure(setting: Setting) -> list[Finding]:
    """hit@1 and hit@5 of every search, and the answers that follow."""
    pairs = draw_pairs(max(STORIES, setting.n), setting.seed + 4)
    texts = [story.prose for story, _ in pairs]
    alike = Counter(map(cast_of, pairs))
    chosen = [number for number, pair in enumerate(pairs) if alike[cast_of(pair)] == 1][: setting.n]
    asked = [pairs[number][1] for number in chosen]
    found = find(setting, texts, [query_of(pairs[number]) for number in chosen], 5)
    findings = [share("retrieval", f"{name}: hit@{k}", [number in row[:k] for number, row in
                                                        zip(chosen, rows.tolist(), strict=True)])
                for name, rows in found.items() for k in (1, 5)]
    reading = {"no story": None, **{f"the story by {name}": rows[:, 0] for name, rows in found.items()},
               "the right story": chosen}
    for name, numbers in reading.items():
        stories = [[]] * len(asked) if numbers is None else [[texts[number]] for number in numbers]
        said = setting.chat.respond([user(*story, one.text) for story, one in zip(stories, asked, strict=True)])
        findings.append(share("retrieval", f"answers, {name}",
                              [exact_match(text, one.answer) for text, one in zip(said, asked, strict=True)]))
    return findings
