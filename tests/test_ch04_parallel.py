"""Two processes over gloo on the CPU against one process with the same global batch."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from safetensors.torch import load_file

from ch03_gpt import GPTConfig, GPTModel
from ch04_pretraining.checkpoint import plain_copy
from ch04_pretraining.parallel import (
    all_reduce_mean,
    get_rank_and_world_size,
    get_world_size,
    init_distributed,
    parallelize,
)

ROOT = Path(__file__).parent.parent
PLAN = ["--tokenizer", "char", "--preset", "tiny", "--batch-size", "8", "--dtype", "float32"]
ALONE = [sys.executable]
TWO = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "--"]


def pretrain(start: list[str], data: Path, folder: Path, *arguments: str, ok: bool = True) -> str:
    command = [
        *start,
        "ch04_pretraining/main.py",
        "--data",
        str(data),
        "--run",
        str(folder),
        *PLAN,
        *arguments,
    ]
    result = subprocess.run(
        command,
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        timeout=300,
    )
    assert (result.returncode == 0) == ok, result.stderr[-3000:]
    return result.stdout if ok else result.stderr


def curve(folder: Path) -> list[float]:
    lines = (folder / "ch04_pretraining" / "log.jsonl").read_text(encoding="utf-8").splitlines()
    return [
        json.loads(line)[name] for line in lines for name in ("train_loss", "grad_norm", "val_loss")
    ]


@pytest.fixture(scope="module")
def text(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("text") / "text.txt"
    path.write_text(
        "It is a truth universally acknowledged, that tests want texts. " * 400, encoding="utf-8"
    )
    return path


@pytest.fixture(scope="module")
def alone(text, tmp_path_factory) -> Path:
    """One process: 10 steps, then resumed to 20."""
    folder = tmp_path_factory.mktemp("alone")
    pretrain(ALONE, text, folder, "--steps", "10", "--optimizer", "adamw")
    pretrain(ALONE, text, folder, "--steps", "20", "--optimizer", "adamw", "--resume")
    return folder


@pytest.mark.slow
@pytest.mark.parametrize(
    ("first", "second"), [("ddp", "single"), ("fsdp", "ddp"), ("single", "fsdp")]
)
def test_two_processes_learn_like_one_and_checkpoints_are_interchangeable(
    text, alone, tmp_path, first, second
):
    """Oracle: one process throughout. Each strategy goes on from another's checkpoint."""
    for strategy, steps, resume in ((first, "10", []), (second, "20", ["--resume"])):
        start = ALONE if strategy == "single" else TWO
        output = pretrain(
            start,
            text,
            tmp_path,
            "--strategy",
            strategy,
            "--steps",
            steps,
            "--optimizer",
            "adamw",
            *resume,
        )
        assert output.count("held-out loss") == 1
    assert curve(tmp_path) == pytest.approx(curve(alone), rel=2e-4)
    ours, theirs = (
        load_file(folder / "ch04_pretraining" / "checkpoint" / "model.safetensors")
        for folder in (tmp_path, alone)
    )
    for name, tensor in theirs.items():
        torch.testing.assert_close(ours[name], tensor, atol=2e-3, rtol=1e-2)
    metrics = json.loads(
        (tmp_path / "ch04_pretraining" / "metrics.json").read_text(encoding="utf-8")
    )
    assert metrics["tokens"] == 20 * 8 * 64
    assert metrics["processes"] == (1 if second == "single" else 2)


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_muon_accumulation_and_shards_in_two_processes(text, tmp_path, strategy):
    """Oracle: one process; the last digits depend on the order of sums, and Muon enlarges faint
    directions.
    """
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    for i in range(12):
        (corpus / f"{i}.txt").write_text(
            text.read_text(encoding="utf-8")[: 2000 + 100 * i], encoding="utf-8"
        )
    plan = ["--steps", "20", "--optimizer", "muon", "--grad-accumulation", "2"]
    pretrain(ALONE, corpus, tmp_path / "one", *plan)
    pretrain(TWO, corpus, tmp_path / "two", *plan, "--strategy", strategy)
    one, two = curve(tmp_path / "one"), curve(tmp_path / "two")
    assert two[0] == pytest.approx(one[0], rel=1e-3)  # the first ten steps
    assert two == pytest.approx(one, rel=2e-2)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--strategy", "ddp", "--steps", "5"], "start it with torchrun --nproc-per-node 2"),
        (
            ["--strategy", "fsdp", "--seconds", "5"],
            "only stop together after a number of --tokens or --steps",
        ),
    ],
)
def test_strategies_without_torchrun_are_refused(refusal, text, tmp_path, arguments, words):
    assert words in refusal(
        "ch04_pretraining/main.py", "--data", text, *PLAN, *arguments, "--run", tmp_path / "run"
    )
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--steps", "5"], "say how they share the work: --strategy ddp or fsdp"),
        (
            ["--steps", "5", "--strategy", "ddp", "--batch-size", "7"],
            "2 processes cannot share a batch of 7",
        ),
    ],
)
def test_what_two_processes_cannot_do_is_refused(text, tmp_path, arguments, words):
    assert words in pretrain(TWO, text, tmp_path / "run", *arguments, ok=False)


def test_a_process_on_its_own_is_the_whole():
    assert (get_rank_and_world_size(), get_world_size()) == ((0, 1), 1)
    assert all_reduce_mean(torch.tensor(3.0)) == 3.0
    with init_distributed("single", torch.device("cpu")) as device:
        assert device == torch.device("cpu")
        assert not dist.is_initialized()
    model = GPTModel(GPTConfig(vocab_size=40, context_length=12, emb_dim=16, n_heads=2, n_layers=1))
    assert parallelize(model, max, "single") == (model, max)
    assert plain_copy(model) is model
