"""Answers to the exercises of chapter 7: one way of many, each with the reason why it works."""

import heapq
import json
import math

import torch
from torch import Tensor


def continuous_steps(lengths: list[int], rows: int) -> int:
    """The next text always goes to the row that gets free first, so a heap of those times is all
    that must be known. Waiting for whole groups would take the longest of each group.
    """
    free = [0] * rows
    for length in lengths:
        heapq.heapreplace(free, free[0] + length)
    return max(free)


def keep_and_replace(p: Tensor, q: Tensor) -> tuple[Tensor, Tensor]:
    """A token is written as a kept guess with min(p, q), and max(0, p - q) is missing to p. It is
    drawn exactly when a guess was refused, which happens with the same probability as what is
    missing in all.
    """
    missing = (p - q).clamp(min=0)
    return (p / q).clamp(max=1), missing / missing.sum()


def tokens_per_round(rate: float, k: int) -> float:
    """The mean of a count is the sum of the probabilities of reaching 1, 2, ...; the i-th token
    needs i - 1 kept guesses before it, and the last is the model's own.
    """
    return sum(rate**i for i in range(k + 1))


def through_int8(x: Tensor) -> Tensor:
    """One large weight makes the steps of its whole row coarse: that is why each row has a scale
    of its own.
    """
    steps = x.abs().amax(dim=-1, keepdim=True) / 127
    return torch.round(x / steps) * steps


def allowed_tokens(moves: dict[tuple[int, str], int], state: int, tokens: list[str]) -> list[bool]:
    """A token may cross several states; only the way matters, not how the vocabulary happened to
    cut it.
    """

    def readable(token: str) -> bool:
        here = state
        for letter in token:
            here = moves.get((here, letter))
        return here is not None

    return [readable(token) for token in tokens]


def bm25_term(times: int, length: int, mean_length: float, n_texts: int, n_with: int) -> float:
    """A word that is everywhere says little (idf), the tenth occurrence less than the first (times
    over times plus something), and in a long text less than in a short one.
    """
    idf = math.log(1 + (n_texts - n_with + 0.5) / (n_with + 0.5))
    return idf * times / (times + 1.5 * (0.25 + 0.75 * length / mean_length))


def hit_at_k(ranked: list[list[int]], right: list[int], k: int) -> float:
    """It never falls with k: what is among the first is among the first and one more."""
    return sum(one in row[:k] for row, one in zip(ranked, right, strict=True)) / len(right)


def pick_choice(log_p: list[float], choices: list[str]) -> int:
    """Every token multiplies by a probability below 1, so a longer choice loses by its length
    alone; bytes, unlike tokens, do not depend on the tokenizer.
    """
    per_byte = [value / len(choice.encode()) for value, choice in zip(log_p, choices, strict=True)]
    return per_byte.index(max(per_byte))


def wilson(hits: int, n: int, z: float = 1.96) -> tuple[float, float]:
    """The quadratic equation (n + z^2) p^2 - (2 hits + z^2) p + hits^2 / n = 0. Unlike the share
    plus and minus its error, it has a width at 0 and at n hits, and stays within 0 and 1.
    """
    a, half_b, c = n + z * z, hits + z * z / 2, hits * hits / n
    root = math.sqrt(half_b * half_b - a * c)
    return (half_b - root) / a, (half_b + root) / a


def latency(seconds: list[float], percent: float) -> float:
    """A percentile by rank is a time that was measured, and says what the slowest users met; a
    mean hides them.
    """
    return sorted(seconds)[max(0, math.ceil(percent / 100 * len(seconds)) - 1)]


def join_stream(body: str) -> str:
    """The pieces have to be joined as they are: their white space is part of the answer."""
    pieces = []
    for event in body.split("\n\n"):
        if event == "data: [DONE]":
            break
        if event.startswith("data: "):
            for choice in json.loads(event.removeprefix("data: "))["choices"]:
                pieces.append(choice["delta"].get("content", ""))
    return "".join(pieces)
