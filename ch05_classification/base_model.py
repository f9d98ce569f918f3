"""The language model that a classifier begins as: pretrained on stories, on the task's own
texts, elsewhere, or not.
"""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import torch

from ch01_text import BPETokenizer
from ch01_text.run import write_atomically
from ch03_gpt import GPTModel, preset_config
from ch04_pretraining import PretrainConfig, ensure_pretrained, from_pretrained, tokenizer_of
from ch05_classification.examples import Task

VOCABULARY = 1000  # tokens at most, where the texts to classify are all there is to learn them from
DROPOUT = 0.3  # for so few texts


def with_dropout(model: GPTModel, rate: float) -> GPTModel:
    """A copy of `model` that drops so many activations while it is trained."""
    other = GPTModel(replace(model.config, drop_rate=rate))
    other.load_state_dict(model.state_dict())
    return other


def train_tokenizer(texts: list[str], trained_on: str = "") -> BPETokenizer:
    """A byte-pair encoding with more tokens the more text there is."""
    size = min(VOCABULARY, 257 + sum(map(len, texts)) // 100)
    return BPETokenizer.train(texts, size, metadata={"trained_on": trained_on})


def read_the_texts(task: Task, folder: Path, steps: int, seed: int) -> Path:
    """A small language model of the training texts and the unlabelled ones: made by chapter 4 in
    `folder`, or found there. The one with the lowest validation loss, since so few texts are soon
    learned by heart.
    """
    texts = [*task.train.texts, *task.unlabelled]
    file = folder / "texts.jsonl"
    content = "".join(json.dumps({"text": text}, ensure_ascii=False) + "\n" for text in texts)
    if not file.is_file() or file.read_text(encoding="utf-8") != content:
        shutil.rmtree(folder, ignore_errors=True)  # what was learned from other texts
        (folder / "ch01_text").mkdir(parents=True)
        train_tokenizer(texts, str(file)).save(folder / "ch01_text")
        write_atomically(file, content)
    config = PretrainConfig(
        str(file), str(folder / "ch01_text"), "messages", steps=steps, seed=seed
    )
    ensure_pretrained(folder, config)
    return folder / "ch04_pretraining" / "best"


def find_base_model(task: Task, source: str, run: Path, seed: int, steps: int):
    """(model on the CPU, its tokenizer). `source`: "pretrained", "scratch", or what
    `from_pretrained` knows.

    Pretrained is the run's story model where the task is about stories, else a small model that
    chapter 4 trains for `steps` on the training texts; from scratch has its shape and tokenizer.
    """
    if source not in ("pretrained", "scratch"):
        return from_pretrained(source), tokenizer_of(source)
    if task.about_stories:
        checkpoint = ensure_pretrained(run)
        model, tokenizer = from_pretrained(checkpoint), tokenizer_of(checkpoint)
    elif source == "pretrained":
        checkpoint = read_the_texts(task, run / f"{task.name}-{seed}", steps, seed)
        model, tokenizer = from_pretrained(checkpoint), tokenizer_of(checkpoint)
    else:
        tokenizer = train_tokenizer([*task.train.texts, *task.unlabelled])
        model = GPTModel(preset_config("messages", vocab_size=tokenizer.n_vocab))
    if source == "scratch":
        torch.manual_seed(seed)
        model.reset_parameters()
    return (model if task.about_stories else with_dropout(model, DROPOUT)), tokenizer
