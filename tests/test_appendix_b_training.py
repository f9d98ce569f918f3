"""Appendix B's training: optimizers and schedules step by step against PyTorch, saving, sampling."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare

from appendix_b import (
    GPT,
    SGD,
    Adam,
    AdamW,
    GPTConfig,
    Parameter,
    clip_grad_norm,
    cross_entropy,
    generate,
    sample,
)
from appendix_b.saving import load_arrays, save_arrays
from appendix_b.schedules import cosine

OPTIMIZERS = {
    "sgd": (lambda p: SGD(p, 0.1), lambda p: torch.optim.SGD(p, 0.1)),
    "momentum": (
        lambda p: SGD(p, 0.05, momentum=0.9, weight_decay=0.1),
        lambda p: torch.optim.SGD(p, 0.05, momentum=0.9, weight_decay=0.1),
    ),
    "nesterov": (
        lambda p: SGD(p, 0.05, momentum=0.8, nesterov=True),
        lambda p: torch.optim.SGD(p, 0.05, momentum=0.8, nesterov=True),
    ),
    "adam": (
        lambda p: Adam(p, 0.03, betas=(0.8, 0.95), weight_decay=0.1),
        lambda p: torch.optim.Adam(p, 0.03, betas=(0.8, 0.95), weight_decay=0.1),
    ),
    "adamw": (
        lambda p: AdamW(p, 0.03, weight_decay=0.2),
        lambda p: torch.optim.AdamW(p, 0.03, weight_decay=0.2),
    ),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
@settings(max_examples=8)
@given(
    shapes=st.lists(st.tuples(st.integers(1, 4), st.integers(1, 4)), min_size=1, max_size=3),
    max_norm=st.sampled_from([0.5, 100.0]),
    seed=st.integers(0, 1000),
)
def test_twelve_steps_are_pytorchs(name, shapes, max_norm, seed):
    """Random gradients, clipped, the rate changed on the way, one parameter without a gradient
    in step 5.
    """
    rng = np.random.default_rng(seed)
    mine = [Parameter(rng.normal(size=shape)) for shape in shapes]
    theirs = [torch.tensor(one.data.copy(), requires_grad=True) for one in mine]
    ours, other = (make(p) for make, p in zip(OPTIMIZERS[name], (mine, theirs), strict=True))
    for step in range(12):
        for a, b in zip(mine, theirs, strict=True):
            a.grad = rng.normal(size=a.shape)
            b.grad = torch.tensor(a.grad.copy())
        norm = clip_grad_norm(mine, max_norm)
        assert norm == pytest.approx(torch.nn.utils.clip_grad_norm_(theirs, max_norm).item())
        ours.lr = other.param_groups[0]["lr"] = 0.01 * (1 + step % 3)
        ours.step()
        other.step()
        for a, b in zip(mine, theirs, strict=True):
            np.testing.assert_allclose(a.data, b.detach().numpy(), rtol=1e-5, atol=1e-6)
            assert a.grad is None


def test_clipping_leaves_shared_arrays_alone():
    """Two parameters may hold the same gradient array; neither is scaled twice."""
    shared = np.array([3.0, 4.0])
    pair = [Parameter(np.zeros(2)), Parameter(np.zeros(2))]
    for one in pair:
        one.grad = shared
    assert clip_grad_norm(pair, 1.0) == pytest.approx(np.sqrt(50))
    assert np.linalg.norm(np.concatenate([one.grad for one in pair])) == pytest.approx(1.0)
    assert shared.tolist() == [3.0, 4.0]


def rates_of(make, steps: int) -> list[float]:
    """The rates that PyTorch's schedule goes through, from a peak of 0.5."""
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], 0.5)
    schedule = make(optimizer)
    rates = []
    for _ in range(steps):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return rates


def test_the_schedule_is_pytorchs():
    lr = torch.optim.lr_scheduler
    for ours, theirs in (
        (cosine(0.5, 20, final=0.1), lambda o: lr.CosineAnnealingLR(o, 20, 0.1)),
        (
            cosine(0.5, 20, warmup=5),
            lambda o: lr.SequentialLR(
                o, [lr.LinearLR(o, 0.2, 1.0, 4), lr.CosineAnnealingLR(o, 15)], [5]
            ),
        ),
    ):
        steps = 6 if theirs.__code__.co_names[0] == "SequentialLR" else 20
        np.testing.assert_allclose(
            [ours(step) for step in range(steps)], rates_of(theirs, steps), rtol=1e-12
        )


def steps(model: GPT, optimizer: AdamW, first: int, last: int) -> None:
    for step in range(first, last):
        ids = np.random.default_rng(step).integers(0, 9, (4, 8))
        cross_entropy(model(ids[:, :-1]), ids[:, 1:]).backward()
        clip_grad_norm(optimizer.parameters, 1.0)
        optimizer.step()


def test_a_saved_run_goes_on_bit_for_bit(tmp_path):
    """Oracle: the run that was never interrupted."""
    config = GPTConfig(9, context_length=8, emb_dim=8, n_heads=2, n_layers=1)
    whole = GPT(config, np.random.default_rng(0))
    steps(whole, AdamW(whole.parameters(), 0.01), 0, 6)
    cut = GPT(config, np.random.default_rng(0))
    optimizer = AdamW(cut.parameters(), 0.01)
    steps(cut, optimizer, 0, 3)
    cut.save(tmp_path / "model.npz", note="half way")
    save_arrays(tmp_path / "optimizer.npz", optimizer.state_dict(), {})
    resumed, settings = GPT.load(tmp_path / "model.npz")
    assert settings == {"note": "half way"}
    optimizer = AdamW(resumed.parameters(), 0.01)
    optimizer.load_state_dict(load_arrays(tmp_path / "optimizer.npz")[0])
    steps(resumed, optimizer, 3, 6)
    assert all(
        np.array_equal(array, resumed.state_dict()[name])
        for name, array in whole.state_dict().items()
    )
    assert {path.name for path in tmp_path.iterdir()} == {"model.npz", "optimizer.npz"}


def test_files_that_are_no_models_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"there is no saved model .*train one first"):
        load_arrays(tmp_path / "nothing.npz")
    (tmp_path / "text.npz").write_text("no archive", encoding="utf-8")
    np.savez(
        tmp_path / "pickle.npz",
        **{"settings.json": np.array("{}"), "x": np.array([{}], dtype=object)},
    )
    for name in ("text.npz", "pickle.npz"):
        with pytest.raises(ValueError, match="is damaged or not a model of this appendix"):
            load_arrays(tmp_path / name)
    save_arrays(tmp_path / "other.npz", {"x": np.ones(2)}, {})
    with pytest.raises(ValueError, match="holds no GPT"):
        GPT.load(tmp_path / "other.npz")


def test_sampling_follows_the_distribution():
    """Oracle: the softmax restricted to what is kept, chi-square test over 20,000 samples."""
    logits = np.log(np.array([0.1, 0.4, 0.05, 0.25, 0.2]))
    rows = np.tile(logits, (20_000, 1))
    for options, kept in (
        ({}, [0, 1, 2, 3, 4]),
        ({"top_k": 2}, [1, 3]),
        ({"top_p": 0.6}, [1, 3]),
        ({"top_p": 0.8, "temperature": 2.0}, [0, 1, 3, 4]),
    ):
        weights = np.exp(logits / options.get("temperature", 1.0))[kept]
        counts = np.bincount(sample(rows, np.random.default_rng(0), **options), minlength=5)
        assert counts[kept].sum() == 20_000, options
        assert chisquare(counts[kept], 20_000 * weights / weights.sum()).pvalue > 0.001, options
    with pytest.raises(ValueError, match="must be 0 or more, not -1"):
        sample(rows, np.random.default_rng(0), temperature=-1)


def test_generation_sees_only_the_context():
    """Oracle: the most likely ids computed from the last ids by hand."""
    model = GPT(
        GPTConfig(9, context_length=4, emb_dim=8, n_heads=2, n_layers=1), np.random.default_rng(1)
    ).eval()
    ids = np.random.default_rng(2).integers(0, 9, (3, 6))
    generated = generate(model, ids, 4, np.random.default_rng(0), temperature=0.0)
    for _ in range(3):
        expected = model(ids[:, -4:]).data[:, -1].argmax(axis=1)
        np.testing.assert_array_equal(next(generated), expected)
        ids = np.concatenate([ids, expected[:, None]], axis=1)
