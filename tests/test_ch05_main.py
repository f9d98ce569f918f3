"""Chapter 5's command as a user meets it: metrics, files, classifying, ablation, wrong inputs."""

import io
import json
import os
import re
import runpy
import subprocess
import sys
from dataclasses import fields
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from ch01_text import BPETokenizer
from ch01_text.storyworld import stories
from ch03_gpt import GPTModel, pick_precision, preset_config
from ch04_pretraining import save_checkpoint
from ch05_classification import (
    ClassifierConfig,
    calibration_error,
    classify,
    load_classifier,
    make_task,
    read_table,
    run_task,
    sms_task,
)
from ch05_classification.ablations import few_labels
from ch05_classification.base_model import find_base_model
from ch05_classification.main import main
from ch05_classification.story_tasks import story_task

SCRIPT = Path(__file__).parent.parent / "ch05_classification" / "main.py"


def run(*arguments: object) -> None:
    """The command with these arguments, in this process, where everything is imported already."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [str(SCRIPT), *map(str, arguments)])
        runpy.run_path(str(SCRIPT), run_name="__main__")


def test_the_command_offers_every_flag_and_the_everyday_ones_first(capsys):
    """Oracle: the fields of the config, and the flags that the contract promises."""
    with pytest.raises(SystemExit, match="0"):
        run("--help")
    first, more = capsys.readouterr().out.split("more options")
    flags = [re.findall(r"^[│| ]*(--[a-z][a-z-]*)", part, re.MULTILINE) for part in (first, more)]
    everyday = "task from lora-rank epochs train-rows seed run device classify repeats ablation"
    assert set(flags[0]) == {f"--{name}" for name in everyday.split()}
    config = {f"--{field.name.replace('_', '-')}" for field in fields(ClassifierConfig)}
    assert config - {"--start"} <= {*flags[0], *flags[1]}
    assert "--dtype" in flags[1]


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
def tiny(table, tmp_path_factory) -> Path:
    """The checkpoint of an untrained tiny model that knows the letters of the table."""
    folder = tmp_path_factory.mktemp("tiny") / "checkpoint"
    tokenizer = BPETokenizer.train(pd.read_csv(table)["text"].tolist(), 300)
    torch.manual_seed(0)
    model = GPTModel(preset_config("tiny", vocab_size=tokenizer.n_vocab, context_length=64))
    save_checkpoint(folder, model, tokenizer)
    return folder


@pytest.fixture(scope="module")
def trained(table, tiny, tmp_path_factory) -> Path:
    """The run folder of a classifier of three classes."""
    folder = tmp_path_factory.mktemp("run")
    run(
        "--task",
        table,
        "--from",
        tiny,
        "--epochs",
        "8",
        "--lr",
        "0.003",
        "--dtype",
        "float32",
        "--run",
        folder,
    )
    return folder


def test_the_command_leaves_what_the_contract_promises(trained, tiny):
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
        f"ours ({tiny})",
    ]
    written = {path.name for path in folder.iterdir()}
    pictures = {"training.png", "confusion.png", "reliability.png", "table.png"}
    assert {*pictures, "misclassified.csv", "classifier"} <= written
    assert metrics["accuracy"] > 0.8  # one word of nine decides


def test_texts_are_classified_by_what_was_saved(trained, capsys, monkeypatch):
    run("--classify", "lovely day number 500", "--run", trained)
    assert capsys.readouterr().out.startswith("good ")
    two = "awful day number 500\n\nweird day number 500\n"
    monkeypatch.setattr(sys, "stdin", io.StringIO(two))
    run("--classify", "-", "--run", trained)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["bad", "odd"]
    with pytest.raises(SystemExit, match="a text is empty"):
        run("--classify", " ", "--run", trained)


def test_a_saved_classifier_says_the_same(trained, table):
    """Oracle: accuracy and calibration that the training process measured on the test rows."""
    folder = trained / "ch05_classification"
    metrics = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    classifier, tokenizer, metadata = load_classifier(folder / "classifier")
    test = make_task("mood", *read_table(table, "text", "label"), metadata.config.seed).test
    precision = pick_precision(torch.device("cpu"), "float32")
    names, probabilities = classify(test.texts, classifier, tokenizer, metadata, precision)
    right = np.array(names) == np.array(metadata.classes)[test.labels]
    assert right.mean() == metrics["accuracy"]
    assert calibration_error(probabilities, test.labels) == pytest.approx(
        metrics["calibration_error_scaled"], abs=1e-4
    )
    assert metadata.temperature != 1


def test_a_classifier_with_another_tokenizer_is_refused(trained, tmp_path):
    folder = trained / "ch05_classification" / "classifier"
    for file in folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    BPETokenizer.train("another text, quite short", 270).save(tmp_path)
    with pytest.raises(ValueError, match="they are not from the same run"):
        load_classifier(tmp_path)
    (tmp_path / "classifier.json").write_text('{"classes": ["a", "b"]}', encoding="utf-8")
    with pytest.raises(ValueError, match="other settings than this version"):
        load_classifier(tmp_path)
    (tmp_path / "classifier.json").unlink()
    with pytest.raises(FileNotFoundError, match="train one with ch05"):
        load_classifier(tmp_path)


@pytest.fixture(scope="module")
def story_run(tmp_path_factory) -> Path:
    """A run folder with an untrained story model."""
    folder = tmp_path_factory.mktemp("stories")
    tokenizer = BPETokenizer.train([story.text for story in stories(100)], 400)
    torch.manual_seed(0)
    model = GPTModel(preset_config("tiny", vocab_size=tokenizer.n_vocab, context_length=128))
    (folder / "ch04_pretraining").mkdir()
    save_checkpoint(folder / "ch04_pretraining" / "checkpoint", model, tokenizer)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("task", ["place", "ending"])
def test_story_tasks_run_with_lora(task, story_run, monkeypatch):
    few = partial(story_task, n_val=40, n_test=200)
    monkeypatch.setattr("ch05_classification.main.story_task", few)
    config = ClassifierConfig(task=task, lora_rank=2, train_rows=200, epochs=1)
    metrics = main(config, run=story_run)
    assert metrics["n_test"] == 200
    assert metrics["n_train"] == 200
    assert metrics["shortcut_accuracy"] > 0.1
    assert metrics["truncated"] > 0  # 128 tokens are short for a story
    assert metrics["trained_parameters"] < 15_000
    assert (story_run / "ch05_classification" / "adapter.safetensors").stat().st_size < 80_000
    load_classifier(story_run / "ch05_classification" / "classifier")
    assert ("threshold" in metrics) == (task == "ending")
    if task == "place":  # its second hop needs the question
        with pytest.raises(ValueError, match="must end in a question"):
            main(classify="Tom has a ring.", run=story_run)


@pytest.mark.slow
def test_ablation_and_repeats(table, tiny, tmp_path, capsys):
    run("--task", table, "--ablation", "--from", tiny, "--epochs", "0.1", "--run", tmp_path)
    found = pd.read_csv(tmp_path / "ch05_classification" / "ablation.csv")
    assert {"which token", "what learns", "which width", "labels"} == set(found["question"])
    assert found.groupby("question").size().min() >= 2
    assert (tmp_path / "ch05_classification" / "ablation.png").stat().st_size > 10_000
    assert "LoRA 16" in capsys.readouterr().out
    config = ClassifierConfig(task=table, start="scratch", epochs=0.1)
    metrics = main(config, repeats=2, run=tmp_path)
    assert len(metrics["repeats"]) == 2


@pytest.mark.slow
def test_pretraining_on_the_task_reads_its_training_texts_alone(table, tmp_path):
    texts, labels = read_table(table, "text", "label")
    task = make_task("mood", texts, labels, 0)
    config = ClassifierConfig(task="mood", pretrain_steps=2, seed=0)
    model, tokenizer = find_base_model(task, config, tmp_path)
    assert model.config.vocab_size == tokenizer.n_vocab
    lines = (tmp_path / "mood-0" / "texts.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["text"] for line in lines] == task.train.texts
    assert (tmp_path / "mood-0" / "ch04_pretraining" / "checkpoint").is_dir()


@pytest.mark.slow
@pytest.mark.skipif(
    not os.environ.get("LLM_COMPANION_DATA"),
    reason="LLM_COMPANION_DATA does not name the folder of SMSSpamCollection",
)
def test_a_model_of_the_messages_helps_to_find_spam(tmp_path):
    """A few steps of pretraining and an epoch of labels beat the majority (86.6 %)."""
    task = few_labels(sms_task(False, 0), 1500, 0)
    config = ClassifierConfig(
        task="sms-spam", epochs=1, evals_per_epoch=1, pretrain_steps=25, seed=0
    )
    precision = pick_precision(torch.device("cpu"))
    result = run_task(task, *find_base_model(task, config, tmp_path), config, precision)
    assert (result.predicted == task.test.labels).mean() > 0.95


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"task": "nope"}, "there is no task 'nope'; choose holder, place, ending, sms-spam"),
        ({"text_column": "body"}, "has no column 'body'"),
        ({"epochs": 0}, "--epochs must be a positive number, not 0"),
        ({"train_rows": -5}, "--train-rows must be a positive number, not -5"),
        ({"lora_rank": -1}, "--lora-rank must be 0 (no LoRA) or more"),
        ({"lora_rank": 2, "trainable": "head"}, "leave --trainable out"),
        ({"start": "no/such/place"}, "is no folder, and no Hub repository"),
        ({"test": "missing.csv"}, "missing.csv"),
        ({"task": "holder", "test": "x.csv"}, "has test rows of its own"),
    ],
)
def test_wrong_input_is_refused_before_any_work(table, tmp_path, given, words):
    with pytest.raises((ValueError, OSError)) as caught:
        main(ClassifierConfig(**{"task": table} | given), run=tmp_path / "run")
    assert words in str(caught.value)
    assert not (tmp_path / "run" / "ch05_classification").exists()


def test_without_a_classifier_nothing_is_classified(tmp_path):
    with pytest.raises(OSError, match="there is no classifier in"):
        main(classify="hello", run=tmp_path)


def test_a_refusal_is_one_line(table, tmp_path):
    command = [sys.executable, str(SCRIPT), "--task", str(table), "--label-column", "mood"]
    result = subprocess.run(
        [*command, "--run", str(tmp_path / "run")], capture_output=True, text=True, check=False
    )
    assert result.returncode == 1
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1
