"""Contamination: test texts that the training data contain, perhaps with a few words changed.

The similarity of two texts is the Jaccard similarity |A and B| / |A or B| of their sets of word
n-grams (Broder 1997), computed exactly as a sparse matrix product. Corpora too large for that use
MinHash sketches, which are left out here.
"""

from collections.abc import Iterator, Sequence

import numpy as np
from tqdm import tqdm

from ch05_classification import group_duplicates
from ch05_classification.dataset import fingerprint

BLOCK = 2_000_000  # similarities held in memory at a time (but at least one row)


def shingles(text: str, n: int = 5) -> list[str]:
    """All n-grams of words, ignoring case and punctuation; a shorter text is one n-gram.

    >>> shingles("The cat sat on the mat.", 4)
    ['the cat sat on', 'cat sat on the', 'sat on the mat']
    >>> shingles("The cat", 4)
    ['the cat']
    """
    words = fingerprint(text).split()
    return (
        [" ".join(words[first : first + n]) for first in range(max(1, len(words) - n + 1))]
        if words
        else []
    )


def near_duplicates(
    texts: Sequence[str], others: Sequence[str] | None = None, threshold: float = 0.8, n: int = 5
) -> list[tuple[int, int, float]]:
    """Pairs of at least this similarity: (row of `texts`, row of `others`, similarity), sorted.

    Without `others`: pairs within `texts`, the earlier row first. A text without words is similar
    to none. ValueError unless 0 < threshold <= 1 and n >= 1.
    """
    if not 0 < threshold <= 1:
        raise ValueError(f"threshold {threshold} must be above 0 and at most 1; 0.8 is usual")
    if n < 1:
        raise ValueError(f"n {n} must be at least 1 word; 5 is usual")
    both = [*texts, *(others or ())]
    if not any(map(str.strip, both)):
        return []
    first_other = 0 if others is None else len(texts)
    found = _similar(both, len(texts), first_other, threshold, n)
    return [(i, j, score) for i, j, score in found if others is not None or i < j]


def _similar(
    texts: Sequence[str], n_rows: int, first_other: int, threshold: float, n: int
) -> Iterator[tuple[int, int, float]]:
    """Yield (i, j, similarity) of text i of the first `n_rows` and text `first_other` + j."""
    from sklearn.feature_extraction.text import CountVectorizer

    sets = CountVectorizer(analyzer=lambda text: shingles(text, n), binary=True).fit_transform(
        texts
    )
    sizes = np.asarray(sets.sum(axis=1)).ravel()
    others, other_sizes = sets[first_other:].T.tocsr(), sizes[first_other:]
    rows = max(1, BLOCK // max(1, len(other_sizes)))
    for start in tqdm(range(0, n_rows, rows), "comparing texts", leave=False, disable=None):
        shared = (sets[start : min(start + rows, n_rows)] @ others).tocoo()
        i, j = shared.row + start, shared.col
        similarity = shared.data / (sizes[i] + other_sizes[j] - shared.data)
        alike = np.flatnonzero(similarity >= threshold)
        order = alike[np.lexsort((j[alike], i[alike]))]
        yield from zip(
            i[order].tolist(), j[order].tolist(), similarity[order].tolist(), strict=True
        )


def contamination_report(
    train_texts: Sequence[str],
    test_texts: Sequence[str],
    threshold: float = 0.8,
    n: int = 5,
    examples: int = 3,
) -> dict:
    """How much of a test set the training set contains.

    Counts training texts that repeat an earlier one (up to case and punctuation), test texts that
    repeat a training text, pairs of near duplicates across the sets, and test texts in such pairs
    with their fraction; lists the most similar pairs. Remove a template that all texts share: it
    makes short texts similar. ValueError if one set is empty.
    """
    if not train_texts or not test_texts:
        raise ValueError(
            f"{len(train_texts)} training and {len(test_texts)} test texts: give at least one of"
            " each"
        )
    pairs = near_duplicates(test_texts, train_texts, threshold, n)
    known = set(map(fingerprint, train_texts))
    affected = {i for i, _, _ in pairs}
    return {
        "n_train": len(train_texts),
        "n_test": len(test_texts),
        "threshold": threshold,
        "train_repeats": group_duplicates(train_texts)[1],
        "test_in_train": sum(fingerprint(text) in known for text in test_texts),
        "near_pairs": len(pairs),
        "test_affected": len(affected),
        "affected_fraction": len(affected) / len(test_texts),
        "examples": [
            {"similarity": score, "test": test_texts[i], "train": train_texts[j]}
            for i, j, score in sorted(pairs, key=lambda pair: -pair[2])[:examples]
        ],
    }
