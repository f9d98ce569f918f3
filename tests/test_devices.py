"""Other devices than this machine's, played on its CPU: Apple's GPUs, which have no float64, and
files from a GPU.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from appendix_a import NeuralNetwork, load_run, save_run
from ch01_text import BPETokenizer, CharTokenizer, RandomWindows
from ch01_text.storyworld import stories
from ch03_gpt import GPTConfig, GPTModel, generate, pick_precision, preset_config
from ch04_pretraining import (
    PretrainConfig,
    TrainOptions,
    load_checkpoint,
    make_optimizers,
    save_checkpoint,
    train,
)
from ch04_pretraining.checkpoint import read_training_state, restore_training_state, training_state
from ch04_pretraining.main import main as pretrain
from ch05_classification import ClassifierConfig
from ch05_classification.main import main as classify
from ch06_instruction.config import GRPOConfig, PPOConfig
from ch06_instruction.main import InstructionConfig
from ch06_instruction.main import main as tune
from ch07_practice.evaluation.evaluate_command import evaluate
from ch07_practice.evaluation.likelihood import score_rows

TOKENIZER = CharTokenizer.train("abcdef")
TINY = GPTConfig(TOKENIZER.n_vocab, 8, 16, 2, 1)
TEXT = "It is a truth universally acknowledged, that tests want texts. " * 200


class OnCPU(torch.Tensor):
    """What `.cpu()` returned, and all that was computed from it."""


class NoFloat64(TorchDispatchMode):
    """A device without float64: only what `.cpu()` has brought back may have it."""

    def __enter__(self):
        self.patch = pytest.MonkeyPatch()
        self.patch.setattr(torch.Tensor, "cpu", lambda tensor: tensor.as_subclass(OnCPU))
        return super().__enter__()

    def __exit__(self, *error):
        self.patch.undo()
        return super().__exit__(*error)

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        result = operation(*args, **(kwargs or {}))
        given = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
        made = [leaf for leaf in tree_leaves(result) if isinstance(leaf, torch.Tensor)]
        if any(tensor.dtype == torch.float64 for tensor in given + made) and not any(
            isinstance(tensor, OnCPU) for tensor in given
        ):
            raise TypeError(f"{operation} on a device without float64")
        return result


@pytest.mark.parametrize(
    "wrong",
    [
        lambda x: x.double(),
        lambda x: x.to(torch.float64).sum(),
        lambda x: torch.tensor(np.ones(2)) + 1,
        lambda x: torch.zeros(2, dtype=torch.float64, device=x.device),
    ],
)
def test_the_device_without_float64_refuses_it(wrong):
    x = torch.ones(3)
    with NoFloat64():
        assert (x.sum().cpu().double() / 3).item() == 1
        with pytest.raises(TypeError, match="without float64"):
            wrong(x)


def test_losses_likelihoods_and_texts_need_no_float64():
    """Oracle: the same numbers as without the device."""
    precision = pick_precision(torch.device("cpu"), "float32")
    torch.manual_seed(0)
    model = GPTModel(TINY).eval()
    rows = [([1, 2], [3, 4, 5]), ([3], [0, 1])]
    expected = score_rows(model, rows, precision)
    with NoFloat64():
        assert score_rows(model, rows, precision) == expected
        ids = generate(
            model,
            torch.zeros(2, 1, dtype=torch.long),
            4,
            temperature=0.9,
            top_k=4,
            top_p=0.9,
            min_p=0.01,
            repetition_penalty=1.1,
        )
    assert ids.shape == (2, 5)


@pytest.fixture
def run(tmp_path) -> Path:
    """A run folder with a text, a table, and an untrained story model."""
    (tmp_path / "text.txt").write_text(TEXT, encoding="utf-8")
    rows = [
        (f"{word} day number {i}", mood)
        for i in range(30)
        for mood, word in (("good", "nice"), ("bad", "dull"))
    ]
    pd.DataFrame(rows, columns=["text", "label"]).to_csv(tmp_path / "moods.csv", index=False)
    tokenizer = BPETokenizer.train([story.text for story in stories(100)], 500)
    torch.manual_seed(0)
    save_checkpoint(
        tmp_path / "ch04_pretraining" / "checkpoint",
        GPTModel(preset_config("tiny", vocab_size=tokenizer.n_vocab, context_length=256)),
        tokenizer,
    )
    return tmp_path


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", ["muon", "adamw"])
def test_pretraining_needs_no_float64(run, optimizer):
    config = PretrainConfig(
        run / "text.txt",
        tokenizer="char",
        preset="tiny",
        steps=2,
        batch_size=2,
        optimizer=optimizer,
        dtype="float32",
    )
    with NoFloat64():
        pretrain(config, run=run)
        metrics = pretrain(replace(config, steps=4), run=run, resume=True)
    assert metrics["steps"] == 4


@pytest.mark.slow
@pytest.mark.parametrize("lora_rank", [0, 2])
def test_classifying_needs_no_float64(run, lora_rank):
    config = ClassifierConfig(
        task=str(run / "moods.csv"),
        start=str(run / "ch04_pretraining" / "checkpoint"),
        epochs=1,
        class_weights=True,
        lora_rank=lora_rank,
    )
    with NoFloat64():
        metrics = classify(config, run=run)
        classify(classify="a nice day", run=run)
    assert 0 <= metrics["accuracy"] <= 1


@pytest.mark.slow
def test_tuning_aligning_and_evaluating_need_no_float64(run, monkeypatch):
    draws = iter(range(10_000))
    monkeypatch.setattr(
        "ch06_instruction.rewards.exact_match", lambda text, answer: next(draws) % 3 == 0
    )
    monkeypatch.setattr("ch06_instruction.answering.MAX_NEW_TOKENS", 12)
    with NoFloat64():
        metrics = tune(
            InstructionConfig(conversations=24, questions=8, pairs=8, prompts=4),
            ppo=PPOConfig(num_rollouts=1),
            grpo=GRPOConfig(num_rollouts=1),
            dtype="float32",
            run=run,
        )
        found = evaluate(questions=4, tokens=300, dtype="float32", run=run)
    assert {"base", "sft", "reward", "dpo", "ppo", "grpo"} <= set(metrics)
    assert {row["task"] for row in found["results"]} == {
        "stories",
        "choice",
        "instructions",
        "storyworld",
    }


@contextmanager
def gpu_writes() -> Iterator[None]:
    """Within it, files say of their tensors that they come from a GPU that is not here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("torch.serialization.location_tag", lambda storage: "cuda:99")
        yield


def test_a_run_that_a_gpu_wrote_goes_on_here(tmp_path):
    """Oracle: the run that stayed on one machine, stopped between two log entries, so that sums
    wait in the state.
    """

    def begin():
        torch.manual_seed(1)
        model = GPTModel(TINY)
        tokens = np.random.default_rng(0).integers(0, TINY.vocab_size, 200).astype(np.uint16)
        return (
            model,
            make_optimizers(model),
            RandomWindows(tokens, 8, 4, torch.Generator().manual_seed(2)),
        )

    model, optimizers, batches = begin()
    whole = train(model, batches, steps=6, optimizers=optimizers, options=TrainOptions(log_every=4))

    first, optimizers, batches = begin()
    stopped = iter([False, True])
    part = train(
        first,
        batches,
        steps=6,
        optimizers=optimizers,
        options=TrainOptions(log_every=4, should_stop=lambda: next(stopped)),
    )
    assert len(part.pending) == 2
    with gpu_writes():
        save_checkpoint(
            tmp_path / "c", first, TOKENIZER, training_state(optimizers, batches, part, {})
        )
    with pytest.raises(RuntimeError, match="CUDA"):
        torch.load(tmp_path / "c" / "train_state.pt", weights_only=True)

    second, _ = load_checkpoint(tmp_path / "c")
    optimizers, (_, _, batches) = make_optimizers(second), begin()
    progress = restore_training_state(read_training_state(tmp_path / "c"), optimizers, batches)
    resumed = train(
        second,
        batches,
        steps=6,
        optimizers=optimizers,
        state=progress,
        options=TrainOptions(log_every=4),
    )
    assert torch.equal(model.tok_emb.weight, second.tok_emb.weight)
    assert [entry["train_loss"] for entry in resumed.log] == [
        entry["train_loss"] for entry in whole.log
    ]


def test_appendix_as_run_that_a_gpu_wrote_goes_on_here(tmp_path):
    """Oracle: weights, momentum and generator that were saved."""

    def begin(seed: int):
        torch.manual_seed(seed)
        network = NeuralNetwork(2, 2)
        optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9)
        network(torch.ones(3, 2)).sum().backward()
        optimizer.step()
        return network, optimizer, torch.Generator().manual_seed(seed)

    theirs, ours = begin(1), begin(2)
    with gpu_writes():
        save_run(tmp_path / "run.pt", *theirs)
    load_run(tmp_path / "run.pt", *ours)
    for mine, other in zip(ours[0].parameters(), theirs[0].parameters(), strict=True):
        assert torch.equal(mine, other)
        assert torch.equal(
            ours[1].state[mine]["momentum_buffer"], theirs[1].state[other]["momentum_buffer"]
        )
    assert torch.equal(ours[2].get_state(), theirs[2].get_state())
