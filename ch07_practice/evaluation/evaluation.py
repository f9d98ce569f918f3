"""Evaluation of any model on any data: exact match, multiple choice by likelihood, perplexity.

Each function takes a model with prompts, conversations or documents, and returns results with 95 %
intervals, so that models can be compared line by line. The tasks themselves, with their data, are
in `evaluate_command`. Left out: cheap baselines, which chapters 4 and 6 report.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ch01_text import Tokenizer
from ch03_gpt import GPTModel, Precision
from ch04_pretraining import bits_per_byte, wilson_interval
from ch06_instruction.answering import Chat
from ch06_instruction.chat import SPECIALS, Message
from ch07_practice.evaluation.likelihood import ratio_interval, score_rows, text_windows


@dataclass(frozen=True)
class EvalModel:
    """A model under evaluation."""

    name: str
    model: GPTModel
    tokenizer: Tokenizer
    precision: Precision

    @property
    def has_template(self) -> bool:
        """Whether it was tuned to answer messages (chapter 6)."""
        return set(SPECIALS) <= set(self.tokenizer.special_tokens)

    @property
    def chat(self) -> Chat:
        return Chat(self.model, self.tokenizer, self.precision)

    def score(self, rows: Sequence[tuple[Sequence[int], str]]) -> list[tuple[float, bool]]:
        """(prompt ids, continuation) -> (log-probability of the continuation, whether it is what
        greedy decoding writes), for each row.
        """
        return score_rows(
            self.model,
            [(prompt, self.tokenizer.encode(text)) for prompt, text in rows],
            self.precision,
        )


@dataclass(frozen=True)
class EvalResult:
    """A value with its 95 % interval; `n` counts questions or tokens."""

    task: str
    measure: str
    value: float
    ci95_low: float
    ci95_high: float
    n: int

    def __str__(self) -> str:
        if self.measure in ("perplexity", "bits per byte"):
            return f"{self.value:.3f} ({self.ci95_low:.3f}-{self.ci95_high:.3f})"
        if self.ci95_low == self.ci95_high:
            return f"{self.value:.1%}"
        return f"{self.value:.1%} ({self.ci95_low:.1%}-{self.ci95_high:.1%})"


def accuracy_result(task: str, measure: str, hits: Sequence[bool]) -> EvalResult:
    """The share of hits, with Wilson's interval."""
    low, high = wilson_interval(sum(hits), len(hits))
    return EvalResult(task, measure, sum(hits) / len(hits), low, high, len(hits))


def evaluate_continuations(
    model: EvalModel, task: str, measure: str, rows: Sequence[tuple[Sequence[int], str]]
) -> EvalResult:
    """How often greedy decoding writes exactly the given continuation, for (prompt ids, text)."""
    return accuracy_result(task, measure, [greedy for _, greedy in model.score(rows)])


def evaluate_responses(
    model: EvalModel,
    task: str,
    measure: str,
    conversations: Sequence[Sequence[Message]],
    answers: Sequence[str],
    is_right: Callable[[str, str], bool],
) -> EvalResult:
    """How often a chat model's greedy response is right, by `is_right(response, answer)`."""
    responses = model.chat.respond(conversations)
    return accuracy_result(task, measure, list(map(is_right, responses, answers)))


def choose(
    model: EvalModel, items: Sequence[tuple[Sequence[int], Sequence[str]]]
) -> list[tuple[int, int]]:
    """(prompt ids, choices) -> the index of the likeliest choice by log-probability, and by
    log-probability per character. Long choices lose by the first and not by the second (acc and
    acc_norm of Gao et al.'s lm-evaluation-harness).
    """
    scores = iter(
        model.score([(prompt, choice) for prompt, choices in items for choice in choices])
    )
    picked = []
    for _, choices in items:
        log_p = [next(scores)[0] for _ in choices]
        normalised = [value / len(choice) for value, choice in zip(log_p, choices, strict=True)]
        picked.append((log_p.index(max(log_p)), normalised.index(max(normalised))))
    return picked


def evaluate_choices(
    model: EvalModel,
    task: str,
    items: Sequence[tuple[Sequence[int], Sequence[str]]],
    right: Sequence[int],
) -> list[EvalResult]:
    """Multiple choice by likelihood, for (prompt ids, choices) and the index of the right choice;
    with the share that random guessing reaches.
    """
    picked = choose(model, items)
    by_chance = sum(1 / len(choices) for _, choices in items) / len(items)
    by_sum = [one == wanted for (one, _), wanted in zip(picked, right, strict=True)]
    by_mean = [one == wanted for (_, one), wanted in zip(picked, right, strict=True)]
    return [
        accuracy_result(task, "likeliest", by_sum),
        accuracy_result(task, "likeliest per character", by_mean),
        EvalResult(task, "by chance", by_chance, by_chance, by_chance, len(items)),
    ]


def evaluate_text(
    model: EvalModel, name: str, documents: Sequence[str], max_tokens: int
) -> list[EvalResult]:
    """Perplexity per token and bits per byte of at most `max_tokens` tokens of `documents`. Every
    document begins with an empty context.
    """
    context, encoded, n_bytes, room = model.model.config.context_length, [], 0, max_tokens
    for document in documents:
        ids = model.tokenizer.encode(document)
        kept = document if len(ids) <= room else model.tokenizer.decode(ids[:room])
        n_bytes += len(kept.encode())
        encoded.append(ids[:room])
        room -= len(encoded[-1])
        if not room:
            break
    rows = [
        row
        for ids in encoded
        for row in text_windows(ids, model.tokenizer.eot_id, context, overlap=max(1, context // 2))
    ]
    if not rows:
        raise ValueError(f"the text {name} is empty; choose a longer one")
    scores = score_rows(model.model, rows, model.precision, f"reading {name}")
    nats, counts = [-log_p for log_p, _ in scores], [len(scored) for _, scored in rows]
    (loss, low, high), n = ratio_interval(nats, counts), sum(counts)

    def result(measure: str, of_loss: Callable[[float], float]) -> EvalResult:
        return EvalResult(name, measure, of_loss(loss), of_loss(low), of_loss(high), n)

    return [
        result("perplexity", math.exp),
        result("bits per byte", lambda loss: bits_per_byte(loss, n, n_bytes)),
    ]
