"""Chapter 1's checks: oracles are the shipped tokenizers and windows, autograd, scipy, and brute
force.
"""

import math
from collections import Counter
from collections.abc import Callable
from itertools import pairwise

import numpy as np
import torch
from scipy.stats import entropy

from ch01_text import BPETokenizer, GPTDataset, WordTokenizer
from exercise_checks.expect import expect, expect_same

VERSE = (
    'The quick brown fox -- well-read, they say -- jumps (again!) over "the lazy dog\'s" back;'
    " who'd care?"
)


def split_words(function: Callable) -> None:
    for text in ("one--two", VERSE, "a_b: c\n\td"):
        expect_same(f"text {text!r}", function(text), WordTokenizer.split(text))


def unknown_share(function: Callable) -> None:
    for training, new, share in (
        (["a", "b", "b"], ["a", "c", "c", "b"], 0.5),
        (["a"], ["a", "a"], 0.0),
    ):
        expect(f"training words {training}, new words {new}", function(training, new), share)


def cut_utf8(function: Callable) -> None:
    data = "aé€😀b".encode()
    for n in range(len(data) + 2):
        whole = [beginning.encode() for beginning in ("", "a", "aé", "aé€", "aé€😀", "aé€😀b")]
        expect_same(
            f"{data!r}, n {n}",
            function(data, n),
            max((one for one in whole if len(one) <= n), key=len),
        )


def most_frequent_pair(function: Callable) -> None:
    for words in (
        {("a", "b"): 1, ("c", "d"): 3},
        {("c", "d"): 2, ("a", "b", "a", "b"): 1},
        {("th", "e"): 5, ("a", "t", "e"): 3, ("t", "e"): 3},
    ):
        every = [
            pair for word, times in words.items() for _ in range(times) for pair in pairwise(word)
        ]
        expected = sorted(Counter(every).items(), key=lambda item: (-item[1], item[0]))[0][0]
        expect_same(f"words {words}", function(words), expected)


def encode_with_merges(function: Callable) -> None:
    tokenizer = BPETokenizer.train("banana bandana an anthem than that the theta " * 3, 270)
    merges = [(left.decode(), right.decode()) for left, right in tokenizer.merges]
    for word in ("banana", "thanana", "aaab", "x", "thethe"):
        expected = [tokenizer.decode([i]) for i in tokenizer.encode_reference(word)]
        expect_same(f"word {word!r}, merges {merges}", function(word, list(merges)), expected)


def bits_per_token(function: Callable) -> None:
    for ids in (
        [7, 7, 7, 1],
        [0, 1, 2, 3],
        [5, 5],
        np.random.default_rng(0).integers(9, size=300).tolist(),
    ):
        expect(f"ids {ids[:9]}", function(ids), entropy(list(Counter(ids).values()), base=2))


def document_numbers(function: Callable) -> None:
    for ids, numbers in (
        ([4, 5, 9, 6, 9], [0, 0, 0, 1, 1]),
        ([9, 9, 1], [0, 1, 2]),
        ([1, 2], [0, 0]),
    ):
        expect(f"ids {ids}, eot_id 9", function(np.array(ids, dtype=np.uint16), 9), numbers)


def count_windows(function: Callable) -> None:
    for n in range(30):
        for T, stride in ((4, 1), (4, 3), (4, 4), (5, 7), (1, 1)):
            expected = len(GPTDataset(list(range(n)), max_length=T, stride=stride)) if n > T else 0
            expect(
                f"{n} tokens, context_length {T}, stride {stride}", function(n, T, stride), expected
            )


def times_predicted(function: Callable) -> None:
    for n, T, stride in ((10, 4, 1), (10, 4, 4), (11, 3, 2), (9, 2, 5)):
        targets = torch.cat([y for _, y in GPTDataset(list(range(n)), max_length=T, stride=stride)])
        expect(
            f"{n} tokens, context_length {T}, stride {stride}",
            function(n, T, stride),
            np.bincount(targets.numpy(), minlength=n),
        )


def embedding_gradient(function: Callable) -> None:
    table = torch.nn.Embedding(6, 3)
    ids, upstream = torch.tensor([2, 5, 2, 0, 2]), torch.arange(15.0).view(5, 3)
    table(ids).backward(upstream)
    expect(
        f"ids {ids.tolist()}, upstream (5, 3) = arange(15), n_vocab 6",
        function(ids, upstream, 6),
        table.weight.grad.tolist(),
    )


def fixed_positions(function: Callable) -> None:
    for T, C in ((1, 2), (5, 6), (40, 8)):
        rows = [
            [(math.cos if c % 2 else math.sin)(t / 10_000 ** (2 * (c // 2) / C)) for c in range(C)]
            for t in range(T)
        ]
        expect(f"context_length {T}, width {C}", function(T, C), rows)


def locate(function: Callable) -> None:
    sizes = [3, 0, 4, 1]
    every = [(shard, i) for shard, size in enumerate(sizes) for i in range(size)]
    for place, expected in enumerate(every):
        expect(f"place {place}, sizes {sizes}", function(place, sizes), expected)


CHECKS = [
    split_words,
    unknown_share,
    cut_utf8,
    most_frequent_pair,
    encode_with_merges,
    bits_per_token,
    document_numbers,
    count_windows,
    times_predicted,
    embedding_gradient,
    fixed_positions,
    locate,
]
