"""What a language model has to beat: classifiers that count words, fitted on the same training
rows.
"""

from dataclasses import dataclass

import numpy as np
from sklearn.dummy import DummyClassifier
from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import MultinomialNB
from sklearn.pipeline import Pipeline, make_pipeline

from ch05_classification.examples import Task

STRENGTHS = (1.0, 10.0, 100.0)  # of logistic regression: the best on validation rows is taken
WORDS = {"token_pattern": r"(?u)\b\w\w+\b"}
CHARACTERS = {"analyzer": "char_wb", "ngram_range": (2, 5), "sublinear_tf": True}
# from here on only the weakest regression and no characters: they would take minutes
MANY_CLASSES = 20


WORD_COUNTERS = ("naive Bayes", "TF-IDF words", "TF-IDF characters")


@dataclass(frozen=True)
class Baseline:
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
    """The majority, naive Bayes on word counts, logistic regression on TF-IDF of words and of runs
    of characters, and the task's own shortcuts, each with its answers on the test rows.
    """
    from threadpoolctl import threadpool_limits

    few = len(task.classes) < MANY_CLASSES
    texts, labels = task.train.texts, task.train.labels
    with threadpool_limits(1):  # so small problems only get slower by threads
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
            *(Baseline(name, answers) for name, answers in task.shortcuts.items()),
        ]
