"""Answers to the exercises of chapter 1: one way of many, each with the reason why it works."""

import re
from collections import Counter
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor


def split_words(text: str) -> list[str]:
    """Alternatives are tried from left to right at each place, so "--" is found before a run could
    begin with it; the look-ahead keeps a run from swallowing one. White space matches nothing and
    is skipped.
    """
    return re.findall(r"""--|[,.:;?_!"()']|(?:(?!--)[^\s,.:;?_!"()'])+""", text)


def unknown_share(training: list[str], new: list[str]) -> float:
    """A set answers "is it there?" in constant time; a list would be searched from the start for
    each word.
    """
    known = set(training)
    return float(np.mean([word not in known for word in new]))


def cut_utf8(data: bytes, n: int) -> bytes:
    """The first two bits of every byte that continues a character are 10, so going back at most
    three bytes leads from anywhere to the start of a character.
    """
    while n < len(data) and data[n] & 0b1100_0000 == 0b1000_0000:
        n -= 1
    return data[:n]


def most_frequent_pair(words: dict[tuple[str, ...], int]) -> tuple[str, str]:
    """Equal words have equal pairs: counting each different word once, times its frequency, makes
    training an encoding affordable.
    """
    counts: Counter[tuple[str, str]] = Counter()
    for word, times in words.items():
        for pair in pairwise(word):
            counts[pair] += times
    return min(counts, key=lambda pair: (-counts[pair], pair))


def encode_with_merges(word: str, merges: list[tuple[str, str]]) -> list[str]:
    """Applying the merges in order does to a new word what training did to the old ones: a later
    merge may need the token that an earlier one made.
    """
    tokens = list(word)
    for pair in merges:
        merged: list[str] = []
        for token in tokens:
            if merged and (merged[-1], token) == pair:
                merged[-1] += token
            else:
                merged.append(token)
        tokens = merged
    return tokens


def bits_per_token(ids: list[int]) -> float:
    """The entropy of the ids: an id of probability p needs -log2 p bits in the best code, and
    occurs with p. A model that also uses the context needs fewer: that is chapter 4's loss.
    """
    p = np.array(list(Counter(ids).values())) / len(ids)
    return float(-(p * np.log2(p)).sum())


def document_numbers(ids: np.ndarray, eot_id: int) -> np.ndarray:
    """The number of ends *before* a token is its document's number. The cumulative sum counts an
    end at the token itself, too, so that is subtracted.
    """
    ends = (ids == eot_id).astype(np.int64)
    return np.cumsum(ends) - ends


def count_windows(n_tokens: int, context_length: int, stride: int) -> int:
    """The whole strides after the first window, plus that window. One token too few gives
    -1 // stride + 1 = 0, but an even shorter text would give a negative number, hence the max.
    """
    return max(0, (n_tokens - context_length - 1) // stride + 1)


def times_predicted(n_tokens: int, context_length: int, stride: int) -> np.ndarray:
    """Add one over each window's targets. Token 0 has nothing before it and is never a target."""
    times = np.zeros(n_tokens, dtype=int)
    for start in range(0, n_tokens - context_length, stride):
        times[start + 1 : start + context_length + 1] += 1
    return times


def embedding_gradient(ids: Tensor, upstream: Tensor, n_vocab: int) -> Tensor:
    """The embedding is one_hot @ table, so its gradient is one_hot.T @ upstream: rows of the
    same id add up.
    """
    return torch.zeros(n_vocab, upstream.shape[1]).index_add_(0, ids, upstream)


def fixed_positions(context_length: int, width: int) -> Tensor:
    """Each pair of columns is a clock hand: fast ones distinguish neighbours, slow ones distant
    parts of the text. Unlike a learned table, it does not end at the context length.
    """
    speeds = 10_000.0 ** (-torch.arange(0, width, 2) / width)
    angles = torch.outer(torch.arange(context_length, dtype=torch.float32), speeds)  # (T, C / 2)
    return torch.stack((angles.sin(), angles.cos()), dim=-1).flatten(1)


def locate(place: int, sizes: list[int]) -> tuple[int, int]:
    """Binary search in the ends of the shards: the shard is the first one that ends after the
    token. An empty shard ends where its predecessor ends, so "right" skips it.
    """
    ends = np.cumsum(sizes)
    shard = int(np.searchsorted(ends, place, side="right"))
    return shard, place - int(ends[shard] - sizes[shard])
