"""The scaling law: its fit against known constants and finite differences, and the command on tiny
models.
"""

import json

import numpy as np
import pytest
from scipy.optimize import check_grad, minimize_scalar

from ch03_gpt import GPTModel
from ch07_practice.evaluation.scaling_command import scaling, shape
from ch07_practice.evaluation.scaling_law import ScalingLaw, fit_law, objective, prediction_range

LAW = ScalingLaw(E=1.2, A=90.0, B=300.0, a=0.45, b=0.38)
SIZES, BUDGETS = np.array([3e4, 7e4, 2e5, 5e5, 1e6]), np.array([2e5, 5e5, 1e6, 2e6])
N, D = (grid.ravel() for grid in np.meshgrid(SIZES, BUDGETS))


def test_the_gradient_is_that_of_finite_differences():
    data = np.log(N), np.log(D), np.log(LAW.loss(N, D))
    for x in ([4.0, 5.0, 0.2, 0.4, 0.4], [6.0, 2.0, -1.0, 0.9, 0.1]):
        error = check_grad(
            lambda x: objective(x, *data)[0], lambda x: objective(x, *data)[1], np.array(x)
        )
        assert error < 1e-4 * np.linalg.norm(objective(np.array(x), *data)[1])


def test_known_constants_are_recovered():
    """Oracle: the law that generated the losses."""
    found = fit_law(N, D, LAW.loss(N, D))
    for name in "EAB":
        assert getattr(found, name) == pytest.approx(getattr(LAW, name), rel=0.02), name
    assert (found.a, found.b) == pytest.approx((LAW.a, LAW.b), abs=0.005)


def test_noise_and_one_failed_run_hardly_move_the_prediction():
    """Oracle: the law itself, at a larger run than any fitted; squared errors would follow the
    failed run.
    """
    losses = LAW.loss(N, D) * np.exp(np.random.default_rng(0).normal(0, 0.003, len(N)))
    losses[7] *= 1.3
    where = (2e6, 4e6)
    found = fit_law(N, D, losses)
    assert found.loss(*where) == pytest.approx(LAW.loss(*where), rel=0.02)
    low, high = prediction_range(found, N, D, losses, where)
    assert low <= found.loss(*where) * 1.001
    assert low < high < low * 1.1


def test_the_best_size_is_where_the_loss_is_lowest_for_the_compute():
    """Oracle: a search along the line of equal compute."""
    for flops in (1e12, 1e15):
        n_params, n_tokens = LAW.best_size(flops)
        assert 6 * n_params * n_tokens == pytest.approx(flops)
        found = minimize_scalar(
            lambda log_n, flops=flops: LAW.loss(np.exp(log_n), flops / 6 / np.exp(log_n)),
            bounds=(5, 30),
            method="bounded",
            options={"xatol": 1e-8},
        )
        assert np.log(n_params) == pytest.approx(found.x, abs=1e-4)


def test_too_few_runs_are_refused():
    with pytest.raises(
        ValueError, match="5 runs of 5 sizes and 1 budgets do not determine five constants"
    ):
        fit_law(SIZES, [1e5] * 5, [3.0] * 5)


@pytest.mark.slow
@pytest.mark.parametrize("data", ["storyworld", "shakespeare"])
def test_the_command_predicts_a_run_that_the_fit_did_not_use(tmp_path, monkeypatch, data):
    """Short windows and few tokens; oracles: the saved constants, and that more tokens help each
    size.
    """
    for name, value in (("CONTEXT", 32), ("BATCH", 4), ("HELD_OUT_TOKENS", 4000)):
        monkeypatch.setattr(f"ch07_practice.evaluation.scaling_command.{name}", value)
    found = scaling(
        data,
        widths=(16, 32, 64),
        budgets=(2048, 6144, 12_288),
        target_width=96,
        target_tokens=16_384,
        dtype="float32",
        run=tmp_path,
        device="cpu",
    )
    folder = tmp_path / "ch07_practice"
    assert json.loads((folder / f"scaling_{data}.json").read_text(encoding="utf-8")) == found
    assert (folder / f"scaling_{data}.png").stat().st_size > 10_000
    runs, target = found["runs"], found["target"]
    assert [(one["width"], one["n_tokens"]) for one in runs] == [
        (width, budget) for width in (16, 32, 64) for budget in (2048, 6144, 12_288)
    ]
    for first in range(0, 9, 3):
        losses = [one["loss"] for one in runs[first : first + 3]]
        assert losses == sorted(losses, reverse=True)
        assert runs[first]["n_params"] == GPTModel(shape(runs[first]["width"], 512)).n_parameters()
    law = ScalingLaw(**found["law"])
    assert found["predicted"] == pytest.approx(law.loss(target["n_params"], target["n_tokens"]))
    assert found["error"] == pytest.approx(found["predicted"] / target["loss"] - 1)
    assert target["loss"] < min(one["loss"] for one in runs)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (dict(widths=(16, 40, 64)), "a width of 40 is not supported"),
        (dict(widths=(16, 32)), "2 widths and 4 budgets"),
        (dict(budgets=(10, 200_000, 400_000)), "less than one step"),
        (dict(target_width=96), "must be larger than"),
        (dict(target_tokens=800_000), "must be larger than"),
    ],
)
def test_a_grid_that_cannot_work_is_refused_before_anything_is_trained(tmp_path, options, words):
    with pytest.raises(ValueError, match=words):
        scaling(run=tmp_path / "run", **options)
    assert not (tmp_path / "run").exists()
