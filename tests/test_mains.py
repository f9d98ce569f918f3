"""The commands of chapters 1 and 4 and the report as a user meets them: metrics, files,
resuming, wrong inputs.
"""

import json
import re
import signal
import subprocess
import sys
import time
from dataclasses import fields
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from ch01_text.run import command_line
from ch04_pretraining import PretrainConfig, ensure_pretrained

ROOT = Path(__file__).parent.parent
CH04 = ["ch04_pretraining/main.py", "--tokenizer", "char", "--preset", "tiny", "--batch-size", "2"]


@pytest.fixture(scope="module")
def text(tmp_path_factory) -> str:
    path = tmp_path_factory.mktemp("text") / "text.txt"
    path.write_text(
        "The quick brown fox jumps over the lazy dog, and then it sleeps. " * 300, encoding="utf-8"
    )
    return str(path)


def run(*arguments: str, ok: bool = True) -> subprocess.CompletedProcess:
    command = [sys.executable, *map(str, arguments)]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (result.returncode == 0) is ok, result.stderr
    return result


def metrics_of(folder: Path) -> dict:
    return json.loads((folder / "metrics.json").read_text(encoding="utf-8"))


def test_ch01_leaves_metrics_a_plot_and_a_tokenizer(text, tmp_path):
    output = run(
        "ch01_text/main.py", "--data", text, "--vocab-size", "290", "--run", tmp_path
    ).stdout
    assert "our BPE" in output
    metrics = metrics_of(tmp_path / "ch01_text")
    assert metrics["vocab_size"] == 290
    assert metrics["n_chars"] == 19_500
    assert metrics["n_tokens"] * 1.2 < metrics["n_chars"]
    assert (
        min(metrics[name] for name in ("chars_per_token", "train_seconds", "encode_mb_per_s")) > 0
    )
    assert {"compression.png", "tokenizer.json"} <= {
        path.name for path in (tmp_path / "ch01_text").iterdir()
    }


def test_main_takes_a_path_as_well(text, tmp_path):
    from ch01_text.main import main

    assert main(Path(text), 290, run=tmp_path)["data"] == text
    assert metrics_of(tmp_path / "ch01_text")["data"] == text


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--data", "nope"], "there is no text 'nope'; choose shakespeare, storyworld"),
        (["--data", "README.md", "--vocab-size", "100"], "below the 256 bytes"),
        (["--data", "README.md", "--vocab-size", "90000"], "above what this text supports"),
    ],
)
def test_ch01_refuses_wrong_input(refusal, tmp_path, arguments, words):
    assert words in refusal("ch01_text/main.py", *arguments, "--run", tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_what_is_no_number_is_refused(tmp_path):
    result = run(
        "ch01_text/main.py",
        "--data",
        "LICENSE",
        "--vocab-size",
        "many",
        "--run",
        tmp_path / "run",
        ok=False,
    )
    assert "many" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.fixture(scope="module")
def trained(text, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    run(*CH04, "--data", text, "--steps", "30", "--run", folder)
    return folder


def test_ch04_leaves_what_the_contract_promises(trained):
    folder = trained / "ch04_pretraining"
    metrics = metrics_of(folder)
    assert metrics["steps"] == 30
    assert metrics["tokens"] == 30 * 2 * 64
    for name in (
        "val_loss",
        "val_bits_per_byte",
        "train_loss",
        "seconds",
        "tokens_per_s",
        "mfu",
        "best_val_loss",
    ):
        assert metrics[name] > 0, name
    assert 0 <= metrics["copied_8grams"] <= 1
    assert metrics["copied_8grams_held_out"] == 1  # the text repeats one sentence
    assert metrics["samples"][-1]["step"] == 30
    assert {path.name for path in (folder / "checkpoint").iterdir()} == {
        "model.safetensors",
        "config.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "train_state.pt",
    }
    log = [
        json.loads(line) for line in (folder / "log.jsonl").read_text(encoding="utf-8").splitlines()
    ]
    assert [entry["step"] for entry in log] == [10, 20, 30]
    assert log[-1]["train_loss"] < log[0]["train_loss"]
    assert (
        min(
            (folder / name).stat().st_size
            for name in ("losses.png", "dashboard.png", "samples.png")
        )
        > 5000
    )
    assert {path.name for path in (folder / "best").iterdir()} == {
        "model.safetensors",
        "config.json",
        "tokenizer.json",
        "tokenizer_config.json",
    }
    assert all(len(entry["layers"]) == 6 and len(entry["activations"]) == 2 for entry in log)


def test_the_report_shows_a_classifier(tmp_path):
    folder = tmp_path / "ch05_classification"
    folder.mkdir()
    (folder / "metrics.json").write_text(
        json.dumps(
            {
                "accuracy": 0.547,
                "n_test": 1000,
                "ci95_low": 0.516,
                "ci95_high": 0.577,
                "baseline_accuracy": 0.337,
                "shortcut_accuracy": 0.345,
                "settings": {"task": "holder"},
                "wall_seconds": 120.0,
            }
        ),
        encoding="utf-8",
    )
    run("ch07_practice/main.py", "report", "--run", tmp_path)
    text = (tmp_path / "report.md").read_text(encoding="utf-8")
    assert "Classification on holder" in text
    assert (
        "54.7% of 1,000 test rows right (51.6% to 57.7%); best bag of words 33.7%, best"
        " shortcut 34.5%" in text
    )


def test_the_report_shows_every_stage(refusal, trained):
    run("ch07_practice/main.py", "report", "--run", trained)
    page = (trained / "report.html").read_text(encoding="utf-8")
    assert "Pretraining on" in page
    assert page.count("data:image/png;base64,") == 3  # losses, dashboard, samples
    # in a picture's base64, "http" can stand by chance
    links = re.findall(r'(?:src|href)="([^"]*)"', page)
    assert links and all(link.startswith(("data:image/png;base64,", "../")) for link in links)
    assert "://" not in page
    assert "![losses](ch04_pretraining/losses.png)" in (trained / "report.md").read_text(
        encoding="utf-8"
    )
    summary = json.loads((trained / "report.json").read_text(encoding="utf-8"))
    assert [stage["chapter"] for stage in summary["stages"]] == ["ch04_pretraining"]
    assert "there are no results in" in refusal(
        "ch07_practice/main.py", "report", "--run", trained / "nothing"
    )


def test_ch04_offers_every_flag_and_the_everyday_ones_first(monkeypatch, capsys):
    """Oracle: the fields of the config, and the flags that DESIGN.md promises."""
    from ch04_pretraining.main import main

    monkeypatch.setattr(sys, "argv", ["main.py", "--help"])
    with pytest.raises(SystemExit, match="0"):
        command_line(main)
    first, more = capsys.readouterr().out.split("more options")
    flags = [re.findall(r"^[│| ]*(--[a-z][a-z-]*)", part, re.MULTILINE) for part in (first, more)]
    promised = "data tokenizer preset tokens steps seconds init seed resume run device recipe"
    assert set(flags[0]) == {f"--{name}" for name in promised.split()}
    assert {"--optimizer", "--lr", "--dtype", "--compile", "--strategy", "--batch-size"} < set(
        flags[1]
    )
    config = {f"--{field.name.replace('_', '-')}" for field in fields(PretrainConfig)}
    assert config <= {*flags[0], *flags[1]}


def test_a_model_that_is_missing_is_pretrained_once(text, tmp_path, capsys):
    config = PretrainConfig(Path(text), "char", "tiny", steps=2, batch_size=2)
    checkpoint = ensure_pretrained(tmp_path, config)
    assert checkpoint == tmp_path / "ch04_pretraining" / "checkpoint"
    made = (checkpoint / "model.safetensors").stat().st_mtime_ns
    assert "there is no model in" in capsys.readouterr().err
    assert ensure_pretrained(tmp_path, config) == checkpoint
    assert (checkpoint / "model.safetensors").stat().st_mtime_ns == made
    assert metrics_of(tmp_path / "ch04_pretraining")["settings"]["data"] == text


@pytest.mark.slow
def test_ch04_reads_a_folder_and_writes_for_tensorboard(text, tmp_path):
    """A folder is tokenized once into the run folder; a file in it that is no text is refused by
    name.
    """
    pytest.importorskip("tensorboard")
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    lines = Path(text).read_text(encoding="utf-8")
    (corpus / "a.txt").write_text(lines[:8000], encoding="utf-8")
    (corpus / "b.jsonl").write_text(json.dumps({"text": lines[:3000]}) + "\n", encoding="utf-8")
    plan = [*CH04, "--data", corpus, "--steps", "10", "--run", tmp_path / "run"]
    run(*plan, "--tensorboard")
    folder = tmp_path / "run" / "ch04_pretraining"
    assert {path.name for path in (folder / "tokens").iterdir()} == {
        "index.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "train-00000.npy",
        "val-00000.npy",
    }
    assert any((folder / "tensorboard").glob("events.*"))
    tokenized = (folder / "tokens" / "index.json").stat().st_mtime_ns
    run(*plan[:-4], "--steps", "20", "--run", tmp_path / "run", "--resume")
    assert (folder / "tokens" / "index.json").stat().st_mtime_ns == tokenized
    assert metrics_of(folder)["steps"] == 20
    (corpus / "c.txt").write_bytes(b"caf\xe9")
    assert "c.txt is not UTF-8 text" in run(*plan, ok=False).stderr


@pytest.mark.slow
def test_budgets_are_said_with_the_passes_over_the_text_and_what_ended_the_run(text, tmp_path):
    """Oracle: counting. 19,500 characters, a tenth held out; a step is 2 windows of 64."""
    plan = [*CH04, "--data", text, "--run", tmp_path, "--tokens", "200_000"]
    output = run(*plan, "--seconds", "0.3").stdout
    assert "until 1,562 steps or 0.3 s of training, whichever comes first" in output
    assert "11.4 times the text (after about 4 times, repeated text teaches less" in output
    assert "ended by its seconds" in output
    metrics = metrics_of(tmp_path / "ch04_pretraining")
    assert metrics["ended_by"] == "seconds"
    more = str(metrics["tokens"] + 1280)
    output = run(*plan[:-1], more, "--resume").stdout
    assert f"resumed at step {metrics['steps']:,}, {metrics['tokens']:,} tokens" in output
    assert metrics_of(tmp_path / "ch04_pretraining")["steps"] == metrics["steps"] + 10
    assert metrics_of(tmp_path / "ch04_pretraining")["ended_by"] == "tokens"
    assert "nothing left to do" in run(*plan[:-1], more, "--resume").stdout


@pytest.mark.slow
def test_ctrl_c_saves_and_resume_ends_like_an_uninterrupted_run(text, tmp_path):
    """Oracle: the weights of the same run without an interruption."""
    plan = [*CH04, "--data", text, "--steps", "400", "--dtype", "float32"]
    run(*plan, "--run", tmp_path / "whole")
    process = subprocess.Popen(
        [sys.executable, *plan, "--run", str(tmp_path / "cut")],
        cwd=ROOT,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    log = tmp_path / "cut" / "ch04_pretraining" / "log.jsonl"
    while process.poll() is None and not (log.exists() and log.read_text(encoding="utf-8")):
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate()
    assert process.returncode == 130, errors
    assert "--resume" in output
    assert "Traceback" not in errors
    assert not (tmp_path / "cut" / "ch04_pretraining" / "metrics.json").exists()
    assert (
        "begun with optimizer=muon, not adamw"
        in run(
            *plan, "--optimizer", "adamw", "--resume", "--run", tmp_path / "cut", ok=False
        ).stderr
    )
    run(*plan, "--resume", "--run", tmp_path / "cut")
    weights = [
        load_file(tmp_path / name / "ch04_pretraining" / "checkpoint" / "model.safetensors")
        for name in ("whole", "cut")
    ]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


@pytest.mark.slow
def test_ch04_starts_from_other_weights(text, trained, tmp_path):
    """Oracle: after one tiny step the held-out loss is about that of the weights it started
    from.
    """
    checkpoint = str(trained / "ch04_pretraining" / "checkpoint")
    run(
        CH04[0],
        "--data",
        text,
        "--init",
        checkpoint,
        "--steps",
        "1",
        "--lr",
        "1e-5",
        "--run",
        tmp_path,
    )
    before, after = (
        metrics_of(folder / "ch04_pretraining")["val_loss"] for folder in (trained, tmp_path)
    )
    assert after < before + 0.3


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--data", "nope"], "there is no text 'nope'"),
        (["--recipe", "cake"], "unknown recipe 'cake'; choose one of storyworld"),
        (["--preset", "huge"], "unknown preset 'huge'; choose one of gpt2-124m"),
        (["--tokenizer", "nonsense"], "nonsense is no folder with a tokenizer.json"),
        (["--resume"], "there is nothing to resume"),
        (["--batch-size", "-3"], "--batch-size must be a positive number, not -3"),
        (["--lr", "0"], "--lr must be a positive number, not 0"),
        (["--lr", "nan"], "--lr must be a positive number, not nan"),
        (["--tokens", "0"], "--tokens must be a positive number, not 0"),
        (["--tokens", "-5"], "--tokens must be a positive number, not -5"),
        (["--seconds", "nan"], "--seconds must be a positive number, not nan"),
        (["--seconds", "inf"], "--seconds must be a positive number, not inf"),
        (["--init", "no/such/place"], "is no folder, and no Hub repository"),
    ],
)
def test_ch04_refuses_wrong_input(refusal, text, tmp_path, arguments, words):
    assert words in refusal(
        *CH04, "--data", text, "--steps", "2", *arguments, "--run", tmp_path / "run"
    )
    assert not (tmp_path / "run").exists()


def test_ch04_refuses_a_text_shorter_than_one_window(refusal, tmp_path):
    (tmp_path / "short.txt").write_text("too short", encoding="utf-8")
    message = refusal(*CH04, "--data", tmp_path / "short.txt", "--run", tmp_path / "run")
    assert "one window needs 65" in message
    assert not (tmp_path / "run").exists()


def test_ch04_refuses_weights_of_another_vocabulary(refusal, trained, text, tmp_path):
    checkpoint = trained / "ch04_pretraining" / "checkpoint"
    other = tmp_path / "other"
    other.mkdir()
    for file in checkpoint.iterdir():
        (other / file.name).write_bytes(file.read_bytes())
    saved = json.loads((checkpoint / "tokenizer.json").read_text(encoding="utf-8"))
    saved["added_tokens"].append({"id": len(saved["model"]["vocab"]) + 1, "content": "<|more|>"})
    (other / "tokenizer.json").write_text(json.dumps(saved), encoding="utf-8")
    message = refusal(*CH04, "--data", text, "--init", other, "--run", tmp_path / "run")
    assert "they are not from the same run" in message
    assert not (tmp_path / "run").exists()


def test_an_unwritable_run_folder_is_refused_before_training(refusal, text, tmp_path):
    (tmp_path / "file").write_text("in the way", encoding="utf-8")
    assert "cannot create the run folder" in refusal(
        *CH04, "--data", text, "--run", tmp_path / "file"
    )
    assert (tmp_path / "file").read_text(encoding="utf-8") == "in the way"
