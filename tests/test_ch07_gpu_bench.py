"""What `bench --what gpu` does, in small and on the CPU: its parts, their limits, and what is
kept of them.
"""

import json
import math
import sys

import pytest
import torch

from ch03_gpt import GPTConfig, flops_per_token
from ch07_practice import gpu_parts
from ch07_practice.bench_command import save_results
from ch07_practice.gpu_bench import Part, parts, run_parts
from ch07_practice.gpu_parts import characters, gpt2_speed, make_run, run_tests

CPU = torch.device("cpu")
TINY = GPTConfig(65, 16, 32, 2, 2, tie_embeddings=True)


def test_training_speed_counts_every_token(monkeypatch):
    """Oracle: batch size times context times accumulation, and the operations of a token."""
    monkeypatch.setattr(gpu_parts, "matmul_peak", lambda device, dtype: 1e12)
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
def test_characters_are_read_until_the_target_or_the_end(tmp_path, target, steps):
    text = tmp_path / "text.txt"
    text.write_text("The quick brown fox jumps over the lazy dog. " * 60, encoding="utf-8")
    found = []
    characters(found.append, CPU, str(text), TINY, batch_size=4, steps=30, every=10, target=target)
    assert [row["step"] for row in found] == steps
    assert [row["target reached"] for row in found] == [target > 0] * len(steps)
    assert found[-1]["validation loss"] < math.log(65)


def test_make_run_is_timed_stage_by_stage(tmp_path):
    """Oracle: a command that leaves one stage's metrics where it is told to, and one that fails."""
    writes = (
        "import json, pathlib, sys; folder = pathlib.Path(sys.argv[1].removeprefix('RUN=')) /"
        " 'ch01_text'; folder.mkdir(parents=True); (folder /"
        " 'metrics.json').write_text(json.dumps({'wall_seconds': 3.5, 'data': 'plays'}))"
    )
    fails = "import sys; print('out of luck', file=sys.stderr); sys.exit(2)"
    found = []
    make_run(found.append, tmp_path / "run", [sys.executable, "-c", writes])
    assert found[0] == {"stage": "Text to tokens on plays", "device": None, "seconds": 3.5}
    assert found[1]["seconds"] > 0
    with pytest.raises(RuntimeError, match="ended with 2: out of luck"):
        make_run(found.append, tmp_path, [sys.executable, "-c", fails])


def test_the_tests_are_summed_up(tmp_path):
    """One test that holds and one that does not, by pytest's own last line."""
    (tmp_path / "test_two.py").write_text(
        "def test_right():\n    pass\n\ndef test_wrong():\n    assert False\n", encoding="utf-8"
    )
    found = []
    run_tests(found.append, 60.0, [[str(tmp_path / "test_two.py"), "-p", "no:cacheprovider"]])
    (row,) = found
    assert "1 failed, 1 passed" in row["result"]
    assert len(row["failed"]) == 1 and "test_wrong" in row["failed"][0]


@pytest.mark.slow
def test_tests_that_take_too_long_are_stopped_and_summed_up(tmp_path):
    """The first test is over at once, the second one would sleep for a minute."""
    (tmp_path / "test_long.py").write_text(
        "import time\n\ndef test_short():\n    assert False\n\n"
        "def test_long():\n    time.sleep(60)\n",
        encoding="utf-8",
    )
    found = []
    run_tests(found.append, 10.0, [[str(tmp_path / "test_long.py"), "-p", "no:cacheprovider"]])
    assert "1 failed" in found[0]["result"] and "(stopped after 10 s)" in found[0]["result"]
    assert "test_short" in found[0]["failed"][0]
    assert found[0]["seconds"] < 50


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
    assert [row["found"] for row in saved[-1]] == [[{"number": 2}], [{"number": 1}]]
    assert saved[0] == [
        {
            "part": "second",
            "instruction set": saved[-1][0]["instruction set"],
            "found": [{"number": 2}],
        }
    ]


def test_all_parts_end_within_ten_minutes(tmp_path):
    assert sum(part.seconds for part in parts(CPU, tmp_path)) <= 600
