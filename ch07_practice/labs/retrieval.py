"""Retrieval: the story that a question is about is found among many and then read (Lewis et al.
2020).

A question names the people of its story and one thing. hit@k is the share of questions whose story
is among the first k results. Then the tuned model answers without a story, with the first result,
and with the right story; the gap between the last two is the cost of imperfect retrieval. Left out:
splitting long texts into chunks; a story here is one chunk.
"""

from collections import Counter
from collections.abc import Sequence
from itertools import islice

import numpy as np

from ch06_instruction.grading import exact_match
from ch07_practice.evaluation.evaluation import EvalResult, accuracy_result
from ch07_practice.labs.search_index import Bm25Index, TfidfIndex, VectorIndex, embed
from ch07_practice.labs.setting import Setting
from ch07_practice.story_questions import (
    closing_pairs,
    draw_pairs,
    draw_stories,
    main_cast,
    named_question,
    user_message,
)

N_STORIES = 500
N_TYPICAL = 50  # training questions that show what a query looks like
LAYERS = {"token embeddings": 0, "first block": 1, "all blocks": None}


def search_all(
    setting: Setting, texts: Sequence[str], queries: Sequence[str], k: int
) -> dict[str, np.ndarray]:
    """Search method -> (Q, k) indices into `texts`."""
    base, rankings = setting.base, {}
    typical = [named_question(pair) for pair in draw_pairs(N_TYPICAL, setting.seed, split="train")]
    for name, layer in LAYERS.items():
        text_vectors, typical_vectors, query_vectors = (
            embed(base.model, base.tokenizer, some, base.precision, layer)
            for some in (texts, typical, queries)
        )
        rankings[name] = VectorIndex(text_vectors, typical_vectors).search(query_vectors, k)
    return rankings | {
        "TF-IDF": TfidfIndex(texts).search(queries, k),
        "BM25": Bm25Index(texts).search(queries, k),
    }


def measure(setting: Setting) -> list[EvalResult]:
    """hit@1 and hit@5 of every search method, and the answers that follow."""
    stored = draw_stories(N_STORIES, setting.seed + 4)
    texts, same_cast = [story.prose for story in stored], Counter(map(main_cast, stored))
    index_of = {text: number for number, text in enumerate(texts)}
    unique = (story for story in stored if same_cast[main_cast(story)] == 1)
    pairs = list(islice(closing_pairs(unique), setting.n))
    right = [index_of[story.prose] for story, _ in pairs]
    rankings = search_all(setting, texts, [named_question(pair) for pair in pairs], 5)
    results = [
        accuracy_result(
            "retrieval",
            f"{name}: hit@{k}",
            [number in row[:k] for number, row in zip(right, ranking.tolist(), strict=True)],
        )
        for name, ranking in rankings.items()
        for k in (1, 5)
    ]
    sources = {
        "no story": None,
        **{f"story found by {name}": ranking[:, 0] for name, ranking in rankings.items()},
        "the right story": right,
    }
    for name, numbers in sources.items():
        given = [[]] * len(pairs) if numbers is None else [[texts[number]] for number in numbers]
        responses = setting.chat.respond(
            [
                user_message(*story, question.text)
                for story, (_, question) in zip(given, pairs, strict=True)
            ]
        )
        hits = [
            exact_match(text, question.answer)
            for text, (_, question) in zip(responses, pairs, strict=True)
        ]
        results.append(accuracy_result("retrieval", f"answers, {name}", hits))
    return results
