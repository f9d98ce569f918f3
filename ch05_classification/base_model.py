"""The language model that a classifier starts from: the run's own, one pretrained on the task's
texts, one from elsewhere, or an untrained one.
"""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import torch

from ch01_text import BPETokenizer, Tokenizer
from ch01_text.run import write_atomically
from ch03_gpt import GPTModel, preset_config
from ch04_pretraining import PretrainConfig, ensure_pretrained, from_pretrained, tokenizer_of
from ch05_classification.config import ClassifierConfig
from ch05_classification.dataset import Task

MAX_VOCABULARY = 1000  # tokens, if they are learned from the task's texts alone
DROPOUT = 0.3  # high, because the texts are few


def with_dropout(model: GPTModel, rate: float) -> GPTModel:
    """A copy of `model` with another dropout rate."""
    other = GPTModel(replace(model.config, drop_rate=rate))
    other.load_state_dict(model.state_dict())
    return other


def train_tokenizer(texts: list[str], trained_on: str = "") -> BPETokenizer:
    """A byte-pair encoding whose vocabulary grows with the amount of text."""
    size = min(MAX_VOCABULARY, 257 + sum(map(len, texts)) // 100)
    return BPETokenizer.train(texts, size, metadata={"trained_on": trained_on})


def pretrain_on_task_texts(task: Task, folder: Path, steps: int, seed: int) -> Path:
    """Pretrain a small language model on the training texts and the unlabelled ones (task-adaptive
    pretraining, Gururangan et al. 2020), or find it in `folder`.

    Returns the checkpoint with the lowest validation loss, since so few texts are soon memorised.
    """
    texts = [*task.train.texts, *task.unlabelled]
    file = folder / "texts.jsonl"
    content = "".join(json.dumps({"text": text}, ensure_ascii=False) + "\n" for text in texts)
    if not file.is_file() or file.read_text(encoding="utf-8") != content:
        shutil.rmtree(folder, ignore_errors=True)  # a model of other texts
        (folder / "ch01_text").mkdir(parents=True)
        train_tokenizer(texts, str(file)).save(folder / "ch01_text")
        write_atomically(file, content)
    config = PretrainConfig(
        data=str(file),
        tokenizer=str(folder / "ch01_text"),
        preset="messages",
        steps=steps,
        seed=seed,
    )
    ensure_pretrained(folder, config)
    return folder / "ch04_pretraining" / "best"


def find_base_model(task: Task, config: ClassifierConfig, run: Path) -> tuple[GPTModel, Tokenizer]:
    """Return (model on the CPU, its tokenizer) for `config.start`.

    "pretrained" is the run's model if it knows texts of this kind, otherwise a small model
    pretrained on the training texts; "scratch" is a model of the same shape with untrained weights;
    anything else goes to `from_pretrained`.
    """
    if config.start not in ("pretrained", "scratch"):
        return from_pretrained(config.start), tokenizer_of(config.start)
    if task.in_domain:
        checkpoint = ensure_pretrained(run)
        model, tokenizer = from_pretrained(checkpoint), tokenizer_of(checkpoint)
    elif config.start == "pretrained":
        folder = run / f"{task.name}-{config.seed}"
        checkpoint = pretrain_on_task_texts(task, folder, config.pretrain_steps, config.seed)
        model, tokenizer = from_pretrained(checkpoint), tokenizer_of(checkpoint)
    else:
        tokenizer = train_tokenizer([*task.train.texts, *task.unlabelled])
        model = GPTModel(preset_config("messages", vocab_size=tokenizer.n_vocab))
    if config.start == "scratch":
        torch.manual_seed(config.seed)
        model.reset_parameters()
    return (model if task.in_domain else with_dropout(model, DROPOUT)), tokenizer
