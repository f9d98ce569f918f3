"""Does a model understand the stories? Questions about unseen worlds, beside every cheap shortcut.

The prompt is the story told so far without any other question; an answer counts when greedy
decoding would write it, to the letter, and end the line.
"""

import math
from collections.abc import Sequence
from itertools import islice

import numpy as np
import pandas as pd
import torch

from ch01_text.storyworld import UNKNOWN, Question, Story, all_shortcuts, stories
from ch03_gpt import GPTModel, Precision

Pair = tuple[Story, Question]
LATE = 3  # questions of a story that are asked: the last ones, when most has been told
TEST_SETS = {"same length": "base", "longer than trained": "long"}


def draw_questions(split: str, level: str, n: int, seed: int) -> list[Pair]:
    """`n` of the last questions of stories, about what they tell, with their stories."""
    pairs = (
        (story, question)
        for story in stories(split=split, level=level, seed=seed)
        for question in story.questions[-LATE:]
        if question.answer != UNKNOWN
    )
    return list(islice(pairs, n))


def grade(
    model: GPTModel, tokenizer, pairs: Sequence[Pair], precision: Precision, batch_size: int = 64
) -> list[bool]:
    """Whether the model's greedy answer to each question is the right one, word for word.

    Greedy decoding writes an answer exactly if each of its tokens is the most likely one after
    those before it, so one forward pass over prompt and answer decides. A prompt beyond the context
    loses its beginning.
    """
    rows = []
    for number, (story, question) in enumerate(pairs):
        answer = tokenizer.encode(f" {question.answer}\n")
        prompt = [tokenizer.eot_id, *tokenizer.encode(story.prompt(question))]
        rows.append(
            (
                number,
                prompt[-(model.config.context_length + 1 - len(answer)) :] + answer,
                len(answer),
            )
        )
    rows.sort(key=lambda row: len(row[1]))  # rows of one batch have about the same length
    correct = [False] * len(rows)
    for first in range(0, len(rows), batch_size):
        batch = rows[first : first + batch_size]
        ids = torch.zeros(len(batch), len(batch[-1][1]), dtype=torch.long)
        for row, (_, tokens, _) in enumerate(batch):
            ids[row, : len(tokens)] = torch.tensor(tokens)
        with torch.inference_mode(), precision.autocast():
            likeliest = model(ids[:, :-1].to(model.device)).argmax(dim=-1).cpu()  # (B, T)
        for row, (number, tokens, length) in enumerate(batch):
            end = len(tokens)
            correct[number] = (
                likeliest[row, end - 1 - length : end - 1].tolist() == tokens[end - length :]
            )
    return correct


def confidence_interval(hits: int, n: int, z: float = 1.96) -> tuple[float, float]:
    """The 95 % interval of a share of successes (Wilson 1927).

    >>> low, high = confidence_interval(50, 100)
    >>> round(low, 3), round(high, 3)
    (0.404, 0.596)
    """
    share, spread = hits / n, z * z / n
    centre = (share + spread / 2) / (1 + spread)
    half = z / (1 + spread) * math.sqrt(share * (1 - share) / n + spread / (4 * n))
    # rounding may go beyond
    return max(0.0, min(share, centre - half)), min(1.0, max(share, centre + half))


def guess(fitted_on: Sequence[Pair], pairs: Sequence[Pair]) -> pd.DataFrame:
    """Whether each shortcut happens to answer each question rightly: a row a question, a column
    a shortcut.
    """
    right = [question.answer for _, question in pairs]
    answers = all_shortcuts(fitted_on, pairs)
    return pd.DataFrame({name: np.equal(found, right) for name, found in answers.items()})


def measure_understanding(
    model: GPTModel, tokenizer, precision: Precision, n: int = 1000, seed: int = 1
) -> pd.DataFrame:
    """Accuracy on held-out worlds by test set, kind of question and hops, with its 95 % interval,
    beside the accuracy of each shortcut on the same questions; the rows "all" are over all kinds.
    """
    fitted_on = draw_questions("train", "base", 4 * n, seed)
    rows = []
    for test_set, level in TEST_SETS.items():
        pairs = draw_questions("test", level, n, seed)
        table = guess(fitted_on, pairs)
        table.insert(0, "model", grade(model, tokenizer, pairs, precision))
        kinds, hops = zip(*((one.kind, str(one.hops)) for _, one in pairs), strict=True)
        parts = [
            *table.groupby([list(kinds), list(hops)]),
            *((("all", number), part) for number, part in table.groupby(list(hops))),
            (("all", "all"), table),
        ]
        for (group, hops), part in parts:
            low, high = confidence_interval(int(part["model"].sum()), len(part))
            rows.append(
                {
                    "test set": test_set,
                    "questions": group,
                    "hops": hops,
                    "n": len(part),
                    "ci95_low": low,
                    "ci95_high": high,
                }
                | part.mean().to_dict()
            )
    return pd.DataFrame(rows)
