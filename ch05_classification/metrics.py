"""Metrics of a classifier with error bars, on top of scikit-learn's.

Probabilities are measured, too: of all predictions with a confidence of 90 %, nine in ten should be
right (Guo et al. 2017).
"""

import math
from collections.abc import Callable

import numpy as np
from sklearn import metrics

RESAMPLES = 2000
BINS = 10


def softmax(logits: np.ndarray, temperature: float = 1.0) -> np.ndarray:
    """(n, K) logits -> (n, K) float64 probabilities."""
    scaled = logits.astype(np.float64) / temperature
    exponentials = np.exp(scaled - scaled.max(axis=1, keepdims=True))
    return exponentials / exponentials.sum(axis=1, keepdims=True)


def f1(labels: np.ndarray, predicted: np.ndarray, positive: int | None) -> float:
    """F1 of the `positive` class, or macro-F1: the mean over all classes that occur. A prediction
    of -1 stands for no class.

    By hand, because the bootstrap calls it too often for scikit-learn's `f1_score`.

    >>> f1(np.array([0, 0, 1, 1]), np.array([0, 1, 1, 1]), 1)
    0.8
    """
    if positive is not None:
        true, found = labels == positive, predicted == positive
        return float(2 * (true & found).sum() / max(1, true.sum() + found.sum()))
    n = 1 + max(labels.max(), predicted.max())
    hits = np.bincount(labels[labels == predicted], minlength=n)
    total = np.bincount(labels, minlength=n) + np.bincount(predicted[predicted >= 0], minlength=n)
    return float((2 * hits[total > 0] / total[total > 0]).mean())


def bootstrap(
    labels: np.ndarray,
    predicted: np.ndarray,
    score: Callable[[np.ndarray, np.ndarray], float],
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> tuple[float, float]:
    """The 95 % bootstrap interval of `score(labels, predicted)` (Efron 1979): the 2.5th and 97.5th
    percentile over test sets of the same size, drawn from this one with replacement.
    """
    rows = np.random.default_rng(seed).integers(len(labels), size=(resamples, len(labels)))
    values = [score(labels[draw], predicted[draw]) for draw in rows]
    low, high = np.percentile(values, (2.5, 97.5))
    return float(low), float(high)


def accuracy(labels: np.ndarray, predicted: np.ndarray) -> float:
    return float((labels == predicted).mean())


def mcnemar(right: np.ndarray, baseline_right: np.ndarray) -> tuple[int, int, float]:
    """McNemar's exact test of two classifiers on the same rows (McNemar 1947).

    Returns (rows only the first gets right, rows only the second gets right, p). If both were
    equally good, each such row would be a coin toss.

    >>> mcnemar(np.array([True, True, False]), np.array([False, True, False]))
    (1, 0, 1.0)
    """
    from scipy.stats import binomtest

    only_first = int((right & ~baseline_right).sum())
    only_second = int((~right & baseline_right).sum())
    disagreements = only_first + only_second
    p = float(binomtest(only_first, disagreements).pvalue) if disagreements else 1.0
    return only_first, only_second, p


def reliability(probabilities: np.ndarray, labels: np.ndarray, bins: int = BINS) -> list[dict]:
    """A reliability diagram as rows: for each bin of confidence the number of predictions, their
    mean confidence and their accuracy. Empty bins are left out.
    """
    confidence, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
    bin_numbers = np.minimum((confidence * bins).astype(int), bins - 1)
    return [
        {
            "n": int(inside.sum()),
            "confidence": float(confidence[inside].mean()),
            "accuracy": float(right[inside].mean()),
        }
        for inside in (bin_numbers == number for number in range(bins))
        if inside.any()
    ]


def calibration_error(probabilities: np.ndarray, labels: np.ndarray, bins: int = BINS) -> float:
    """Expected calibration error (ECE): |confidence - accuracy| averaged over the bins of
    `reliability`, weighted by the rows in each.

    >>> round(calibration_error(np.array([[0.9, 0.1], [0.9, 0.1]]), np.array([0, 1])), 3)
    0.4
    """
    rows = reliability(probabilities, labels, bins)
    return sum(row["n"] * abs(row["confidence"] - row["accuracy"]) for row in rows) / len(labels)


def log_loss(logits: np.ndarray, labels: np.ndarray, temperature: float = 1.0) -> float:
    """Mean cross-entropy in nats."""
    chosen = softmax(logits, temperature)[np.arange(len(labels)), labels]
    return float(-np.log(np.maximum(chosen, 1e-300)).mean())


def fit_temperature(logits: np.ndarray, labels: np.ndarray) -> float:
    """The temperature that minimises the cross-entropy of validation rows when it divides their
    logits (Guo et al. 2017, section 4.2). It changes the confidence, never the predicted class.
    """
    from scipy.optimize import minimize_scalar

    found = minimize_scalar(
        lambda t: log_loss(logits, labels, math.exp(t)), bounds=(-3, 3), method="bounded"
    )
    return math.exp(found.x)


def choose_threshold(scores: np.ndarray, labels: np.ndarray) -> float:
    """The threshold with the highest F1 on validation rows: `scores` (n,) are probabilities of the
    positive class, `labels` (n,) booleans. It lies halfway between the two scores it separates.
    """
    precision, recall, thresholds = metrics.precision_recall_curve(labels, scores)
    both = precision + recall
    values = np.divide(2 * precision * recall, both, out=np.zeros_like(both), where=both > 0)[:-1]
    best = thresholds[int(values.argmax())]
    below = scores[scores < best]
    return float((best + below.max()) / 2) if len(below) else float(best)


def summarize(
    labels: np.ndarray, predicted: np.ndarray, positive: int | None, seed: int = 0
) -> dict[str, float]:
    """Accuracy and F1, each with its 95 % interval."""
    low, high = bootstrap(labels, predicted, accuracy, seed)
    f1_low, f1_high = bootstrap(labels, predicted, lambda y, p: f1(y, p, positive), seed)
    return {
        "accuracy": accuracy(labels, predicted),
        "ci95_low": low,
        "ci95_high": high,
        "f1": f1(labels, predicted, positive),
        "f1_low": f1_low,
        "f1_high": f1_high,
    }


def ranking(scores: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Area under the ROC curve and average precision: how well `scores` (n,) rank the positive rows
    (`labels` (n,) booleans) above the others, whatever the threshold.
    """
    return {
        "roc_auc": float(metrics.roc_auc_score(labels, scores)),
        "average_precision": float(metrics.average_precision_score(labels, scores)),
    }
