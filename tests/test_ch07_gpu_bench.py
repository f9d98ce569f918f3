"""`bench --bench gpu` in small and on the CPU: its parts, their time limits, and their results."""

import json
import math

import pytest
import torch

from ch03_gpt import GPTConfig, flops_per_token
from ch07_practice.benchmarks import gpu_bench
from ch07_practice.benchmarks.bench_command import save_results
from ch07_practice.benchmarks.gpu_bench import Part, characters, gpt2_speed, parts, run_parts

CPU = torch.device("cpu")
TINY = GPTConfig(65, 16, 32, 2, 2, tie_embeddings=True)


def test_training_speed_counts_every_token(monkeypatch):
    """Oracle: batch size times context times accumulation, and the operations of a token."""
    monkeypatch.setattr(gpu_bench, "matmul_peak", lambda device, dtype: 1e12)
    found = []
    gpt2_speed(
        found.append, CPU, TINY, batch_size=3, grad_accumulation=2, seconds=0.0, compiled=(False,)
    )
    (row,) = found
    assert row["tokens a step"] == 3 * 16 * 2
    assert row["steps timed"] == 2
    assert row["tokens/s"] > 0
    assert row["MFU"] == pytest.approx(row["tokens/s"] * 3 * flops_per_token(TINY) / 1e12)


@pytest.mark.parametrize(("target", "steps"), [(0.0, [10, 20, 30]), (math.inf, [10])])
def test_characters_are_trained_until_the_target_or_the_end(tmp_path, target, steps):
    text = tmp_path / "text.txt"
    text.write_text("The quick brown fox jumps over the lazy dog. " * 60, encoding="utf-8")
    found = []
    characters(found.append, CPU, str(text), TINY, batch_size=4, steps=30, every=10, target=target)
    assert [row["step"] for row in found] == steps
    assert [row["target reached"] for row in found] == [target > 0] * len(steps)
    assert found[-1]["validation loss"] < math.log(65)


def work(report, number: int) -> None:
    report({"number": number})
    if number == 2:
        raise MemoryError("no more")


@pytest.mark.slow
def test_a_part_that_fails_is_recorded_and_the_next_one_runs(tmp_path):
    path = tmp_path / "bench_gpu.json"
    saved = []

    def save(rows):
        save_results(path, "gpu", rows)
        saved.append(json.loads(path.read_text(encoding="utf-8"))["gpu"])

    run_parts(
        [Part(name, 60, work, (number,)) for number, name in ((2, "second"), (1, "first"))],
        CPU,
        save,
    )
    assert [row["outcome"] for row in saved[-1]] == ["MemoryError: no more", "finished"]
    assert [row["results"] for row in saved[-1]] == [[{"number": 2}], [{"number": 1}]]
    assert saved[0] == [
        {
            "part": "second",
            "instruction set": saved[-1][0]["instruction set"],
            "results": [{"number": 2}],
        }
    ]


def test_all_parts_end_within_five_minutes():
    assert sum(part.seconds for part in parts(CPU)) <= 300
