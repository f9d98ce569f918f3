"""Two-hop questions: to find the ring, find out who has it, then where that person is.

The classifier answers the first hop, then reads a second text with its own answer in it (self-ask;
Press et al. 2022). In training the second text holds the true first answer instead. A wrong first
answer therefore leaves the second one right only by luck.
"""

import numpy as np

from ch03_gpt import Precision
from ch05_classification.classifier import GPTClassifier
from ch05_classification.dataset import FollowUp, LabelledTexts
from ch05_classification.encoding import TokenizedDataset, tokenize
from ch05_classification.fine_tuning import predict_logits


def with_second_hop(
    data: LabelledTexts, classes: tuple[str, ...], follow_up: FollowUp | None
) -> LabelledTexts:
    """The rows to train on: both hops of every row, or the rows as they are without a follow-up."""
    if follow_up is None:
        return data
    assert data.first_hop is not None  # a task with a follow-up has labels of the first hop
    answers = [classes[number] for number in data.first_hop]
    second = list(map(follow_up, data.texts, answers))
    return LabelledTexts(data.texts + second, np.concatenate((data.first_hop, data.labels)))


def predict(
    classifier: GPTClassifier,
    tokenizer,
    texts: list[str],
    classes: tuple[str, ...],
    keep: str,
    precision: Precision,
    follow_up: FollowUp | None = None,
) -> tuple[np.ndarray, int]:
    """((n, K) float32 logits of the last hop, number of texts that exceeded the context length).

    ValueError if a text is empty.
    """

    def one_hop(texts: list[str]) -> tuple[np.ndarray, TokenizedDataset]:
        unlabelled = LabelledTexts(texts, np.zeros(len(texts), dtype=np.int64))
        context_length = classifier.model.config.context_length
        dataset = tokenize(tokenizer, unlabelled, context_length, keep)
        return predict_logits(classifier, dataset, precision), dataset

    logits, dataset = one_hop(texts)
    if follow_up is not None:
        answers = [classes[number] for number in logits.argmax(axis=1)]
        logits, dataset = one_hop(list(map(follow_up, texts, answers)))
    return logits, dataset.n_truncated
