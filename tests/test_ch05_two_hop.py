"""Two-hop questions. Oracles: the true world, and the two hops asked one by one by hand."""

import numpy as np
import pytest
import torch

from ch01_text import CharTokenizer
from ch01_text.storyworld import stories
from ch01_text.storyworld.words import PEOPLE, PLACES
from ch03_gpt import GPTModel, pick_precision, preset_config
from ch05_classification import (
    ClassifierConfig,
    ClassifierMetadata,
    GPTClassifier,
    LabelledTexts,
    classify,
    predict_logits,
    tokenize,
)
from ch05_classification.story_tasks import ask_for_the_place, story_task
from ch05_classification.two_hop import predict, with_second_hop

CPU = pick_precision(torch.device("cpu"), "float32")
CLASSES = ("mill", "lake", "Tom", "Nora", "nobody")
TEXTS = ["Tom has a ring", "Nora sat by the lake, so who has the bell?", "A hat at the mill."]


def where_is(text: str, answer: str) -> str:
    """A follow-up question."""
    return f"{text} {answer}. Where is {answer}?"


@pytest.fixture(scope="module")
def tokenizer() -> CharTokenizer:
    return CharTokenizer.train(where_is(" ".join(TEXTS), " ".join(CLASSES)))


@pytest.fixture(scope="module")
def classifier(tokenizer) -> GPTClassifier:
    torch.manual_seed(3)
    model = GPTModel(preset_config("tiny", vocab_size=tokenizer.n_vocab, context_length=128))
    made = GPTClassifier(model, len(CLASSES))
    torch.nn.init.normal_(made.head.weight)  # so that untrained logits differ from text to text
    return made.eval()


def test_the_rows_hold_both_hops_with_the_worlds_answers():
    task = story_task("place", 0, 150, 30, 60)
    rows = with_second_hop(task.train, task.classes, task.follow_up)
    assert len(rows) == 2 * len(task.train)
    pairs = [
        (story, question)
        for story in stories(150, split="train", seed=0)
        for question in story.questions
        if question.kind == "where-thing"
    ][:150]
    assert len(pairs) == 150
    for number, (story, question) in enumerate(pairs):
        world, thing = story.world(question), question.about
        holder = world.holder(thing) or "nobody"
        assert task.classes[rows.labels[number]] == holder
        assert task.classes[rows.labels[150 + number]] == world.place(thing)
        wanted = holder if holder != "nobody" else f"the {thing}"
        first = f"{story.told(question)}\nQ: Who has the {thing}?\nA:"
        assert rows.texts[number] == first
        assert rows.texts[150 + number] == f"{first} {holder}\nQ: Where is {wanted}?\nA: the"
    assert {task.classes[label] for label in task.test.labels} <= set(PLACES)
    assert {task.classes[label] for label in task.test.first_hop} <= {*PEOPLE, "nobody"}


def test_a_task_with_one_hop_is_left_as_it_is():
    task = story_task("holder", 0, 60, 20, 20)
    assert with_second_hop(task.train, task.classes, task.follow_up) is task.train
    assert task.train.first_hop is None


def test_the_second_hop_reads_the_own_first_answer(classifier, tokenizer):
    """Oracle: one text after the other, two forward passes each."""

    def logits_of(text: str) -> np.ndarray:
        dataset = tokenize(tokenizer, LabelledTexts([text], np.zeros(1, int)), 128)
        return predict_logits(classifier, dataset, CPU)

    answers = [CLASSES[int(logits_of(text).argmax())] for text in TEXTS]
    assert len(set(answers)) > 1
    logits, n_truncated = predict(classifier, tokenizer, TEXTS, CLASSES, "last", CPU, where_is)
    for row, text, answer in zip(logits, TEXTS, answers, strict=True):
        np.testing.assert_allclose(row, logits_of(where_is(text, answer))[0], atol=1e-5)
    assert n_truncated == 0
    once, _ = predict(classifier, tokenizer, TEXTS, CLASSES, "last", CPU)
    np.testing.assert_allclose(once, np.concatenate(list(map(logits_of, TEXTS))), atol=1e-5)
    metadata = ClassifierMetadata(CLASSES, "last", 1.0, ClassifierConfig())
    names, _ = classify(TEXTS, classifier, tokenizer, metadata, CPU, where_is)
    assert names == [CLASSES[number] for number in logits.argmax(axis=1)]


def test_a_text_without_the_question_is_refused():
    with pytest.raises(ValueError, match="must end in a question like 'Q: Who has the ring"):
        ask_for_the_place("Tom has a ring.", "Tom")
