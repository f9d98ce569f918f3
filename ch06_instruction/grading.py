"""Is a response right? Answered by program, without another model.

Exact match and token F1 are SQuAD's (Rajpurkar et al. 2016, section 6.1), on the last line of a
response: a model may think aloud before it. SQuAD's normalization of the text is left out, since
the form of an answer is part of what was asked.
"""

from collections import Counter
from collections.abc import Sequence

import pandas as pd

from ch04_pretraining import wilson_interval


def final_answer(response: str) -> str:
    """The last line of a response, without a leading "A:".

    >>> final_answer("Q: Where is Nora?\\nA: the lake\\nA: Nora is at the lake.")
    'Nora is at the lake.'
    >>> final_answer("the lake")
    'the lake'
    """
    return response.strip().rpartition("\n")[2].removeprefix("A:").strip()


def exact_match(response: str, answer: str) -> bool:
    """Whether the last line of a response equals the answer."""
    return final_answer(response) == answer


def token_f1(response: str, answer: str) -> float:
    """Harmonic mean of precision and recall over the words of the last line.

    >>> token_f1("the old mill", "the mill")
    0.8
    """
    predicted, expected = final_answer(response).split(), answer.split()
    common = sum((Counter(predicted) & Counter(expected)).values())
    return 2 * common / (len(predicted) + len(expected)) if common else 0.0


def grade(responses: Sequence[str], answers: Sequence[str]) -> pd.DataFrame:
    """One row per response: exact_match, f1 and its number of words."""
    return pd.DataFrame(
        [
            {
                "exact_match": exact_match(response, answer),
                "f1": token_f1(response, answer),
                "words": len(response.split()),
            }
            for response, answer in zip(responses, answers, strict=True)
        ]
    )


def accuracy_with_ci(hits: pd.Series) -> dict:
    """The fraction of True, with its 95 % interval and the number of rows."""
    low, high = wilson_interval(int(hits.sum()), len(hits))
    return {"exact_match": float(hits.mean()), "ci95_low": low, "ci95_high": high, "n": len(hits)}


def accuracy_by(rows: pd.DataFrame, column: str) -> pd.DataFrame:
    """Exact match with its interval, and mean F1, for each value of a column."""
    return pd.DataFrame(
        [
            {column: value, **accuracy_with_ci(part["exact_match"]), "f1": float(part["f1"].mean())}
            for value, part in rows.groupby(column, sort=False)
        ]
    )
