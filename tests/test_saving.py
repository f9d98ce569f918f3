"""What is saved replaces what stood there whole or not at all, on a system with Windows' limits,
too.

Oracle: what was saved before and after, read back by each format's own loader.
"""

import errno
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch

from appendix_a import NeuralNetwork, load_network, load_run, save_network, save_run
from appendix_b.saving import load_arrays, save_arrays
from ch01_text import CharTokenizer, open_tokens, save_tokens, tokenize_files
from ch01_text.run import write_atomically
from ch01_text.saving import PATIENCE
from ch03_gpt import GPTConfig, GPTModel
from ch04_pretraining import from_pretrained, load_checkpoint, save_checkpoint, save_pretrained
from ch04_pretraining.checkpoint import read_training_state
from ch05_classification import (
    ClassifierConfig,
    ClassifierMetadata,
    GPTClassifier,
    load_classifier,
    save_classifier,
)
from ch05_classification.lora import load_adapter, replace_linear_with_lora, save_adapter

TOKENIZER = CharTokenizer.train("abcdef")
CONFIG = GPTConfig(TOKENIZER.n_vocab, 8, 16, 2, 1, qkv_bias=True)


def model_of(value: float) -> GPTModel:
    """A model of which one number tells it from others."""
    model = GPTModel(CONFIG)
    with torch.no_grad():
        model.final_norm.scale.fill_(value)
    return model


def value_of(model: GPTModel) -> float:
    return model.final_norm.scale[0].item()


def adapted(value: float) -> GPTModel:
    model = GPTModel(CONFIG)
    replace_linear_with_lora(model, 2, 4.0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(value)
    return model


def network_of(value: float) -> NeuralNetwork:
    network = NeuralNetwork(2, 2)
    with torch.no_grad():
        network.layers[0].bias.fill_(value)
    return network


def run_of(value: float) -> tuple:
    network = network_of(value)
    return network, torch.optim.SGD(network.parameters(), lr=0.1), torch.Generator()


def read_adapter(path) -> float:
    model = adapted(0)
    load_adapter(model, path)
    return (
        next(parameter for parameter in model.parameters() if parameter.requires_grad)
        .flatten()[0]
        .item()
    )


def read_run(path) -> float:
    state = run_of(0)
    load_run(path, *state)
    return state[0].layers[0].bias[0].item()


def tokenize(folder, value: int) -> None:
    file = Path(folder).with_name("text.txt")
    file.write_text("abc" * 10 * value, encoding="utf-8")
    tokenize_files([file], TOKENIZER, folder)


def tokens_in(folder) -> int:
    return round(sum(len(open_tokens(path)) for path in Path(folder).glob("*.npy")) / 30)


class Format(NamedTuple):
    """How something with a small number in it is saved at a path, and how the number is read
    back.
    """

    save: Callable[[str | Path, int], None]
    value: Callable[[str | Path], float]


FORMATS = {
    "text": Format(
        lambda path, value: write_atomically(path, str(value)),
        lambda path: float(Path(path).read_text(encoding="utf-8")),
    ),
    "checkpoint": Format(
        lambda path, value: save_checkpoint(path, model_of(value), TOKENIZER, {"value": value}),
        lambda path: value_of(load_checkpoint(path)[0]),
    ),
    "training state": Format(
        lambda path, value: save_checkpoint(path, model_of(value), TOKENIZER, {"value": value}),
        lambda path: read_training_state(path)["value"],
    ),
    "classifier": Format(
        lambda path, value: save_classifier(
            path,
            GPTClassifier(model_of(value), 2),
            TOKENIZER,
            ClassifierMetadata(("yes", "no"), "last", 1.0, ClassifierConfig()),
        ),
        lambda path: value_of(load_classifier(path)[0].model),
    ),
    "adapter": Format(lambda path, value: save_adapter(adapted(value), path), read_adapter),
    "tokens": Format(
        lambda path, value: save_tokens(path, np.full(3, value)), lambda path: open_tokens(path)[0]
    ),
    "shards": Format(tokenize, tokens_in),
    "network": Format(
        lambda path, value: save_network(network_of(value), path),
        lambda path: load_network(path).layers[0].bias[0].item(),
    ),
    "run": Format(lambda path, value: save_run(path, *run_of(value)), read_run),
    "arrays": Format(
        lambda path, value: save_arrays(path, {"x": np.array(value)}, {}),
        lambda path: load_arrays(path)[0]["x"],
    ),
}


class Windows:
    """Windows' limits; nothing `held` open by another program can be renamed, replaced or
    removed.
    """

    def __init__(self, monkeypatch):
        self.held: list[Path] = []
        self.slept: list[float] = []
        self.may_write: dict[int, bool] = {}
        self.real = {name: getattr(os, name) for name in ("open", "fsync", "replace", "unlink")}
        for name in self.real:
            monkeypatch.setattr(os, name, getattr(self, name))
        # as it is there: rmtree opens no folders
        monkeypatch.setattr(shutil, "_use_fd_functions", False)
        monkeypatch.setattr(time, "sleep", self.slept.append)

    def refuse(self, path: object) -> None:
        raise PermissionError(errno.EACCES, "Access is denied", str(path))

    def open(self, path, flags, *rest, **named) -> int:
        if Path(path).is_dir():
            self.refuse(path)
        descriptor = self.real["open"](path, flags, *rest, **named)
        self.may_write[descriptor] = bool(flags & (os.O_RDWR | os.O_WRONLY))
        return descriptor

    def fsync(self, descriptor: int) -> None:
        if not self.may_write.get(descriptor):
            raise PermissionError(errno.EACCES, "Access is denied")
        self.real["fsync"](descriptor)

    def replace(self, source, target) -> None:
        if Path(target).is_dir() or any(
            path.is_relative_to(place) for path in self.held for place in (source, target)
        ):
            self.refuse(source)
        self.real["replace"](source, target)

    def unlink(self, path, **named) -> None:
        if Path(path) in self.held:
            self.refuse(path)
        self.real["unlink"](path, **named)


@pytest.fixture
def windows(monkeypatch) -> Windows:
    return Windows(monkeypatch)


@pytest.mark.parametrize("kind", [str, Path])
@pytest.mark.parametrize("name", FORMATS)
def test_everything_is_saved_and_replaced_under_windows_limits(windows, tmp_path, name, kind):
    """Any kind of path will do; nothing is left beside it."""
    path = kind(tmp_path / "saved")
    for value in (3, 4):
        FORMATS[name].save(path, value)
        assert FORMATS[name].value(path) == value
    assert {file.name for file in tmp_path.iterdir()} <= {"saved", "text.txt"}


@pytest.mark.parametrize("name", FORMATS)
def test_what_stood_there_stays_when_saving_fails(monkeypatch, tmp_path, name):
    """The disk refuses what was written, the renames included."""
    path = tmp_path / "saved"
    FORMATS[name].save(path, 3)
    for broken in ("_flush", "_rename"):
        with monkeypatch.context() as patch:
            patch.setattr(
                f"ch01_text.saving.{broken}", lambda *_: (_ for _ in ()).throw(OSError("disk full"))
            )
            with pytest.raises(OSError, match="disk full"):
                FORMATS[name].save(path, 4)
        assert FORMATS[name].value(path) == 3
        assert {file.name for file in tmp_path.iterdir()} <= {"saved", "text.txt"}


@pytest.mark.parametrize("name", ["text", "checkpoint"])
def test_a_reader_who_lets_go_soon_is_waited_for(windows, monkeypatch, tmp_path, name):
    path = tmp_path / "saved"
    FORMATS[name].save(path, 3)
    windows.held.append(path / "model.safetensors" if path.is_dir() else path)
    monkeypatch.setattr(
        time,
        "sleep",
        lambda seconds: (
            windows.slept.append(seconds) or (len(windows.slept) == 2 and windows.held.clear())
        ),
    )
    FORMATS[name].save(path, 4)
    assert windows.slept == list(PATIENCE[:2])
    assert FORMATS[name].value(path) == 4


@pytest.mark.parametrize("name", ["text", "checkpoint"])
def test_a_reader_who_does_not_let_go_is_one_clear_error(windows, tmp_path, name):
    path = tmp_path / "saved"
    FORMATS[name].save(path, 3)
    windows.held.append(path / "model.safetensors" if path.is_dir() else path)
    with pytest.raises(OSError, match="close the programs that have it or its files open"):
        FORMATS[name].save(path, 4)
    assert windows.slept == list(PATIENCE)
    assert FORMATS[name].value(path) == 3
    assert [file.name for file in tmp_path.iterdir()] == ["saved"]


def test_weights_in_gpt2s_layout_join_what_is_in_the_folder(windows, tmp_path):
    (tmp_path / "notes.txt").write_text("mine", encoding="utf-8")
    for value in (3, 4):
        save_pretrained(model_of(value), str(tmp_path))
        assert value_of(from_pretrained(tmp_path)) == value
    assert {file.name for file in tmp_path.iterdir()} == {
        "notes.txt",
        "model.safetensors",
        "config.json",
    }
