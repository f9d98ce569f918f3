"""Appendix A: the memory of tensors, torch's graph, saving, and training on two processes."""

import json
import os
import subprocess
import sys
from itertools import chain
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file
from torch import nn
from torch.nn import functional as F

from appendix_a import (
    NeuralNetwork,
    RankSampler,
    broadcast_view,
    compute_accuracy,
    draw_graph,
    global_cross_entropy,
    load_network,
    load_run,
    make_optimizer,
    missing_compiler,
    node_gradients,
    optimizer_path,
    prepare_dataset,
    profile_operations,
    save_network,
    save_run,
    shard_batches,
    storage_indices,
    topological_order,
    train,
)

ROOT = Path(__file__).parent.parent
TWO = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "--"]
# the last batch has five rows: three and two
FLAGS = ["--points", "101", "--epochs", "6", "--batch-size", "16"]


def run(folder: Path, *arguments: str, start: list[str] | None = None, ok: bool = True) -> str:
    command = [
        sys.executable,
        *(start or []),
        "appendix_a/main.py",
        *arguments,
        "--run",
        str(folder),
    ]
    result = subprocess.run(
        command,
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    assert (result.returncode == 0) == ok, result.stderr[-3000:]
    return result.stdout if ok else result.stderr


@given(st.lists(st.integers(1, 4), min_size=1, max_size=4), st.data())
def test_storage_indices_locate_each_element(shape, data):
    """Oracle: torch's own reading of the storage, for permuted, sliced and shifted views."""
    whole = torch.randn(*shape, 3)
    view = whole.permute(data.draw(st.permutations(range(whole.ndim))))
    view = view[
        tuple(
            slice(data.draw(st.integers(0, size - 1)), None, data.draw(st.integers(1, 2)))
            for size in view.shape
        )
    ]
    storage = torch.tensor([]).set_(view.untyped_storage())
    assert torch.equal(storage[storage_indices(view)], view)


@given(st.lists(st.integers(1, 4), max_size=3), st.data())
def test_broadcast_view_is_expand_without_a_copy(shape, data):
    """Oracle: torch's expand."""
    wanted = torch.Size(
        [
            *data.draw(st.lists(st.integers(1, 3), max_size=2)),
            *(size if size > 1 else data.draw(st.integers(1, 4)) for size in shape),
        ]
    )
    x = torch.randn(shape)
    view = broadcast_view(x, wanted)
    assert torch.equal(view, x.expand(wanted))
    assert view.untyped_storage().data_ptr() == x.untyped_storage().data_ptr()


def test_a_shape_that_does_not_broadcast_is_refused():
    with pytest.raises(ValueError, match=r"shape \(2,\) does not broadcast to \(2, 3\)"):
        broadcast_view(torch.zeros(2), torch.Size((2, 3)))


def test_the_graph_carries_torchs_gradients():
    """Oracle: the chain rule by hand, at a leaf that is used twice."""
    w, b = torch.tensor(2.0, requires_grad=True), torch.tensor(1.0, requires_grad=True)
    loss = (w * w + b) * 3
    order = topological_order(loss)
    assert all(
        order.index(parent) > order.index(node)
        for node in order
        for parent, _ in node.next_functions
        if parent
    )
    arrived = {node.name(): grad.item() for node, grad in node_gradients(loss).items()}
    assert arrived["AddBackward0"] == 3
    assert (w.grad.item(), b.grad.item()) == (12, 3)
    texts = [text.get_text() for text in draw_graph(loss, {"w": w, "b": b}).axes[0].texts]
    assert {"w = 2\ngradient 12", "b = 1\ngradient 3"} <= set(texts)


def test_gradient_descent_follows_its_closed_form():
    """Oracle: on a quadratic each step shrinks x by 1 - lr and y by 1 - 100 lr."""
    steps = torch.arange(21.0)
    path = optimizer_path("sgd", 0.015, 20)
    expected = torch.stack((-4 * 0.985**steps, 0.8 * (-0.5) ** steps), dim=1)
    torch.testing.assert_close(path, expected, rtol=1e-4, atol=1e-6)


def test_the_network_separates_what_no_line_can():
    """Oracles: a linear layer stays near chance; the first logits are those of the layers by
    hand.
    """
    torch.manual_seed(0)
    train_loader, test_loader = prepare_dataset(600)
    scores = []
    for network in (nn.Linear(2, 2), NeuralNetwork(2, 2)):
        losses = train(
            network, train_loader, make_optimizer("adamw", network.parameters(), 0.01), 30
        )
        scores.append(compute_accuracy(network, test_loader))
        assert losses.shape == (30 * 19,)
    assert scores[0] < 0.75
    assert scores[1] > 0.97
    features = test_loader.dataset.features
    first, second, third = (layer for layer in network.layers if isinstance(layer, nn.Linear))
    assert [tuple(layer.weight.shape) for layer in (first, second, third)] == [
        (30, 2),
        (20, 30),
        (2, 20),
    ]
    torch.testing.assert_close(
        network(features), third(second(first(features).clamp(min=0)).clamp(min=0))
    )


def test_what_is_saved_comes_back_and_nothing_else_is_read(tmp_path):
    network = NeuralNetwork(3, 4, (5,))
    save_network(network, tmp_path / "network.safetensors")
    x = torch.randn(7, 3)
    assert torch.equal(load_network(tmp_path / "network.safetensors")(x), network(x))
    (tmp_path / "other").write_bytes(b"no weights")
    with pytest.raises(ValueError, match="holds no network of appendix A"):
        load_network(tmp_path / "other")


def test_an_interrupted_run_ends_bit_for_bit_where_the_whole_one_does(tmp_path):
    """Oracle: the run without interruption, with shuffling, dropout and the optimizer's memory."""

    def start(seed: int):
        torch.manual_seed(seed)
        network = NeuralNetwork(2, 2)
        network.layers.append(nn.Dropout(0.2))
        loader, _ = prepare_dataset(64)
        return network, loader, make_optimizer("adamw", network.parameters(), 0.01)

    whole, loader, optimizer = start(0)
    train(whole, loader, optimizer, 5)
    first, loader, optimizer = start(0)
    train(first, loader, optimizer, 2)
    save_run(tmp_path / "run.pt", first, optimizer, loader.generator)
    second, loader, optimizer = start(1)
    load_run(tmp_path / "run.pt", second, optimizer, loader.generator)
    train(second, loader, optimizer, 3)
    assert all(
        torch.equal(a, b) for a, b in zip(whole.parameters(), second.parameters(), strict=True)
    )


def test_parts_of_a_batch_are_the_batch():
    batches = [[5, 0, 3, 7], [4, 1, 6]]
    parts = [list(RankSampler(batches, rank, 3)) for rank in range(3)]
    assert [sorted(chain(*rows)) for rows in zip(*parts, strict=True)] == [
        sorted(batch) for batch in batches
    ]
    loader, _ = prepare_dataset(10, batch_size=4)
    # a single process gets everything
    assert [len(labels) for _, labels in shard_batches(loader)] == [4, 4, 2]
    logits, labels = torch.randn(4, 2), torch.tensor([0, 1, 1, 0])
    torch.testing.assert_close(
        global_cross_entropy(logits, labels), F.cross_entropy(logits, labels)
    )


def test_the_profile_counts_what_ran():
    layer, x = nn.Linear(40, 40), torch.randn(50, 40)
    table = profile_operations(lambda: layer(x), repeats=5).set_index("operation")
    assert table.loc["aten::addmm", "calls"] == 1
    assert table["share"].sum() == pytest.approx(1)


def test_a_missing_compiler_is_named(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    assert "there is no C++ compiler here (none of g++" in missing_compiler()
    monkeypatch.setenv("CXX", sys.executable)
    assert missing_compiler() is None


@pytest.fixture(scope="module")
def alone(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("alone")
    assert "accuracy" in run(folder, *FLAGS)
    return folder / "appendix_a"


@pytest.mark.slow
def test_the_command_leaves_metrics_pictures_and_the_network(alone):
    metrics = json.loads((alone / "metrics.json").read_text(encoding="utf-8"))
    assert (metrics["steps"], metrics["processes"]) == (6 * 7, 1)
    assert metrics["loss"] < metrics["first_loss"]
    assert sum(row["share"] for row in metrics["profile"]) <= 1
    assert {"training.png", "optimizer_paths.png", "profile.png"} <= {
        path.name for path in alone.iterdir()
    }
    _, test_loader = prepare_dataset(101, 16)
    assert (
        compute_accuracy(load_network(alone / "network.safetensors"), test_loader)
        == metrics["accuracy"]
    )


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_two_processes_learn_what_one_learns(alone, tmp_path, strategy):
    """Oracle: one process. Sums are taken in another order, nothing else differs; both parts of
    a batch are unequal.
    """
    run(tmp_path, *FLAGS, "--strategy", strategy, start=TWO)
    ours, theirs = (
        load_file(folder / "network.safetensors") for folder in (tmp_path / "appendix_a", alone)
    )
    for name, tensor in theirs.items():
        torch.testing.assert_close(ours[name], tensor, atol=1e-5, rtol=1e-4)
    one, two = (
        json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
        for folder in (alone, tmp_path / "appendix_a")
    )
    assert two["processes"] == 2
    assert (two["steps"], two["accuracy"]) == (one["steps"], one["accuracy"])
    assert two["loss"] == pytest.approx(one["loss"], rel=1e-4)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--epochs", "0"], "--epochs must be a positive number, not 0"),
        (["--strategy", "ddp"], "start it with torchrun --nproc-per-node 2"),
    ],
)
def test_wrong_input_is_refused_in_one_line(tmp_path, arguments, words):
    error = run(tmp_path / "run", *arguments, ok=False)
    assert error.startswith("error: ") and words in error and error.count("\n") == 1
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_processes_without_a_row_are_refused(tmp_path):
    error = run(tmp_path, "--strategy", "ddp", "--points", "33", start=TWO, ok=False)
    assert "2 processes cannot share a batch of 1" in error
