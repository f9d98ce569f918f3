"""The `complete` command and the decoding benchmarks, on small untrained models."""

import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import torch

from ch01_text import BPETokenizer
from ch03_gpt import GPTConfig, GPTModel, generate, pick_precision, preset_config
from ch04_pretraining import save_checkpoint
from ch07_practice.benchmarks import decoding_bench
from ch07_practice.benchmarks.decoding_bench import (
    BATCHES,
    CANDIDATES,
    Size,
    _work,
    draw_bench,
    measure,
)
from ch07_practice.benchmarks.decoding_candidates import available_candidates
from ch07_practice.benchmarks.reference_models import ctranslate2_generator
from ch07_practice.decoding import completion
from ch07_practice.decoding.completion import CompletionConfig

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory) -> Path:
    """A run with an untrained model."""
    folder = tmp_path_factory.mktemp("run")
    torch.manual_seed(0)
    tokenizer = BPETokenizer.train(
        "Once upon a time there was a cat, and it sat on the mat. 12 café\n" * 30, 290
    )
    model = GPTModel(preset_config("tiny", vocab_size=tokenizer.n_vocab, context_length=128))
    save_checkpoint(folder / "ch04_pretraining" / "checkpoint", model, tokenizer)
    return folder


def complete(folder: Path, *arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "ch07_practice/main.py", "complete", *arguments, "--run", str(folder)],
        cwd=ROOT,
        capture_output=True,
        check=False,
    )


def test_a_text_is_continued_the_same_way_for_the_same_seed(run_folder, capsys):
    outputs = []
    for seed in (1, 1, 2):
        config = CompletionConfig(max_new_tokens=20, seed=seed)
        completion.complete("Once upon", config, run=run_folder, device="cpu")
        outputs.append(capsys.readouterr())
    assert outputs[0].out == outputs[1].out != outputs[2].out
    assert outputs[0].out.startswith("Once upon")
    assert re.search(r"\(20 tokens, [\d,]+ tokens/s\)", outputs[0].err)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "pattern"),
    [
        (["--regex", r"\d+ cats?\."], r"\d+ cats?\."),
        (["--choices", "a cat", "the mat", "--temperature", "0"], "a cat|the mat"),
        (
            [
                "--json-schema",
                '{"type": "object", "properties": {"n": {"type": "boolean"}}, "required": ["n"]}',
            ],
            r'\{ ?"n" ?: ?(true|false) ?\}',
        ),
        (["--speculate", "lookup", "--temperature", "0"], r"[\s\S]*"),
        (["--weights", "int8", "--top-k", "5"], r"[\s\S]*"),
        (["--weights", "float32", "--top-p", "0.9"], r"[\s\S]*"),
    ],
)
def test_formats_and_number_formats(run_folder, arguments, pattern):
    """Oracle: re.fullmatch on what follows the prompt."""
    if "--json-schema" in arguments:
        pytest.importorskip("outlines_core")
    result = complete(run_folder, "Once", "--max-new-tokens", "60", *arguments)
    assert result.returncode == 0, result.stderr
    text = result.stdout.decode().removeprefix("Once").rstrip("\n")
    assert re.fullmatch(pattern, text), text


@pytest.mark.slow
def test_speculation_changes_nothing_but_the_speed(run_folder):
    """Oracle: plain greedy decoding, in float32, where no tie can be broken differently."""
    arguments = [
        "Once upon",
        "--temperature",
        "0",
        "--max-new-tokens",
        "60",
        "--weights",
        "float32",
    ]
    plain = complete(run_folder, *arguments)
    speculative = complete(run_folder, *arguments, "--speculate", "lookup")
    assert plain.stdout == speculative.stdout != b""


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([""], "the prompt is empty"),
        (["Once", "--stop", ""], "a stop string is empty"),
        (["Once", "--temperature", "0", "--top-k", "5"], "top_k filters what is sampled"),
        (["Once", "--regex", "(a"], "unterminated subpattern at position 0"),
        (["Once", "--max-new-tokens", "0"], "--max-new-tokens must be a positive number, not 0"),
        (
            ["Once", "--regex", r"\d{9}", "--max-new-tokens", "5"],
            "may need 9 tokens, more than the 5 allowed",
        ),
        (["Once", "--regex", "a", "--choices", "b"], "choose one of --regex"),
        (["Once", "--regex", "a", "--speculate", "lookup"], "leave out --speculate or the format"),
        (["Once " * 200], "the model sees 128; shorten the prompt"),
        (["Once", "--model", "no/such/place"], "no Hub repository"),
        (["Once", "--json-schema", "{"], "the JSON schema is not valid JSON"),
        (["Once", "--samples", "0"], "--samples must be"),
    ],
)
def test_wrong_requests_are_refused_in_one_line(refusal, capfd, run_folder, arguments, words):
    assert words in refusal("ch07_practice/main.py", "complete", *arguments, "--run", run_folder)
    assert capfd.readouterr() == ("", "")


CPU = torch.device("cpu")
TINY = Size("tiny", GPTConfig(96, 64, 32, 2, 2, qkv_bias=True, tie_embeddings=True), 24)


@pytest.mark.skipif(
    not importlib.util.find_spec("llms_from_scratch"),
    reason="the book's package is not installed (pip install --no-deps llms-from-scratch)",
)
def test_the_books_model_generates_what_ours_does():
    """Oracle: our float32 model with the same weights."""
    ours, theirs = CANDIDATES["ours, float32"], CANDIDATES["llms_from_scratch, float32"]
    ids = torch.randint(0, 96, (3, 5))
    assert torch.equal(
        ours.build(TINY.config, CPU)[0](ids, 20), theirs.build(TINY.config, CPU)[0](ids, 20)
    )


def test_ctranslate2_generates_what_ours_does():
    """Oracle: our float32 model, with perturbed weights so that every tensor and bias counts. It often
    generates the last token of the vocabulary, which must not end the text.
    """
    pytest.importorskip(
        "ctranslate2", reason="CTranslate2 is not installed (pip install ctranslate2)"
    )
    torch.manual_seed(0)
    ours = GPTModel(TINY.config).eval()
    with torch.no_grad():
        for parameter in ours.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    ids = torch.randint(0, 96, (3, 5))
    expected = generate(ours, ids, 40)
    generate_theirs, n_bytes = ctranslate2_generator(ours, "float32")
    assert torch.equal(generate_theirs(ids, 40), expected)
    assert (expected[:, :-1] == 95).any()
    rounded, fewer_bytes = ctranslate2_generator(ours, "int8")
    assert rounded(ids, 40).shape == expected.shape
    assert fewer_bytes < 0.5 * n_bytes


def test_slow_batches_are_skipped(monkeypatch):
    """With a time limit of 0, one prompt is still measured, once."""
    monkeypatch.setattr(decoding_bench, "PATIENCE", 0)
    monkeypatch.setattr(decoding_bench, "memory_bandwidth", lambda device: 1.0)
    monkeypatch.setattr(decoding_bench, "_median_seconds", lambda *arguments: 1.0)
    measurement = _work(CANDIDATES["ours, float32"], 0, TINY, CPU, repeats=3)
    assert list(measurement.rest) == [1]


def test_no_candidate_computes_in_an_emulated_format(capsys):
    """Oracle: the precision that is chosen for this processor."""
    native = pick_precision(CPU).dtype == torch.bfloat16
    weights = {candidate.weights for candidate in available_candidates(CANDIDATES.values(), CPU)}
    assert ("bfloat16" in weights) == native
    assert ("bfloat16 is left out: bfloat16 matrix products take" in capsys.readouterr().out) == (
        not native
    )
    assert {c.weights for c in available_candidates(CANDIDATES.values(), torch.device("meta"))} <= {
        "float32",
        "bfloat16",
    }


@pytest.mark.slow
def test_candidates_generate_the_same_text():
    """Oracle: our float32 model; transformers with the same weights generates the same text."""
    names = ["ours, float32", "ours, int8", "transformers, float32"]
    *_, found = measure(
        TINY, "tiny", [CANDIDATES[name] for name in names], CPU, rounds=1, repeats=1
    )
    rows = {row["candidate"]: row for row in found}
    assert list(rows) == names
    assert rows["transformers, float32"]["as ours, float32"] == "24/24 tokens"
    for row in rows.values():
        assert min(value for value in row.values() if isinstance(value, float)) > 0
    assert rows["ours, int8"]["weights, MiB"] < 0.6 * rows["ours, float32"]["weights, MiB"]


def test_the_figure_has_a_line_for_every_candidate():
    rows = [
        {
            "size": size,
            "candidate": name,
            **{f"tokens/s, {B} prompt{'s' * (B > 1)}": 5.0 * B for B in BATCHES},
        }
        for size in "ab"
        for name in ("ours", "x")
    ]
    assert [len(axes.lines) for axes in draw_bench(pd.DataFrame(rows)).axes] == [2, 2]


@pytest.mark.slow
def test_the_quantization_table_has_every_format(tmp_path):
    """Oracle: the readable formats, whose perplexity the fast ones must reproduce."""
    text = tmp_path / "text.txt"
    text.write_text(
        "The quick brown fox jumps over the lazy dog, and then it sleeps. " * 300, encoding="utf-8"
    )
    command = [
        sys.executable,
        "ch04_pretraining/main.py",
        "--tokenizer",
        "char",
        "--preset",
        "tiny",
        "--batch-size",
        "2",
        "--data",
        str(text),
        "--steps",
        "2",
        "--run",
        str(tmp_path / "run"),
    ]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    command = [
        sys.executable,
        "ch07_practice/main.py",
        "bench",
        "--bench",
        "quantization",
        "--run",
        str(tmp_path / "run"),
    ]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    found = json.loads(
        (tmp_path / "run" / "ch07_practice" / "bench_quantization.json").read_text(encoding="utf-8")
    )
    rows = {row["weights"]: row for row in found["quantization"]}
    formats = {
        "float32",
        "int8",
        "int4",
        "int8, readable",
        "int8-dynamic, readable",
        "int4, readable",
    }
    assert set(rows) == formats | (
        {"bfloat16"} if pick_precision(CPU).dtype == torch.bfloat16 else set()
    )
    assert rows["int8"]["perplexity"] == pytest.approx(rows["float32"]["perplexity"], rel=0.01)
    assert rows["int4"]["perplexity"] == pytest.approx(
        rows["int4, readable"]["perplexity"], rel=0.01
    )
    assert rows["int4"]["MiB"] < rows["int8"]["MiB"] < rows["float32"]["MiB"] / 2
