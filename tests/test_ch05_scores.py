"""Scores and their error bars. Oracles: scikit-learn, scipy, closed forms, simulation."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import softmax as scipy_softmax
from scipy.stats import binom
from sklearn.calibration import calibration_curve
from sklearn.metrics import f1_score, log_loss, roc_auc_score

from ch04_pretraining import wilson_interval
from ch05_classification import (
    bootstrap,
    calibration_error,
    choose_threshold,
    fit_temperature,
    mcnemar,
    reliability,
    softmax,
)
from ch05_classification.scores import accuracy, f1, ranking, summarize
from ch05_classification.scores import log_loss as our_log_loss


def draw(
    n: int = 400, K: int = 3, seed: int = 0, sharpness: float = 1.0
) -> tuple[np.ndarray, np.ndarray]:
    """Logits, and labels drawn from what they say."""
    generator = np.random.default_rng(seed)
    logits = generator.normal(size=(n, K)) * 1.5
    labels = np.array([generator.choice(K, p=p) for p in scipy_softmax(logits, axis=1)])
    return logits * sharpness, labels


def test_probabilities_are_scipys():
    logits, _ = draw()
    np.testing.assert_allclose(
        softmax(logits * 500), scipy_softmax(logits * 500, axis=1), atol=1e-12
    )
    np.testing.assert_allclose(softmax(logits, 2.0), scipy_softmax(logits / 2, axis=1), atol=1e-12)


def test_f1_is_scikit_learns():
    logits, labels = draw(K=2)
    predicted = logits.argmax(1)
    assert f1(labels, predicted, 0) == f1_score(labels, predicted, pos_label=0)
    assert f1(labels, predicted, None) == f1_score(labels, predicted, average="macro")


def test_the_bootstrap_interval_is_about_wilsons():
    labels = np.zeros(500, dtype=int)
    predicted = (np.arange(500) % 10 == 0).astype(int)  # 90 % right
    low, high = bootstrap(labels, predicted, accuracy)
    wilson = wilson_interval(450, 500)
    assert low == pytest.approx(wilson[0], abs=0.008)
    assert high == pytest.approx(wilson[1], abs=0.008)


def test_the_bootstrap_interval_covers_the_truth_as_often_as_it_says():
    """200 test sets from a classifier that is right 80 % of the time."""
    generator = np.random.default_rng(0)
    inside = 0
    for _ in range(200):
        predicted = (generator.random(150) > 0.8).astype(int)
        low, high = bootstrap(np.zeros(150, dtype=int), predicted, accuracy, resamples=400)
        inside += low <= 0.8 <= high
    assert 0.90 <= inside / 200 <= 0.99


@given(st.integers(0, 30), st.integers(0, 30))
@settings(max_examples=30, deadline=None)
def test_mcnemars_p_is_the_binomial_tail(b, c):
    right = np.array([True] * b + [False] * c + [True] * 5)
    other = np.array([False] * b + [True] * c + [True] * 5)
    only_first, only_second, p = mcnemar(right, other)
    assert (only_first, only_second) == (b, c)
    expected = min(1.0, 2 * binom.cdf(min(b, c), b + c, 0.5)) if b + c else 1.0
    assert p == pytest.approx(expected)


def test_reliability_is_scikit_learns_calibration_curve():
    logits, labels = draw(2000, 2)
    probabilities = softmax(logits)
    sure, right = probabilities.max(1), probabilities.argmax(1) == labels
    accuracies, confidences = calibration_curve(right, sure, n_bins=10)
    rows = reliability(probabilities, labels)
    np.testing.assert_allclose([row["accuracy"] for row in rows], accuracies)
    np.testing.assert_allclose([row["confidence"] for row in rows], confidences)
    assert sum(row["n"] for row in rows) == 2000


def test_an_honest_classifier_has_a_small_calibration_error():
    logits, labels = draw(4000)
    assert calibration_error(softmax(logits), labels) < 0.03
    assert calibration_error(softmax(logits * 4), labels) > 0.15


@pytest.mark.parametrize("sharpness", [0.25, 1.0, 4.0])
def test_the_temperature_undoes_what_made_logits_too_sharp(sharpness):
    logits, labels = draw(4000, sharpness=sharpness)
    temperature = fit_temperature(logits, labels)
    assert temperature == pytest.approx(sharpness, rel=0.12)
    grid = [our_log_loss(logits, labels, t) for t in np.geomspace(0.1, 10, 200)]
    assert our_log_loss(logits, labels, temperature) <= min(grid) + 1e-6
    assert our_log_loss(logits, labels) == pytest.approx(
        log_loss(labels, scipy_softmax(logits, axis=1))
    )


@given(st.lists(st.tuples(st.integers(0, 20), st.booleans()), min_size=5, max_size=40))
@settings(max_examples=40, deadline=None)
def test_no_threshold_has_a_higher_f1_than_the_chosen_one(rows):
    scores = np.array([score / 20 for score, _ in rows])
    labels = np.array([label for _, label in rows])
    if not labels.any():
        return
    chosen = f1_score(labels, scores >= choose_threshold(scores, labels))
    every_cut = np.arange(22) / 20  # the scores are twentieths
    others = [f1_score(labels, scores >= t, zero_division=0) for t in every_cut]
    assert chosen == pytest.approx(max(others))


def test_the_summary_holds_what_it_says():
    logits, labels = draw(300, 2)
    found = summarize(labels, logits.argmax(1), 1)
    assert found["ci95_low"] < found["accuracy"] < found["ci95_high"]
    assert found["f1_low"] < found["f1"] < found["f1_high"]
    assert ranking(softmax(logits)[:, 1], labels == 1)["roc_auc"] == roc_auc_score(
        labels, softmax(logits)[:, 1]
    )
    assert not math.isnan(found["f1"])
