"""Baselines for a language model to beat: bag-of-words classifiers, fitted on the same training
rows.
"""

from dataclasses import dataclass

import numpy as np
from sklearn.dummy import DummyClassifier
from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import MultinomialNB
from sklearn.pipeline import Pipeline, make_pipeline

from ch05_classification.dataset import Task

# inverse regularization strengths of logistic regression; the best on validation rows is used
STRENGTHS = (1.0, 10.0, 100.0)
WORDS = {"token_pattern": r"(?u)\b\w\w+\b"}
CHARACTERS = {"analyzer": "char_wb", "ngram_range": (2, 5), "sublinear_tf": True}
# With this many classes, several regressions, or one on characters, would take minutes.
MANY_CLASSES = 20
WORD_COUNTERS = ("naive Bayes", "TF-IDF words", "TF-IDF characters")


@dataclass(frozen=True)
class Baseline:
    """A simple classifier's predictions for the test rows."""

    name: str
    predicted: np.ndarray  # (n_test,) class numbers


def _regression(features: dict, strength: float) -> Pipeline:
    return make_pipeline(TfidfVectorizer(**features), LogisticRegression(C=strength, max_iter=1000))


def _best_regression(task: Task, features: dict, strengths: tuple[float, ...]) -> Pipeline:
    candidates = [
        _regression(features, strength).fit(task.train.texts, task.train.labels)
        for strength in strengths
    ]
    return max(candidates, key=lambda model: model.score(task.val.texts, task.val.labels))


def fit_baselines(task: Task) -> list[Baseline]:
    """Predictions for the test rows by the majority class, naive Bayes on word counts, logistic
    regression on TF-IDF of words and of character n-grams, and the task's own shortcuts.
    """
    from threadpoolctl import threadpool_limits

    few = len(task.classes) < MANY_CLASSES
    texts, labels = task.train.texts, task.train.labels
    with threadpool_limits(1):  # threads only slow down problems as small as these
        majority = DummyClassifier().fit(texts, labels)
        models = {
            "naive Bayes": make_pipeline(CountVectorizer(), MultinomialNB()).fit(texts, labels),
            "TF-IDF words": _best_regression(task, WORDS, STRENGTHS if few else STRENGTHS[:1]),
        }
        if few:
            models["TF-IDF characters"] = _best_regression(task, CHARACTERS, STRENGTHS[1:])
        return [
            Baseline("majority", majority.predict(task.test.texts)),
            *(Baseline(name, model.predict(task.test.texts)) for name, model in models.items()),
            *(Baseline(name, predicted) for name, predicted in task.shortcuts.items()),
        ]
