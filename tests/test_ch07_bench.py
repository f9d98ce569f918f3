"""The training benchmark: the peers really are the same model, and every contender is timed."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from ch03_gpt import GPTConfig, GPTModel
from ch07_practice import training_bench
from ch07_practice.peers import book_gpt, transformers_gpt2
from ch07_practice.training_bench import CONTENDERS, SIZES, Size, draw_bench, measure

ROOT = Path(__file__).parent.parent
TINY = GPTConfig(vocab_size=65, context_length=16, emb_dim=32, n_heads=2, n_layers=2, qkv_bias=True,
                 tie_embeddings=True)
BOOK = pytest.mark.skipif(not importlib.util.find_spec("llms_from_scratch"),
                          reason="the book's package is not installed (pip install --no-deps llms-from-scratch)")


@pytest.mark.parametrize("peer", ["transformers", *[pytest.param(variant, marks=BOOK)
                                                    for variant in ("plain", "fast")]])
def test_peers_compute_the_same_logits_with_as_many_parameters(peer):
    """Oracle: our model in float32; biases are made non-zero, so that each must have found its place."""
    torch.manual_seed(0)
    ours = GPTModel(TINY)
    with torch.no_grad():
        for parameter in ours.parameters():
            parameter += 0.02 * torch.randn_like(parameter)
    theirs = transformers_gpt2(ours) if peer == "transformers" else book_gpt(ours, peer)
    ids = torch.randint(0, 65, (2, 16))
    logits = theirs.eval()(ids)
    torch.testing.assert_close(getattr(logits, "logits", logits), ours.eval()(ids), atol=1e-5, rtol=1e-4)
    assert sum(p.numel() for p in theirs.parameters()) == ours.n_parameters()


@pytest.mark.slow
def test_contenders_are_timed_and_lose_alike():
    """Same weights, batches and optimizer: the losses agree to what bfloat16 leaves."""
    size = Size("tiny", TINY, 4, warmup=15)
    rows = measure(size, [CONTENDERS["ours"], CONTENDERS["transformers"]], torch.device("cpu"), 0.05)
    assert [row["contender"] for row in rows] == ["ours", "transformers"]
    losses = [row["loss after 15 steps"] for row in rows]
    assert losses[0] == pytest.approx(losses[1], abs=0.02)
    assert 2.5 < losses[0] < 4.1
    for row in rows:
        assert row["steps timed"] >= 6
        assert row["tokens/s"] > 0
        assert 0 < row["of peak"] < 1


def test_the_sizes_are_the_published_ones():
    shapes = {name: (s.config.n_layers, s.config.emb_dim, s.config.context_length, s.config.vocab_size, s.batch_size)
              for name, s in SIZES.items()}
    assert shapes == {"4x128": (4, 128, 64, 65, 12), "6x384-b8": (6, 384, 256, 4096, 8),
                      "6x384-b32": (6, 384, 256, 4096, 32), "12x768": (12, 768, 256, 50_257, 4)}


def test_the_figure_has_a_bar_for_every_contender():
    import pandas as pd

    rows = [{"size": size, "contender": name, "tokens/s": 5.0} for size in "ab" for name in ("ours", "x")]
    assert [len(axes.patches) for axes in draw_bench(pd.DataFrame(rows)).axes] == [2, 2]


@pytest.mark.slow
@pytest.mark.parametrize(("arguments", "words"), [(["--size", "huge"], "unknown size 'huge'; choose one of 4x128"),
                                                  (["--seconds", "0"], "--seconds must be positive")])
def test_wrong_input_is_refused(tmp_path, arguments, words):
    result = subprocess.run([sys.executable, "ch07_practice/main.py", "bench", "--run", str(tmp_path / "run"),
                             *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert words in result.stderr
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_the_command_writes_its_table(tmp_path, monkeypatch):
    """With two contenders and one round; all of them take two minutes."""
    from ch07_practice.main import bench

    monkeypatch.setattr(training_bench, "CONTENDERS", {name: CONTENDERS[name] for name in ("ours", "transformers")})
    monkeypatch.setattr(training_bench, "ROUNDS", 1)
    bench("train", size="4x128", seconds=0.2, run=tmp_path, device="cpu")
    found = json.loads((tmp_path / "ch07_practice" / "bench_train.json").read_text(encoding="utf-8"))
    rows = {row["contender"]: row for row in found["train"]}
    assert set(rows) == {"ours", "transformers"}
    assert rows["ours"]["loss after 60 steps"] == pytest.approx(rows["transformers"]["loss after 60 steps"], abs=0.05)
    assert (tmp_path / "ch07_practice" / "bench_train.png").stat().st_size > 5000
