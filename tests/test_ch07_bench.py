"""The training benchmark: the reference models equal ours, every candidate is timed, and no
measurement is lost.
"""

import importlib.util
import itertools
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from ch03_gpt import GPTConfig, GPTModel
from ch04_pretraining.training import next_token_loss, train_step
from ch07_practice.benchmarks import bench_command, benchmark_runner, step_profile, training_bench
from ch07_practice.benchmarks.bench_command import bench
from ch07_practice.benchmarks.machine import describe_machine, instruction_set
from ch07_practice.benchmarks.nano_gpt import nano_gpt
from ch07_practice.benchmarks.reference_models import book_gpt, transformers_gpt2
from ch07_practice.benchmarks.training_bench import (
    CANDIDATES,
    SIZES,
    Measurement,
    Size,
    draw_bench,
    measure,
    table,
)
from ch07_practice.benchmarks.training_candidates import available_candidates

ROOT = Path(__file__).parent.parent
CPU = torch.device("cpu")
TINY = GPTConfig(
    vocab_size=65,
    context_length=16,
    emb_dim=32,
    n_heads=2,
    n_layers=2,
    qkv_bias=True,
    tie_embeddings=True,
)
BOOK = pytest.mark.skipif(
    not importlib.util.find_spec("llms_from_scratch"),
    reason="the book's package is not installed (pip install --no-deps llms-from-scratch)",
)


@pytest.mark.parametrize(
    "reference",
    [
        "transformers",
        "nanoGPT",
        *[pytest.param(variant, marks=BOOK) for variant in ("plain", "fast")],
    ],
)
def test_reference_models_compute_the_same_logits_with_as_many_parameters(reference):
    """Oracle: our model in float32, with non-zero biases, so that a misplaced one shows."""
    torch.manual_seed(0)
    ours = GPTModel(TINY)
    with torch.no_grad():
        for parameter in ours.parameters():
            parameter += 0.02 * torch.randn_like(parameter)
    if reference == "nanoGPT":
        theirs = nano_gpt(ours)
        for block in theirs.blocks:
            block.ff[1].approximate = "tanh"  # GPT-2's GELU, which ours computes
    else:
        theirs = (
            transformers_gpt2(ours) if reference == "transformers" else book_gpt(ours, reference)
        )
    ids = torch.randint(0, 65, (2, 16))
    logits = theirs.eval()(ids)
    torch.testing.assert_close(
        getattr(logits, "logits", logits), ours.eval()(ids), atol=1e-5, rtol=1e-4
    )
    assert sum(p.numel() for p in theirs.parameters()) == ours.n_parameters()


def test_nanogpt_refuses_parts_that_it_lacks():
    with pytest.raises(ValueError, match="has GPT-2's parts only"):
        nano_gpt(GPTModel(GPTConfig(65, 16, 32, 2, 2, position="rope", tie_embeddings=True)))


@pytest.mark.slow
def test_candidates_are_timed_and_reach_the_same_loss():
    """Oracle: each other. With the same weights, batches and optimizer, the losses differ only by
    bfloat16 and the form of GELU.
    """
    size = Size("tiny", TINY, 4, warmup=15)
    names = ["ours", "nanoGPT-style", "transformers"]
    snapshots = list(
        measure(size, "tiny", [CANDIDATES[name] for name in names], CPU, 0.05, rounds=2)
    )
    assert [len(rows) for rows in snapshots] == [1, 2, 3, 3, 3, 3]
    rows = snapshots[-1]
    assert [row["candidate"] for row in rows] == names
    losses = [row["loss after 15 steps"] for row in rows]
    assert losses == [pytest.approx(losses[0], abs=0.02)] * 3
    assert 2.5 < losses[0] < 4.1
    for row in rows:
        assert row["steps timed"] >= 4
        assert row["tokens/s"] > 0
        assert 0 < row["of peak"] < 1
        assert row["instruction set"] == instruction_set()
    assert max(row["of best reference"] for row in rows[1:]) == 1


def test_the_sizes_are_the_published_ones():
    shapes = {
        name: (
            s.config.n_layers,
            s.config.emb_dim,
            s.config.context_length,
            s.config.vocab_size,
            s.batch_size,
        )
        for name, s in SIZES.items()
    }
    assert shapes == {
        "4x128": (4, 128, 64, 65, 12),
        "6x384-b8": (6, 384, 256, 4096, 8),
        "6x384-b32": (6, 384, 256, 4096, 32),
        "12x768": (12, 768, 256, 50_257, 4),
    }


def test_the_figure_has_a_bar_for_every_candidate():
    import pandas as pd

    rows = [
        {"size": size, "candidate": name, "tokens/s": 5.0}
        for size in "ab"
        for name in ("ours", "x")
    ]
    assert [len(axes.patches) for axes in draw_bench(pd.DataFrame(rows)).axes] == [2, 2]


def test_a_loss_is_reported_only_after_the_whole_warm_up():
    """A shortened warm-up would report a loss that cannot be compared with the others'."""
    size = Size("tiny", TINY, 4, warmup=3)
    measurements = {
        name: [Measurement(losses, [0.5, 0.5], 1e9)]
        for name, losses in (("ours", [3.0, 2.0, 1.0]), ("slow", [3.0, 2.0]))
    }
    rows = table(size, measurements | {"not yet": []}, CPU)
    assert [row["loss after 3 steps"] for row in rows] == [1.0, None]
    assert [row["of best reference"] for row in rows] == [1.0, 1.0]
    assert rows[0]["tokens/s"] == 4 * 16 / 0.5


def test_one_number_format_is_measured_once():
    """If everything computes in float32, explicit float32 would repeat a row."""
    names = {c.name for c in available_candidates(list(CANDIDATES.values()), CPU)}
    native = benchmark_runner.pick_precision(CPU).dtype == torch.bfloat16
    if importlib.util.find_spec("transformers"):
        assert "transformers" in names
        assert ("transformers, float32" in names) == native


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (
            ["--size", "huge"],
            "--size must be one of 4x128, 6x384-b8, 6x384-b32, 12x768 for --bench train, not 'huge'",
        ),
        (
            ["--bench", "decode", "--size", "4x128"],
            "--size must be one of 12m, 124m for --bench decode, not '4x128'",
        ),
        (
            ["--bench", "quantization", "--size", "12m"],
            "--bench quantization has no sizes; leave out --size 12m",
        ),
        *[
            (["--seconds", bad], f"--seconds must be a positive number such as 3, not {bad}")
            for bad in ("0", "-2", "nan", "inf")
        ],
        (
            ["--bench", "gpu"],
            (
                "--bench gpu needs a CUDA GPU, and the device is cpu; --bench train and --bench"
                " decode run"
            ),
        ),
    ],
)
def test_wrong_input_is_refused(refusal, tmp_path, arguments, words):
    assert words in refusal(
        "ch07_practice/main.py", "bench", "--device", "cpu", "--run", tmp_path / "run", *arguments
    )
    assert not (tmp_path / "run").exists()


def test_a_gpu_has_no_quick_bench():
    with pytest.raises(ValueError, match="--quick does not apply to --bench gpu"):
        bench_command.check_flags("gpu", 3.0, True, torch.device("cuda"))


def test_the_instruction_set_is_named_with_its_limit(monkeypatch):
    """Oracle: PyTorch's own name for it."""
    monkeypatch.delenv("ONEDNN_MAX_CPU_ISA", raising=False)
    assert describe_machine()["instruction set"] == torch.backends.cpu.get_cpu_capability()
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")
    assert instruction_set().endswith(" (oneDNN limited to AVX2)")


def work(report, number: int) -> None:
    report(number)
    report(number + 1)
    if number == 2:
        raise ValueError("it was 2")
    if number == 3:
        raise ZeroDivisionError("it was 3")
    if number == 4:
        os._exit(9)
    if number == 5:
        time.sleep(60)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "error", "words"),
    [
        (1, None, ""),
        (2, ValueError, "it was 2"),
        (3, RuntimeError, "ZeroDivisionError: it was 3"),
        (4, OSError, "the process of five was killed"),
        (5, TimeoutError, "five was stopped after 20 seconds"),
    ],
)
def test_results_of_a_process_arrive_however_it_ends(number, error, words):
    found = []
    try:
        for one in benchmark_runner.run_in_process("five", work, number, seconds=20):
            found.append(one)
    except Exception as caught:
        assert (type(caught), words in str(caught)) == (error, True)
    else:
        assert error is None
    assert found == [number, number + 1]


@pytest.mark.slow
def test_the_command_writes_its_table_without_any_other_package(tmp_path, monkeypatch):
    """A tiny shape, with no other package installed: the nanoGPT-style model needs none."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(
        training_bench,
        "CANDIDATES",
        {name: CANDIDATES[name] for name in ("ours", "nanoGPT-style", "transformers")},
    )
    monkeypatch.setattr(training_bench, "SIZES", {"tiny": Size("tiny", TINY, 4, warmup=30)})
    returned = bench("train", seconds=0.1, quick=True, run=tmp_path, device="cpu")
    found = json.loads(
        (tmp_path / "ch07_practice" / "bench_train.json").read_text(encoding="utf-8")
    )
    assert found == returned
    assert found["finished"]
    assert found["machine"]["instruction set"] == instruction_set()
    ours, theirs = found["train"]
    assert (ours["candidate"], theirs["candidate"]) == ("ours", "nanoGPT-style")
    assert ours["loss after 20 steps"] == pytest.approx(theirs["loss after 20 steps"], abs=0.05)
    assert (tmp_path / "ch07_practice" / "bench_train.png").stat().st_size > 5000


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGINT for another process")
def test_ctrl_c_keeps_the_results_so_far(tmp_path):
    process = subprocess.Popen(
        [
            sys.executable,
            "ch07_practice/main.py",
            "bench",
            "--size",
            "4x128",
            "--seconds",
            "0.1",
            "--run",
            str(tmp_path),
        ],
        cwd=ROOT,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    path = tmp_path / "ch07_practice" / "bench_train.json"
    while process.poll() is None and not path.exists():
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate()
    assert process.returncode == 130, errors
    assert "Traceback" not in errors
    assert f"results so far are in {path}" in output
    assert re.search(r"4x128 +ours ", output)
    found = json.loads(path.read_text(encoding="utf-8"))
    assert not found["finished"]
    assert [row["candidate"] for row in found["train"]][:1] == ["ours"]


def test_the_parts_of_a_step_are_a_training_step():
    """Oracle: chapter 4's `train_step` on the same batch."""
    step, twin = (step_profile.Step.of("tiny", 4, CPU) for _ in range(2))
    twin_batches = itertools.repeat((twin.ids, twin.targets))
    for _ in range(3):
        for part in step.parts().values():
            part()
        train_step(twin.model, twin_batches, next_token_loss, twin.optimizers, twin.precision)
    ours, theirs = step.model.state_dict(), twin.model.state_dict()
    for name in ours:
        torch.testing.assert_close(ours[name], theirs[name], rtol=1e-5, atol=1e-6)


def test_the_shares_of_a_step_add_up(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(step_profile, "BATCH_SIZES", {"tiny": 4})
    result = bench("step", quick=True, run=tmp_path, device="cpu")
    (row,) = result["step"]
    shares = [float(value.rstrip("%")) for name, value in row.items() if str(value).endswith("%")]
    assert len(shares) == 6 and abs(sum(shares) - 100) <= 3  # each is rounded
    assert row["tokens/s"] > 0 and "Muon" in capsys.readouterr().out
