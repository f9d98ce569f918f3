"""The layer monitor, the dashboard, memorisation and TensorBoard, against the same quantities worked out
by hand.
"""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ch03_gpt import GPTConfig, GPTModel
from ch04_pretraining import (
    TrainOptions,
    draw_dashboard,
    draw_losses,
    draw_samples,
    memorisation,
    next_token_loss,
    train,
)
from ch04_pretraining.allocator import disable_malloc_trim
from ch04_pretraining.layer_monitor import LayerMonitor, layer_parameters
from ch04_pretraining.memorisation import ngram_hashes, ngram_overlap
from ch04_pretraining.tensorboard_log import TensorBoardLog

TINY = GPTConfig(
    vocab_size=40, context_length=12, emb_dim=16, n_heads=2, n_layers=2, tie_embeddings=True
)


@pytest.fixture
def monitored():
    """A model before and after one step of SGD with a monitor, the batch, and what the monitor
    found.
    """
    torch.manual_seed(0)
    model, before = GPTModel(TINY), GPTModel(TINY)
    before.load_state_dict(model.state_dict())
    ids = torch.randint(0, 40, (4, 13))
    batch = ids[:, :-1], ids[:, 1:]
    log = train(
        model,
        iter([batch] * 2),
        steps=1,
        optimizers=[torch.optim.SGD(model.parameters(), lr=0.1)],
        options=TrainOptions(
            schedule=lambda progress: 1.0, log_every=1, monitor=LayerMonitor(model)
        ),
    ).log
    return SimpleNamespace(model=model, before=before, batch=batch, entry=log[-1])


def test_every_parameter_belongs_to_one_layer():
    for config in (
        TINY,
        GPTConfig(vocab_size=40, context_length=12, emb_dim=16, n_heads=2, n_layers=1),
    ):
        model = GPTModel(config)
        listed = [id(p) for group in layer_parameters(model).values() for p in group]
        assert sorted(listed) == sorted(map(id, model.parameters()))


def test_gradient_norms_are_those_of_the_mean_loss(monitored):
    """Oracle: autograd on the mean loss; all layers together give the norm that clipping saw."""
    loss, count = next_token_loss(monitored.before, monitored.batch)
    (loss / count).backward()
    total = 0.0
    for layer, group in layer_parameters(monitored.before).items():
        expected = torch.cat([p.grad.flatten() for p in group]).norm().item()
        assert monitored.entry["layers"][layer]["grad_norm"] == pytest.approx(expected, rel=1e-4)
        total += expected**2
    assert total**0.5 == pytest.approx(monitored.entry["grad_norm"], rel=1e-4)


def test_update_ratios_are_distance_over_size(monitored):
    for (layer, before), after in zip(
        layer_parameters(monitored.before).items(),
        layer_parameters(monitored.model).values(),
        strict=True,
    ):
        old, new = (torch.cat([p.detach().flatten() for p in group]) for group in (before, after))
        expected = ((new - old).norm() / old.norm()).item()
        assert expected > 0
        assert monitored.entry["layers"][layer]["update_ratio"] == pytest.approx(expected, rel=1e-3)


def test_activations_are_the_blocks_outputs(monitored):
    """Oracle: the blocks called one after the other."""
    x = monitored.before.tok_emb(monitored.batch[0]) + monitored.before.pos_emb.weight[:12]
    for block, found in zip(
        monitored.before.trf_blocks, monitored.entry["activations"], strict=True
    ):
        x = block(x)
        assert found["rms"] == pytest.approx(x.square().mean().sqrt().item(), rel=1e-4)
        assert found["max"] == pytest.approx(x.abs().max().item(), rel=1e-4)


def test_a_monitor_changes_nothing_and_leaves_no_hooks():
    """Oracle: the same training without it, bit for bit; with accumulation, too."""
    torch.manual_seed(0)
    ids = torch.randint(0, 40, (4, 13))
    weights = []
    for with_monitor in (False, True):
        torch.manual_seed(1)
        model = GPTModel(TINY)
        train(
            model,
            iter([(ids[:, :-1], ids[:, 1:])] * 20),
            steps=6,
            options=TrainOptions(
                grad_accumulation=2,
                log_every=2,
                monitor=LayerMonitor(model) if with_monitor else None,
            ),
        )
        assert not any(block._forward_hooks for block in model.trf_blocks)
        weights.append(model.state_dict())
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("draw", [draw_losses, draw_dashboard])
def test_a_log_of_one_entry_whose_rate_has_fallen_to_zero_is_drawn_without_a_warning(
    draw, tmp_path
):
    entry = {
        "step": 1,
        "tokens": 64,
        "seconds": 0.1,
        "train_loss": 2.0,
        "val_loss": 2.1,
        "grad_norm": 1.0,
        "clipped": 0.0,
        "lr": 0.0,
    }
    draw([entry]).savefig(tmp_path / "figure.png")


def test_the_dashboard_shows_every_layer(monitored):
    entry = monitored.entry | {"val_loss": 3.0, "val_bits_per_byte": 2.0, "sample": "ab\ncd $5"}
    figure = draw_dashboard([entry, entry | {"step": 2, "seconds": 1.0}])
    lines = [len(axes.get_lines()) for axes in figure.axes[:6]]
    assert lines == [2, 1, 1, 6, 7, 4]
    texts = [text.get_text() for text in draw_samples([entry, entry]).texts]
    assert texts[1] == r"ab / cd \$5"
    assert (
        len(
            draw_dashboard(
                [{k: v for k, v in entry.items() if k not in ("layers", "activations")}]
            ).axes
        )
        >= 6
    )


@given(
    st.lists(st.lists(st.integers(0, 3), min_size=3, max_size=20), min_size=1, max_size=4),
    st.lists(st.lists(st.integers(0, 3), max_size=30), max_size=3),
    st.integers(1, 3),
)
def test_ngram_overlap_equals_a_loop(texts, shards, n):
    """Oracle: tuples in a set."""
    known = {tuple(shard[i : i + n]) for shard in shards for i in range(len(shard) - n + 1)}
    runs = [tuple(text[i : i + n]) for text in texts for i in range(len(text) - n + 1)]
    arrays = [[np.array(row, np.uint16) for row in rows] for rows in (texts, shards)]
    assert ngram_overlap(*arrays, n=n) == pytest.approx(
        sum(run in known for run in runs) / len(runs)
    )


def test_ngram_overlap_across_chunks(monkeypatch):
    monkeypatch.setattr(memorisation, "_CHUNK", 5)
    assert ngram_overlap([np.arange(3, 14)], [np.arange(40)], n=8) == 1.0
    with pytest.raises(ValueError, match="8 tokens long"):
        ngram_overlap([np.arange(3)], [np.arange(40)])


def test_different_runs_have_different_hashes():
    rows = np.random.default_rng(0).integers(0, 65_536, 200_000).astype(np.uint16)
    assert len(np.unique(ngram_hashes(rows))) == len(rows) - 7
    assert len(ngram_hashes(rows[:5])) == 0


def test_tensorboard_events_can_be_read_back(monitored, tmp_path):
    """Oracle: TensorBoard's own reader."""
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    TensorBoardLog(tmp_path).write(monitored.entry | {"sample": "abc", "val_loss": 2.0})
    events = EventAccumulator(str(tmp_path)).Reload()
    names = events.Tags()["scalars"]
    assert {
        "train_loss",
        "val_loss",
        "lr",
        "grad_norm",
        "grad_norm/block 0 attention",
        "update_ratio/embeddings",
        "activation_rms/block 1",
    } <= set(names)
    (event,) = events.Scalars("train_loss")
    assert (event.step, event.value) == (1, pytest.approx(monitored.entry["train_loss"]))


def test_freed_memory_is_kept_where_the_c_library_can():
    import platform

    assert disable_malloc_trim() == (platform.libc_ver()[0] == "glibc")
