"""Solutions to the exercises of chapter 5; others are possible."""

import math
import re

import numpy as np
import torch
from torch import Tensor


def last_real_token(hidden: Tensor, lengths: Tensor) -> Tensor:
    return hidden[torch.arange(len(hidden)), lengths - 1]


def majority_accuracy(train_labels: np.ndarray, test_labels: np.ndarray) -> float:
    return float((test_labels == np.bincount(train_labels).argmax()).mean())


def merged_weight(weight: Tensor, A: Tensor, B: Tensor, alpha: float) -> Tensor:
    return weight + alpha / len(A) * B @ A


def balanced_weights(labels: np.ndarray, n_classes: int) -> np.ndarray:
    return len(labels) / (n_classes * np.bincount(labels, minlength=n_classes))


def calibration_gap(confidence: np.ndarray, right: np.ndarray, bins: int = 10) -> float:
    number = np.minimum((confidence * bins).astype(int), bins - 1)
    gaps = [
        inside.sum() * abs(confidence[inside].mean() - right[inside].mean())
        for inside in (number == one for one in range(bins))
        if inside.any()
    ]
    return float(sum(gaps) / len(right))


def bootstrap_interval(right: np.ndarray, draws: np.ndarray) -> tuple[float, float]:
    low, high = np.percentile(right[draws].mean(axis=1), (2.5, 97.5))
    return float(low), float(high)


def mcnemar_p(only_first: int, only_second: int) -> float:
    n = only_first + only_second
    tail = sum(math.comb(n, k) for k in range(min(only_first, only_second) + 1))
    return min(1.0, 2 * tail / 2**n)


def stratified_rows(labels: np.ndarray, share: float, generator: np.random.Generator) -> np.ndarray:
    chosen = []
    for label in np.unique(labels):
        rows = generator.permutation(np.flatnonzero(labels == label))
        chosen.append(rows[: round(share * len(rows))])
    return np.sort(np.concatenate(chosen))


def order_features(text: str) -> list[str]:
    wish = re.search(r"(\w+) (?:wanted|had promised|hoped) to", text)
    assert wish is not None, "every story has a wish"
    hero, features = wish[1], []
    for noun in {*re.findall(r"\bthe (\w+)", text, re.IGNORECASE)}:
        last = re.findall(rf"[^.]*\b{noun}\b[^.]*", text)[-1]
        # "gave Tom the kite", "Tom took the kite", "Tom left the kite": what follows the hero
        features += re.findall(rf"\b{hero} (\w+)", last)
    return features
