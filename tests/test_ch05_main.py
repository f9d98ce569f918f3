"""Chapter 5's command as a user meets it: metrics, files, classifying, ablation, wrong inputs."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import torch

from ch01_text import BPETokenizer
from ch01_text.storyworld import stories
from ch03_gpt import GPTModel, pick_precision, preset_config
from ch04_pretraining import save_checkpoint
from ch05_classification import classify, load_classifier
from ch05_classification.main import main

ROOT = Path(__file__).parent.parent


def run(
    *arguments: object, ok: bool = True, given: str | None = None
) -> subprocess.CompletedProcess:
    command = [sys.executable, "ch05_classification/main.py", *map(str, arguments)]
    result = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, check=False, input=given
    )
    assert (result.returncode == 0) is ok, result.stderr
    return result


@pytest.fixture(scope="module")
def table(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("table") / "mood.csv"
    moods = {"good": "lovely great nice", "bad": "awful dull sad", "odd": "strange queer weird"}
    rows = [
        (f"{words.split()[i % 3]} day number {i}", mood)
        for i in range(120)
        for mood, words in moods.items()
    ]
    pd.DataFrame(rows, columns=["text", "label"]).to_csv(path, index=False)
    return path


@pytest.fixture(scope="module")
def trained(table, tmp_path_factory) -> Path:
    """A classifier of three classes, from scratch, in about ten seconds."""
    folder = tmp_path_factory.mktemp("run")
    run("--task", table, "--from", "scratch", "--epochs", "15", "--lr", "0.002", "--run", folder)
    return folder


def test_the_command_leaves_what_the_contract_promises(trained):
    folder = trained / "ch05_classification"
    metrics = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    assert metrics["n_test"] == 72
    assert 0 <= metrics["ci95_low"] <= metrics["accuracy"] <= metrics["ci95_high"] <= 1
    assert {
        "f1",
        "baseline_accuracy",
        "calibration_error",
        "mcnemar_p",
        "temperature",
        "truncated",
    } <= set(metrics)
    names = [row["classifier"] for row in metrics["table"]]
    assert names == [
        "majority",
        "naive Bayes",
        "TF-IDF words",
        "TF-IDF characters",
        "ours (scratch)",
    ]
    written = {path.name for path in folder.iterdir()}
    pictures = {"training.png", "confusion.png", "reliability.png", "table.png"}
    assert {*pictures, "misclassified.csv", "classifier"} <= written
    assert metrics["accuracy"] > 0.8  # one word of nine decides


@pytest.mark.slow
def test_texts_are_classified_by_what_was_saved(trained):
    result = run("--classify", "lovely day number 500", "--run", trained)
    assert result.stdout.startswith("good ")
    two = "awful day number 500\n\nweird day number 500\n"
    lines = run("--classify", "-", "--run", trained, given=two).stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["bad", "odd"]
    assert "a text is empty" in run("--classify", " ", "--run", trained, ok=False).stderr


def test_a_saved_classifier_says_the_same(trained):
    """Oracle: the probabilities that the training process wrote down for its errors, or the
    classes of its rows.
    """
    classifier, tokenizer, choice = load_classifier(trained / "ch05_classification" / "classifier")
    names, probabilities = classify(
        ["lovely day number 3", "dull day number 7"],
        classifier,
        tokenizer,
        choice,
        pick_precision(torch.device("cpu"), "float32"),
    )
    assert names == ["good", "bad"]
    assert probabilities.sum(axis=1) == pytest.approx([1, 1])


def test_a_classifier_with_another_tokenizer_is_refused(trained, tmp_path):
    folder = trained / "ch05_classification" / "classifier"
    for file in folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    BPETokenizer.train("another text, quite short", 270).save(tmp_path)
    with pytest.raises(ValueError, match="they are not from the same run"):
        load_classifier(tmp_path)
    (tmp_path / "classifier.json").unlink()
    with pytest.raises(FileNotFoundError, match="train one with ch05"):
        load_classifier(tmp_path)


@pytest.fixture(scope="module")
def story_run(tmp_path_factory) -> Path:
    """A run folder with an untrained story model."""
    folder = tmp_path_factory.mktemp("stories")
    tokenizer = BPETokenizer.train([story.text for story in stories(300)], 600)
    torch.manual_seed(0)
    model = GPTModel(preset_config("tiny", vocab_size=tokenizer.n_vocab, context_length=128))
    (folder / "ch04_pretraining").mkdir()
    save_checkpoint(folder / "ch04_pretraining" / "checkpoint", model, tokenizer)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("task", ["holder", "ending"])
def test_story_tasks_run_with_lora(task, story_run):
    metrics = main(task=task, lora_rank=2, rows=200, epochs=1, run=story_run)
    assert metrics["n_test"] == 1000
    assert metrics["n_train"] == 200
    assert metrics["shortcut_accuracy"] > 0.1
    assert metrics["truncated"] > 0  # 128 tokens are short for a story
    assert metrics["trained_parameters"] < 15_000
    assert (story_run / "ch05_classification" / "adapter.safetensors").stat().st_size < 80_000
    load_classifier(story_run / "ch05_classification" / "classifier")
    assert ("threshold" in metrics) == (task == "ending")


@pytest.mark.slow
def test_ablation_and_repeats(table, tmp_path):
    result = run(
        "--task", table, "--ablation", "--epochs", "0.1", "--run", tmp_path, "--pretrain-steps", "4"
    )
    found = pd.read_csv(tmp_path / "ch05_classification" / "ablation.csv")
    assert {"which token", "which mask", "what learns", "which width", "labels"} == set(
        found["question"]
    )
    assert found.groupby("question").size().min() >= 2
    assert (tmp_path / "ch05_classification" / "ablation.png").stat().st_size > 10_000
    assert "LoRA 16" in result.stdout
    metrics = main(task=str(table), start="scratch", epochs=0.1, repeats=2, run=tmp_path)
    assert len(metrics["repeats"]) == 2


@pytest.mark.slow
@pytest.mark.skipif(
    not os.environ.get("LLM_COMPANION_DATA"),
    reason="LLM_COMPANION_DATA does not name the folder of SMSSpamCollection",
)
def test_a_model_of_the_messages_helps_to_find_spam(tmp_path):
    """A few steps of reading and an epoch of labels reach what the majority (86.6 %) does not."""
    from ch05_classification import TEXTS, run_task, sms_task
    from ch05_classification.base_model import find_base_model

    task = sms_task(False, 0)
    precision = pick_precision(torch.device("cpu"))
    model, tokenizer = find_base_model(task, "pretrained", tmp_path, 0, steps=60)
    assert (tmp_path / "sms-spam-0" / "ch04_pretraining" / "checkpoint").is_dir()
    read = (tmp_path / "sms-spam-0" / "texts.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["text"] for line in read] == task.train.texts  # no test text was seen
    plan = TEXTS.plan.__class__(epochs=1, lr=5e-4)
    result = run_task(task, model, tokenizer, TEXTS.__class__(plan), precision, 0)
    assert (result.predicted == task.test.labels).mean() > 0.95


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"task": "nope"}, "there is no task 'nope'; choose holder, place, ending, sms-spam"),
        ({"text_column": "body"}, "has no column 'body'"),
        ({"epochs": 0}, "--epochs must be positive, not 0"),
        ({"rows": -5}, "--rows must be positive, not -5"),
        ({"lora_rank": -1}, "--lora-rank must be 0 (no LoRA) or more"),
        ({"lora_rank": 2, "train": "head"}, "leave --train out"),
        ({"start": "no/such/place"}, "is no folder, and no Hub name"),
        ({"test": Path("missing.csv")}, "missing.csv"),
        ({"task": "holder", "test": Path("x.csv")}, "has test rows of its own"),
        ({"classify": "hello"}, "there is no classifier in"),
    ],
)
def test_wrong_input_is_refused_before_any_work(table, tmp_path, given, words):
    with pytest.raises((ValueError, OSError)) as caught:
        main(**{"task": str(table), "run": tmp_path / "run"} | given)
    assert words in str(caught.value)
    assert not (tmp_path / "run" / "ch05_classification").exists()


def test_a_refusal_is_one_line(table, tmp_path):
    result = run("--task", table, "--label-column", "mood", "--run", tmp_path / "run", ok=False)
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1
