"""Answers to the exercises of chapter 7, each with the reason why it works."""

import heapq
import json
import math

import torch
from torch import Tensor


def continuous_steps(lengths: list[int], max_num_seqs: int) -> int:
    """The next text always goes to the row that becomes free first, so a heap of these times is
    enough. Static batches would wait for the longest text of each batch.
    """
    free = [0] * max_num_seqs
    for length in lengths:
        heapq.heapreplace(free, free[0] + length)
    return max(free)


def accept_and_resample(p: Tensor, q: Tensor) -> tuple[Tensor, Tensor]:
    """A token is proposed and accepted with probability min(p, q), which falls short of p by
    max(0, p - q). A rejection happens with exactly the total of these differences, so sampling the
    replacement in proportion to them makes up for each.
    """
    missing = (p - q).clamp(min=0)
    return (p / q).clamp(max=1), missing / missing.sum()


def tokens_per_round(rate: float, k: int) -> float:
    """The mean of a count is the sum of the probabilities that it is at least 1, 2, ...; the i-th
    token needs i - 1 accepted proposals before it, and the last token is the model's own.
    """
    return sum(rate**i for i in range(k + 1))


def int8_round_trip(x: Tensor) -> Tensor:
    """One large weight makes the steps of its whole row coarse, which is why each row has its own
    scale.
    """
    steps = x.abs().amax(dim=-1, keepdim=True) / 127
    return torch.round(x / steps) * steps


def allowed_tokens(moves: dict[tuple[int, str], int], state: int, tokens: list[str]) -> list[bool]:
    """A token may pass through several states. Only its letters matter, not how the vocabulary
    happens to split the text.
    """

    def readable(token: str) -> bool:
        here = state
        for letter in token:
            if (here, letter) not in moves:
                return False
            here = moves[here, letter]
        return True

    return [readable(token) for token in tokens]


def bm25_term(times: int, length: int, mean_length: float, n_texts: int, n_with: int) -> float:
    """A word that is in every text says little (idf), the tenth occurrence says less than the first
    (times / (times + ...)), and an occurrence in a long text less than one in a short text.
    """
    idf = math.log(1 + (n_texts - n_with + 0.5) / (n_with + 0.5))
    return idf * times / (times + 1.5 * (0.25 + 0.75 * length / mean_length))


def hit_at_k(ranked: list[list[int]], right: list[int], k: int) -> float:
    """It never decreases with k: whatever is among the first k is among the first k + 1."""
    return sum(one in row[:k] for row, one in zip(ranked, right, strict=True)) / len(right)


def pick_choice(log_p: list[float], choices: list[str]) -> int:
    """Every token multiplies by a probability below 1, so a longer choice loses by its length
    alone. Bytes, unlike tokens, do not depend on the tokenizer.
    """
    per_byte = [value / len(choice.encode()) for value, choice in zip(log_p, choices, strict=True)]
    return per_byte.index(max(per_byte))


def wilson(hits: int, n: int, z: float = 1.96) -> tuple[float, float]:
    """The ends solve (n + z^2) p^2 - (2 hits + z^2) p + hits^2 / n = 0. Unlike the share plus and
    minus its standard error, the interval has a width at 0 and at n hits, and stays within 0 and 1.
    """
    a, half_b, c = n + z * z, hits + z * z / 2, hits * hits / n
    root = math.sqrt(half_b * half_b - a * c)
    return (half_b - root) / a, (half_b + root) / a


def latency(seconds: list[float], percent: float) -> float:
    """A percentile by rank is a time that was actually measured. It shows what the slowest users
    experience, which a mean hides.
    """
    return sorted(seconds)[max(0, math.ceil(percent / 100 * len(seconds)) - 1)]


def join_stream(body: str) -> str:
    """The pieces are joined unchanged: their white space is part of the answer."""
    pieces = []
    for event in body.split("\n\n"):
        if event == "data: [DONE]":
            break
        if event.startswith("data: "):
            for choice in json.loads(event.removeprefix("data: "))["choices"]:
                pieces.append(choice["delta"].get("content", ""))
    return "".join(pieces)
