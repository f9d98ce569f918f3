"""A classifier in a folder: chapter 4's checkpoint files, and `classifier.json` with the classes and how to choose."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from ch01_text import load_tokenizer
from ch03_gpt import GPTConfig, GPTModel, Precision
from ch05_classification.classifier import GPTClassifier
from ch05_classification.scores import softmax
from ch05_classification.steps import predict

FILE = "classifier.json"


@dataclass(frozen=True)
class Choice:
    """What the logits are about; `temperature` makes probabilities of them that are neither too sure nor too timid."""

    task: str
    classes: tuple[str, ...]
    positive: int | None
    keep: str
    pooling: str = "last"
    causal: bool = True
    temperature: float = 1.0

    def probabilities(self, logits: np.ndarray) -> np.ndarray:
        return softmax(logits, self.temperature)


def save_classifier(folder: Path, classifier: GPTClassifier, tokenizer, choice: Choice) -> None:
    """Write the model (LoRA merged), its tokenizer and `choice` to `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / FILE).unlink(missing_ok=True)  # written last: without it the folder counts for nothing
    save_file({name: tensor.contiguous() for name, tensor in classifier.model.state_dict().items()},
              folder / "model.safetensors")
    config = json.dumps(classifier.model.config.to_dict(), indent=2)
    (folder / "config.json").write_text(config + "\n", encoding="utf-8")
    tokenizer.save(folder)
    (folder / FILE).write_text(json.dumps(asdict(choice), indent=2) + "\n", encoding="utf-8")


def load_classifier(folder: Path, device: torch.device | str = "cpu"):
    """Return (classifier in eval mode, tokenizer, choice); ValueError where the files do not belong together."""
    if not (folder / FILE).is_file():
        raise FileNotFoundError(f"there is no classifier in {folder}; train one with ch05_classification/main.py")
    saved = json.loads((folder / FILE).read_text(encoding="utf-8"))
    choice = Choice(**saved | {"classes": tuple(saved["classes"])})
    tokenizer = load_tokenizer(folder)
    config = GPTConfig.of(json.loads((folder / "config.json").read_text(encoding="utf-8")))
    if tokenizer.n_vocab != config.vocab_size:
        raise ValueError(f"{folder} has a model of {config.vocab_size} tokens but a tokenizer of {tokenizer.n_vocab}: "
                         "they are not from the same run")
    classifier = GPTClassifier(GPTModel(config), len(choice.classes), choice.pooling, choice.causal)
    classifier.model.load_state_dict(load_file(folder / "model.safetensors"))
    return classifier.to(device).eval(), tokenizer, choice


def classify(texts: list[str], classifier: GPTClassifier, tokenizer, choice: Choice, precision: Precision):
    """Texts -> (class names, probabilities (n, K)). ValueError where a text is empty."""
    logits, _ = predict(choice.task, classifier, tokenizer, texts, choice.classes, choice.keep, precision)
    return [choice.classes[number] for number in logits.argmax(axis=1)], choice.probabilities(logits)
