"""Checks of chapter 7's exercises. Oracles: the shipped engine, layers and automata, scipy, bm25s,
NumPy, and brute force.
"""

import json
from collections.abc import Callable
from itertools import product

import bm25s
import numpy as np
import torch
from scipy.stats import binomtest

from ch03_gpt import GPTModel, preset_config
from ch07_practice import Engine, Request
from ch07_practice.decoding.quantization import Int8Linear
from ch07_practice.decoding.regex_derivatives import NOTHING, after, parse
from exercise_checks.expect import expect, expect_same


def continuous_steps(function: Callable) -> None:
    model = GPTModel(preset_config("tiny", context_length=32))
    for lengths, max_num_seqs in (
        ([3], 2),
        ([5, 1, 1, 1], 2),
        ([2, 7, 3, 1, 6, 4, 4], 3),
        ([4, 4, 9], 1),
    ):
        engine, steps = Engine(model, max_num_seqs), 0
        for length in lengths:
            engine.submit(Request([1], length))
        while engine.busy:
            engine.step()
            steps += 1
        expect(f"lengths {lengths}, {max_num_seqs} rows", function(lengths, max_num_seqs), steps)


def accept_and_resample(function: Callable) -> None:
    for p, q, expected in (
        ([0.5, 0.3, 0.2], [0.2, 0.3, 0.5], [[1, 1, 0.4], [1, 0, 0]]),
        ([0.1, 0.6, 0.3], [0.7, 0.2, 0.1], [[1 / 7, 1, 1], [0, 2 / 3, 1 / 3]]),
    ):
        expect(f"p {p}, q {q}", function(torch.tensor(p), torch.tensor(q)), expected)
    p, q = torch.rand(2, 9, generator=torch.manual_seed(0)).softmax(dim=-1).double()
    accept, residual = function(p, q)
    expect(
        "p and q random (9,): the distribution of the output, accepted and replaced tokens together",
        (q * accept + (1 - (q * accept).sum()) * residual).tolist(),
        p.tolist(),
    )


def tokens_per_round(function: Callable) -> None:
    for rate, k in ((0.8, 1), (0.5, 3), (1.0, 4), (0.0, 2)):
        mean = 0.0
        for accepted in product((True, False), repeat=k):
            n_tokens = next((i for i, one in enumerate(accepted) if not one), k) + 1
            mean += n_tokens * np.prod([rate if one else 1 - rate for one in accepted])
        expect(f"rate {rate}, k {k}", function(rate, k), mean)


def int8_round_trip(function: Callable) -> None:
    for O, n in ((1, 3), (4, 16)):
        layer = torch.nn.Linear(n, O)
        torch.nn.init.normal_(layer.weight, generator=torch.manual_seed(n))
        x = layer.weight.detach()
        expect(f"x {x.tolist()}", function(x), Int8Linear(layer).weight().tolist())


def allowed_tokens(function: Callable) -> None:
    digits = "0123456789"
    moves = {(a, d): b for a, b in ((0, 1), (1, 1), (2, 3), (3, 3)) for d in digits} | {(1, "."): 2}
    tokens = ["7", "42", ".", "1.", "3.5", "..", "a", "4a1", ".5", "5.0.1"]
    for state, before in enumerate(("", "1", "1.", "1.5")):
        here = after(parse(r"[0-9]+(\.[0-9]+)?"), before.encode())
        expected = [after(here, token.encode()) != NOTHING for token in tokens]
        expect_same(
            f"moves of [0-9]+(\\.[0-9]+)? from state {state}, tokens {tokens}",
            function(moves, state, tokens),
            expected,
        )


def bm25_term(function: Callable) -> None:
    texts = ["a b b c", "a d", "e b a f g h i", "j k b b b"]
    words = [text.split() for text in texts]
    index = bm25s.BM25()
    index.index(words, show_progress=False)
    mean = np.mean([len(one) for one in words])
    cases = [(word, i) for word in "abd" for i in range(4)]
    for word, i in cases:
        n_with = sum(word in one for one in words)
        expect(
            f"times {words[i].count(word)}, length {len(words[i])}, mean_length {mean}, n_texts 4,"
            f" n_with {n_with}",
            function(words[i].count(word), len(words[i]), mean, 4, n_with),
            index.get_scores([word])[i],
        )


def hit_at_k(function: Callable) -> None:
    ranked, right = [[3, 1, 2], [0, 2, 4], [5, 6, 7]], [1, 0, 9]
    for k, expected in ((1, 1 / 3), (2, 2 / 3), (3, 2 / 3)):
        expect(f"ranked {ranked}, right {right}, k {k}", function(ranked, right, k), expected)


def pick_choice(function: Callable) -> None:
    for log_p, choices, expected in (
        ([-3.0, -4.0], ["the inn", "the old harbour"], 1),
        ([-2.0, -3.0], ["tea", "jam"], 0),
        ([-3.0, -3.0, -2.8], ["ab", "éé", "b"], 1),
        ([-2.0, -2.0], ["ab", "cd"], 0),
    ):
        expect_same(f"log_p {log_p}, choices {choices}", function(log_p, choices), expected)


def wilson(function: Callable) -> None:
    for hits, n in ((50, 100), (0, 20), (20, 20), (3, 7)):
        expect(
            f"hits {hits}, n {n}",
            function(hits, n),
            tuple(binomtest(hits, n).proportion_ci(confidence_level=0.9500042, method="wilson")),
        )


def latency(function: Callable) -> None:
    seconds = np.random.default_rng(0).exponential(size=37).round(2).tolist()
    for times, percent in (
        ([4.0, 1.0, 3.0, 2.0], 50),
        ([0.2], 99),
        (seconds, 99),
        (seconds, 90),
        (seconds, 0),
    ):
        expect(
            f"seconds {times}, percent {percent}",
            function(list(times), percent),
            np.percentile(times, percent, method="inverted_cdf"),
        )


def join_stream(function: Callable) -> None:
    def chunk(*choices: dict) -> str:
        return f"data: {json.dumps({'choices': list(choices)})}\n\n"

    for pieces in (["Tom", " is in", " the mill."], [], ["one\n\n", "data: two", " 😀"]):
        body = (
            chunk({"delta": {"role": "assistant", "content": ""}})
            + ": keep-alive\n\n"
            + "".join(chunk({"delta": {"content": piece}}) for piece in pieces)
            + chunk({"delta": {}, "finish_reason": "stop"})
            + chunk()
            + "data: [DONE]\n\n"
        )
        expect_same(f"body {body!r}", function(body), "".join(pieces))


CHECKS = [
    continuous_steps,
    accept_and_resample,
    tokens_per_round,
    int8_round_trip,
    allowed_tokens,
    bm25_term,
    hit_at_k,
    pick_choice,
    wilson,
    latency,
    join_stream,
]
