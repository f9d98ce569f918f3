"""How much of a model's output is copied: the share of its 8-grams that occur verbatim in the
training text (Carlini et al. 2023 measure the same with longer runs).

Compare it with the share for held-out text: set phrases recur without having been copied.
"""

from collections.abc import Iterable

import numpy as np

# odd and random-looking, so that different runs get different 64-bit hashes
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)
_CHUNK = 2**22


def ngram_hashes(tokens: np.ndarray, n: int = 8) -> np.ndarray:
    """(N,) token ids -> (N - n + 1,) uint64: a hash of every run of `n` tokens."""
    ids = tokens.astype(np.uint64) + np.uint64(1)
    hashes = np.zeros(max(0, len(ids) - n + 1), np.uint64)
    for i in range(n):
        hashes = (hashes ^ (hashes >> np.uint64(29))) * _MULTIPLIER + ids[i : i + len(hashes)]
    return hashes


def ngram_overlap(texts: Iterable[np.ndarray], shards: Iterable[np.ndarray], n: int = 8) -> float:
    """The share, in [0, 1], of the n-grams in `texts` that also occur in a training shard.

    ValueError if no text has `n` tokens.

    >>> ngram_overlap([np.arange(5, 15)], [np.arange(14)], n=8)
    0.6666666666666666
    """
    runs = np.concatenate([ngram_hashes(text, n) for text in texts])
    if not len(runs):
        raise ValueError(f"no text is {n} tokens long")
    runs, times = np.unique(runs, return_counts=True)
    seen = np.zeros(len(runs), bool)
    for shard in shards:
        for first in range(0, len(shard), _CHUNK):
            hashes = ngram_hashes(np.asarray(shard[first : first + _CHUNK + n - 1]), n)
            # look the many up among the few: only the few have to be sorted
            places = np.searchsorted(runs[:-1], hashes)
            seen[places[runs[places] == hashes]] = True
    return float(times[seen].sum() / times.sum())
