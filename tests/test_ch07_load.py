"""The load test on an untrained model: it passes a sound server and detects an unsound one."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from serving_setup import make_run

from ch04_pretraining import load_checkpoint, save_checkpoint
from ch07_practice.serving.load_test import Outcome, check_result, draw_cases
from ch07_practice.serving.model_registry import ModelRegistry
from ch07_practice.story_questions import story_prompt

ROOT = Path(__file__).parent.parent
SOUND = {
    "clients": 8,
    "requests": 40,
    "memory_growth": 0.01,
    "streaming": {"answers": 16, "lost": 0, "mixed_up": 0},
    "short": {"answers": 40, "lost": 0, "mixed_up": 0},
}


def test_percentiles():
    """Oracle: of 1 ... 101 the median is 51 and the 99th percentile 100."""
    found = Outcome(seconds=[float(i) for i in range(1, 102)], lost=["why"]).summary()
    assert found == {
        "answers": 101,
        "lost": 1,
        "mixed_up": 0,
        "p50_seconds": 51.0,
        "p99_seconds": 100.0,
    }


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"short": {"answers": 39, "lost": 1, "mixed_up": 0}}, "1 were lost"),
        ({"short": {"answers": 40, "lost": 0, "mixed_up": 2}}, "2 mixed up"),
        (
            {"streaming": {"answers": 15, "lost": 0, "mixed_up": 0}},
            "15 of 16 answers arrived in time",
        ),
        ({"memory_growth": 0.06}, "grew by 6.0%"),
    ],
)
def test_an_unsound_server_fails(change, words):
    check_result(SOUND)
    check_result(SOUND | {"memory_growth": None})
    with pytest.raises(ValueError, match=words):
        check_result(SOUND | change)


@pytest.mark.slow
def test_the_command_checks_every_answer(tmp_path):
    run = make_run(tmp_path)
    checkpoint = run / "ch04_pretraining" / "checkpoint"
    model, tokenizer = load_checkpoint(checkpoint)
    for parameter in model.final_norm.parameters():
        parameter.data *= 30  # hardly any close decisions, so that nearly every prompt qualifies
    save_checkpoint(checkpoint, model, tokenizer)
    served = ModelRegistry(run, story_prompt, "float32").open("base")
    cases = draw_cases(served, 4, streamed=False)
    assert len(cases) == 64 and len({case.expected for case in cases}) > 8
    subprocess.run(
        [
            sys.executable,
            "ch07_practice/main.py",
            "load",
            "--run",
            run,
            "--clients",
            "8",
            "--requests",
            "40",
            "--max-num-seqs",
            "4",
        ],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    found = json.loads((run / "ch07_practice" / "load.json").read_text(encoding="utf-8"))
    assert found["streaming"]["answers"] == 16 and found["short"]["answers"] == 40
    assert 0 < found["streaming"]["first_p50_seconds"] <= found["streaming"]["p99_seconds"]
