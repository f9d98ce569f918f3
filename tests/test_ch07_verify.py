"""`verify` against made-up runs whose agreement, and cause of disagreement, is known."""

import json
from pathlib import Path

import numpy as np
import pytest

from ch07_practice.verify import compare, load_published, publish, published_table, verify

ROOT = Path(__file__).parent.parent
MACHINE = {"PyTorch": "2.13.0", "instruction set": "AVX2", "threads": "2"}
FIGURE = {
    "name": "story model, right answers",
    "chapter": "ch04_pretraining",
    "run": "",
    "path": ["questions", 1, "model"],
    "budget": {"tokens": 1000, "settings.preset": "story"},
    "share": True,
    "bands": {
        "cpu, float32": {"value": 0.5, "low": 0.4, "high": 0.6, "seeds": 5},
        "cuda, bfloat16": {"value": 0.7, "low": 0.68, "high": 0.72, "seeds": 5},
    },
}


@pytest.fixture
def made_up(tmp_path, monkeypatch):
    """A function that leaves a run with the given result and machine, and compares it."""
    published = tmp_path / "published.json"
    published.write_text(json.dumps({"machine": MACHINE, "figures": [FIGURE]}), encoding="utf-8")

    def run(value: float, machine: dict | None = None, **metrics):
        folder = tmp_path / "run" / "ch04_pretraining"
        folder.mkdir(parents=True, exist_ok=True)
        found = {
            "questions": [{"model": 0.0}, {"model": value}],
            "tokens": 1000,
            "settings": {"preset": "story"},
            "device": "cpu",
            "dtype": "float32",
        } | metrics
        (folder / "metrics.json").write_text(json.dumps(found), encoding="utf-8")
        report = {"machine": MACHINE | (machine or {})}
        (tmp_path / "run" / "report.json").write_text(json.dumps(report), encoding="utf-8")
        monkeypatch.setattr(compare, "__defaults__", (published,))
        return verify(tmp_path / "run")

    return run


@pytest.mark.parametrize("value", [0.4, 0.5, 0.6])
def test_a_figure_within_the_band_agrees(made_up, capsys, value):
    assert made_up(value)["figures"][0]["verdict"] == "agrees"
    assert "all 1 figures agree" in capsys.readouterr().out


def test_a_kind_of_device_has_its_own_band(made_up):
    assert (
        made_up(0.7, device="cuda:0", dtype="bfloat16")["figures"][0]["published"]
        == "68.0% to 72.0%"
    )
    with pytest.raises(ValueError, match="1 of 1 figures do not agree"):
        made_up(0.5, device="cuda:0", dtype="bfloat16")


@pytest.mark.parametrize(
    ("spoiled", "cause"),
    [
        ({"tokens": 300}, "tokens 300 instead of 1,000"),
        ({"settings": {"preset": "tiny"}}, "preset tiny instead of story"),
        ({"settings": {}}, "the run does not record its settings.preset"),
        ({"device": "mps"}, "no figure is published for mps, float32; compared with cpu, float32"),
        ({"machine": {"PyTorch": "2.11.0"}}, "PyTorch 2.11.0 instead of 2.13.0"),
        ({"machine": {"instruction set": "DEFAULT"}}, "instruction set DEFAULT instead of AVX2"),
        ({"machine": {"threads": "1"}}, "threads 1 instead of 2"),
        # the weightier one
        ({"tokens": 300, "machine": {"PyTorch": "2.11.0"}}, "tokens 300 instead of 1,000"),
        ({}, "unknown; please report it"),
        # a build of the same version
        ({"machine": {"PyTorch": "2.13.0+cpu"}}, "unknown; please report it"),
    ],
)
@pytest.mark.parametrize("value", [0.39, 0.61])
def test_a_spoiled_run_is_told_its_likely_cause(made_up, spoiled, cause, value):
    """Oracle: what was spoiled."""
    with pytest.raises(ValueError, match="1 of 1 figures do not agree") as error:
        made_up(value, **spoiled)
    assert str(error.value).endswith(cause) or cause in str(error.value)
    assert "\n" not in str(error.value)


def test_what_was_not_run_is_named(made_up):
    with pytest.raises(ValueError, match="ch04_pretraining has no such result"):
        made_up(0.5, questions=[])


def test_published_bands_hold_one_more_run(tmp_path):
    """Oracles: the t table (4.303 for three runs), and a simulation: the band of three results holds
    a fourth one in 95 % of cases.
    """
    published = tmp_path / "published.json"
    published.write_text(json.dumps({"machine": MACHINE, "figures": [FIGURE]}), encoding="utf-8")

    def leave(name: str, value: float) -> Path:
        folder = tmp_path / name / "ch04_pretraining"
        folder.mkdir(parents=True, exist_ok=True)
        found = {"questions": [{}, {"model": value}], "tokens": 2000, "device": "cpu"}
        found |= {"settings": {"preset": "story"}, "dtype": "float32"}
        (folder / "metrics.json").write_text(json.dumps(found), encoding="utf-8")
        return tmp_path / name

    runs = [leave(name, value) for name, value in {"a": 0.4, "b": 0.5, "c": 0.6}.items()]
    publish(runs, published)
    figure = load_published(published)[1][0]
    band = figure.bands["cpu, float32"]
    assert (band.low, band.value, band.high) == pytest.approx(
        (0.5 - 0.4969, 0.5, 0.5 + 0.4969), abs=1e-4
    )
    assert band.seeds == 3 and figure.budget["tokens"] == 2000
    assert figure.bands["cuda, bfloat16"].value == 0.7  # other devices keep theirs

    draws, inside = np.random.default_rng(0).normal(0.5, 0.01, size=(100, 4)), 0
    for *three, fourth in draws:
        publish([leave(name, value) for name, value in zip("abc", three, strict=True)], published)
        band = load_published(published)[1][0].bands["cpu, float32"]
        inside += band.low <= fourth <= band.high
    assert 88 <= inside <= 100


@pytest.mark.parametrize(("n", "error"), [(1, ValueError), (2, KeyError)])
def test_too_few_runs_or_figures_are_refused(tmp_path, n, error):
    published = tmp_path / "published.json"
    published.write_text(json.dumps({"machine": MACHINE, "figures": [FIGURE]}), encoding="utf-8")
    (tmp_path / "run" / "ch04_pretraining").mkdir(parents=True)
    (tmp_path / "run" / "ch04_pretraining" / "metrics.json").write_text("{}", encoding="utf-8")
    with pytest.raises(error):
        publish([tmp_path / "run"] * n, published)


def test_without_a_run_there_is_one_line(refusal, tmp_path):
    assert "there are no results in" in refusal(
        "ch07_practice/main.py", "verify", "--run", tmp_path / "none"
    )


def test_the_published_bands_hold_their_means():
    machine, figures = load_published()
    assert set(machine) >= {"PyTorch", "instruction set", "threads"}
    assert figures
    for figure in figures:
        assert figure.bands
        for band in figure.bands.values():
            assert band.low <= band.value <= band.high


def test_the_readme_shows_the_published_figures():
    """Oracle: the data file."""
    assert published_table() in (ROOT / "README.md").read_text(encoding="utf-8")
