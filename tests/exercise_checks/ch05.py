"""Chapter 5's checks: oracles are scikit-learn, scipy, and the shipped modules."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy.stats import binomtest
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.utils.class_weight import compute_class_weight

from ch05_classification import calibration_error
from ch05_classification.lora import LinearWithLoRA
from ch05_classification.story_tasks import story_task
from exercise_checks.expect import expect


def last_real_token(function: Callable) -> None:
    hidden = torch.arange(24.0).view(2, 4, 3)
    lengths = torch.tensor([2, 4])
    expect(
        f"hidden {tuple(hidden.shape)} = arange(24), lengths {lengths.tolist()}",
        function(hidden, lengths),
        [[3, 4, 5], [21, 22, 23]],
    )


def majority_accuracy(function: Callable) -> None:
    for train, test, expected in (
        ([0, 0, 1], [0, 1, 1, 1], 0.25),
        ([2, 2, 2, 0, 1], [2, 2, 0, 1], 0.5),
    ):
        expect(
            f"training labels {train}, test labels {test}",
            function(np.array(train), np.array(test)),
            expected,
        )


def merged_weight(function: Callable) -> None:
    torch.manual_seed(0)
    layer = LinearWithLoRA(torch.nn.Linear(5, 3), rank=2, alpha=8.0)
    torch.nn.init.normal_(layer.lora.B)
    weight, A, B = (tensor.detach() for tensor in (layer.linear.weight, layer.lora.A, layer.lora.B))
    layer.merge()
    expect("a 3 x 5 matrix, rank 2, alpha 8", function(layer.base, A, B, 8.0), weight.tolist())


def balanced_weights(function: Callable) -> None:
    for labels in ([0, 0, 0, 1], [0, 1, 2, 2, 2, 2], [1, 0]):
        n = max(labels) + 1
        expect(
            f"labels {labels}",
            function(np.array(labels), n),
            compute_class_weight("balanced", classes=np.arange(n), y=labels).tolist(),
        )


def calibration_gap(function: Callable) -> None:
    expect(
        "confidence [0.95, 0.95, 1.0], right [True, False, True]",
        function(np.array([0.95, 0.95, 1.0]), np.array([True, False, True])),
        0.3,
    )
    generator = np.random.default_rng(0)
    sure, right = generator.uniform(0.5, 1, 300), generator.random(300) < 0.7
    expected = calibration_error(np.stack([sure, 1 - sure], axis=1), np.where(right, 0, 1))
    expect("300 confidences between 0.5 and 1, 70 % right", function(sure, right), expected)


def bootstrap_interval(function: Callable) -> None:
    right = np.array([True, True, True, False])
    draws = np.random.default_rng(0).integers(4, size=(1000, 4))
    accuracies = sorted(np.mean([right[row] for row in draw]) for draw in draws)
    expect(
        "right [True, True, True, False], 1,000 draws",
        function(right, draws),
        np.percentile(accuracies, (2.5, 97.5)).tolist(),
    )


def mcnemar_p(function: Callable) -> None:
    for pair in ((0, 0), (1, 0), (5, 5), (9, 2), (0, 12), (30, 18)):
        expected = binomtest(pair[0], sum(pair)).pvalue if sum(pair) else 1.0
        expect(f"only_first {pair[0]}, only_second {pair[1]}", function(*pair), expected, 1e-9)


def stratified_rows(function: Callable) -> None:
    labels = np.random.default_rng(0).permutation([0] * 50 + [1] * 20 + [2] * 10)
    rows = np.asarray(function(labels, 0.2, np.random.default_rng(1)))
    expect(
        "labels with 50, 20 and 10 of each class, share 0.2: shape of the row numbers",
        list(rows.shape),
        [16],
    )
    expect(
        "labels with 50, 20 and 10 of each class, share 0.2: rows of each class",
        np.bincount(labels[rows]),
        [10, 4, 2],
    )
    expect("the same: sorted, different row numbers", rows.tolist(), sorted(set(rows.tolist())))
    if np.array_equal(rows, function(labels, 0.2, np.random.default_rng(2))):
        pytest.fail(
            "two generators, share 0.2\nexpected: two different draws\ngot:      the same rows",
            pytrace=False,
        )


def order_features(function: Callable) -> None:
    task = story_task("ending", 0, 1000, 30, 500)
    scores = []
    for features in (str.split, function):
        counter = make_pipeline(
            CountVectorizer(analyzer=features), LogisticRegression(C=1.0, max_iter=1000)
        )
        fitted = counter.fit(task.train.texts, task.train.labels)
        scores.append(fitted.score(task.test.texts, task.test.labels))
    if scores[1] <= 0.8:
        pytest.fail(
            "logistic regression on your features, 500 unseen stories\nexpected: more than 80 %"
            f" (plain words: {scores[0]:.1%})\ngot:      {scores[1]:.1%}",
            pytrace=False,
        )


CHECKS = [
    last_real_token,
    majority_accuracy,
    merged_weight,
    balanced_weights,
    calibration_gap,
    bootstrap_interval,
    mcnemar_p,
    stratified_rows,
    order_features,
]
