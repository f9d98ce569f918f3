"""Questions in two steps. Oracles: the true world, and the two questions asked one by one by
hand.
"""

import numpy as np
import pytest
import torch

from ch01_text import BPETokenizer
from ch01_text.storyworld import stories
from ch01_text.storyworld.words import PEOPLE, PLACES
from ch03_gpt import GPTModel, pick_precision, preset_config
from ch05_classification import GPTClassifier, classify, encode_examples, predict_logits, story_task
from ch05_classification.examples import Examples
from ch05_classification.saved import Choice
from ch05_classification.steps import ask_for_the_place, both_steps, predict

CPU = pick_precision(torch.device("cpu"), "float32")
CLASSES = ("mill", "lake", "Tom", "Nora", "nobody")
TEXTS = [
    "Tom has a ring.\nQ: Who has the ring?\nA:",
    "Nora sat by the lake.\nQ: Who has the bell?\nA:",
    "Nora gave Tom a hat at the mill.\nQ: Who has the hat?\nA:",
]


@pytest.fixture(scope="module")
def tokenizer() -> BPETokenizer:
    return BPETokenizer.train([story.text for story in stories(50)], 400)


@pytest.fixture(scope="module")
def classifier(tokenizer) -> GPTClassifier:
    torch.manual_seed(0)
    model = GPTModel(preset_config("tiny", vocab_size=tokenizer.n_vocab, context_length=128))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(3)  # so that texts make a difference to an untrained model
    return GPTClassifier(model, len(CLASSES)).eval()


def test_the_rows_hold_both_steps_with_the_worlds_answers():
    task = story_task("place", 0, 150, 30, 60)
    rows = both_steps("place", task.train, task.classes)
    assert len(rows) == 2 * len(task.train)
    asked = [
        (story, question)
        for story in stories(150, split="train", seed=0)
        for question in story.questions
        if question.kind == "where-thing"
    ][:150]
    assert len(asked) == 150
    for number, (story, question) in enumerate(asked):
        world, thing = story.world(question), question.about
        holder = world.holder(thing) or "nobody"
        assert task.classes[rows.labels[number]] == holder
        assert task.classes[rows.labels[150 + number]] == world.place(thing)
        wanted = holder if holder != "nobody" else f"the {thing}"
        told = f"{story.told(question)}\nQ: Who has the {thing}?\nA:"
        assert rows.texts[number] == told
        assert rows.texts[150 + number] == f"{told} {holder}\nQ: Where is {wanted}?\nA: the"
    assert {task.classes[label] for label in task.test.labels} <= set(PLACES)
    assert {task.classes[label] for label in task.test.first} <= {*PEOPLE, "nobody"}


def test_a_task_in_one_step_is_left_as_it_is():
    task = story_task("holder", 0, 60, 20, 20)
    assert both_steps("holder", task.train, task.classes) is task.train
    assert task.train.first is None


def test_the_second_question_is_about_the_own_first_answer(classifier, tokenizer):
    """Oracle: one text after the other, each asked twice."""
    logits, truncated = predict("place", classifier, tokenizer, TEXTS, CLASSES, "last", CPU)

    def ask(text: str) -> np.ndarray:
        encoded = encode_examples(tokenizer, Examples([text], np.zeros(1, int)), 128, "last")
        return predict_logits(classifier, encoded, CPU)

    answers = [CLASSES[int(ask(text).argmax())] for text in TEXTS]
    assert len(set(answers)) > 1
    for row, text, answer in zip(logits, TEXTS, answers, strict=True):
        np.testing.assert_allclose(row, ask(ask_for_the_place(text, answer))[0], atol=1e-5)
    assert truncated == 0
    once, _ = predict("holder", classifier, tokenizer, TEXTS, CLASSES, "last", CPU)
    np.testing.assert_allclose(once, np.concatenate(list(map(ask, TEXTS))), atol=1e-5)
    choice = Choice("place", CLASSES, None, "last")
    names, _ = classify(TEXTS, classifier, tokenizer, choice, CPU)
    assert names == [CLASSES[number] for number in logits.argmax(axis=1)]


def test_a_text_without_the_question_is_refused(classifier, tokenizer):
    with pytest.raises(ValueError, match="must end in a question like 'Q: Who has the ring"):
        classify(
            ["Tom has a ring."], classifier, tokenizer, Choice("place", CLASSES, None, "last"), CPU
        )
