"""Is an answer right? Judged by program: no other model is needed.

Exact match and token F1 are those of SQuAD (Rajpurkar et al. 2016, section 6.1) on the last line of
a response; SQuAD's normalization is left out, since the form of an answer is part of what was
asked.
"""

import json
from collections import Counter
from collections.abc import Sequence

import pandas as pd

from ch04_pretraining import wilson_interval
from ch06_instruction.instructions import REFUSAL, Instruction


def final_answer(response: str) -> str:
    """The last line of a response, without "A:".

    >>> final_answer("Q: Where is Nora?\\nA: the lake\\nA: Nora is at the lake.")
    'Nora is at the lake.'
    >>> final_answer("the lake")
    'the lake'
    """
    return response.strip().rpartition("\n")[2].removeprefix("A:").strip()


def exact_match(response: str, answer: str) -> bool:
    """Whether the last line of a response is the answer, to the letter."""
    return final_answer(response) == answer


def token_f1(response: str, answer: str) -> float:
    """Harmonic mean of precision and recall over words, of the last line.

    >>> token_f1("the old mill", "the mill")
    0.8
    """
    got, expected = final_answer(response).split(), answer.split()
    common = sum((Counter(got) & Counter(expected)).values())
    return 2 * common / (len(got) + len(expected)) if common else 0.0


def valid_form(response: str, form: str) -> bool:
    """Whether the last line has the form that was asked for: an object with the key "answer", one
    word, a sentence. A refusal is a valid form of all but JSON.
    """
    answer = final_answer(response)
    if form == "json":
        try:
            found = json.loads(answer)
        except ValueError:
            return False
        return isinstance(found, dict) and list(found) == ["answer"]
    if answer == REFUSAL:
        return True
    if form == "word":
        return len(answer.split()) == 1
    if form == "sentence":
        return answer[:1].isupper() and answer.endswith(".")
    return bool(answer)


def refuses(response: str) -> bool:
    """Whether a response says that the story does not say."""
    return final_answer(response) in (REFUSAL, json.dumps({"answer": None}))


def grade_responses(instructions: Sequence[Instruction], responses: Sequence[str]) -> pd.DataFrame:
    """A row for every response: what was asked, and how good it is."""
    return pd.DataFrame(
        [
            {
                "task": one.task,
                "kind": one.kind,
                "form": one.form,
                "hops": one.hops,
                "answerable": one.answerable,
                "exact_match": exact_match(response, one.answer),
                "f1": token_f1(response, one.answer),
                "valid": valid_form(response, one.form),
                "refuses": refuses(response),
                "words": len(response.split()),
            }
            for one, response in zip(instructions, responses, strict=True)
        ]
    )


def share(hits: pd.Series) -> dict:
    """A share of rows with its 95 % interval."""
    low, high = wilson_interval(int(hits.sum()), len(hits))
    return {"exact_match": float(hits.mean()), "ci95_low": low, "ci95_high": high, "n": len(hits)}


def refusal_scores(rows: pd.DataFrame) -> dict:
    """Precision and recall of saying that the story does not say; None where nothing could be
    counted.
    """
    refused, due = rows["refuses"], ~rows["answerable"]
    both = int((refused & due).sum())
    return {
        "refusal_precision": both / int(refused.sum()) if refused.any() else None,
        "refusal_recall": both / int(due.sum()) if due.any() else None,
    }


def summarize_answers(rows: pd.DataFrame) -> dict:
    """What metrics.json says of one stage: all questions, one and two hops, forms, refusals."""
    questions = rows[rows["task"] == "question"]
    answerable = questions[questions["answerable"]]
    found = share(questions["exact_match"]) | {"f1": float(questions["f1"].mean())}
    hops = answerable["hops"]
    for name, part in (
        ("one_hop", answerable[hops == 1]),
        ("two_hop", answerable[hops == 2]),
        ("three_hop", answerable[hops > 2]),
    ):
        if len(part):
            found[name] = share(part["exact_match"])
    return found | {
        "valid_form": float(questions["valid"].mean()),
        "words": float(questions["words"].mean()),
        **refusal_scores(questions),
    }


def by_group(rows: pd.DataFrame, column: str) -> pd.DataFrame:
    """Exact match and F1 for every value of a column, with the interval."""
    return pd.DataFrame(
        [
            {column: value, **share(part["exact_match"]), "f1": float(part["f1"].mean())}
            for value, part in rows.groupby(column, sort=False)
        ]
    )
