"""A saved classifier: chapter 4's checkpoint files, and `classifier.json` with its metadata."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from ch01_text import load_tokenizer
from ch01_text.saving import find_whole, replacing
from ch03_gpt import GPTConfig, GPTModel, Precision
from ch05_classification.classifier import GPTClassifier
from ch05_classification.config import ClassifierConfig
from ch05_classification.dataset import FollowUp
from ch05_classification.metrics import softmax
from ch05_classification.two_hop import predict

FILE = "classifier.json"


@dataclass(frozen=True)
class ClassifierMetadata:
    """Class names and calibration temperature of a saved classifier."""

    classes: tuple[str, ...]
    keep: str  # which end of a text that exceeds the context length is kept: "first" or "last"
    temperature: float  # divides the logits
    config: ClassifierConfig  # with which it was trained

    def probabilities(self, logits: np.ndarray) -> np.ndarray:
        """Logits (n, K) -> calibrated probabilities (n, K)."""
        return softmax(logits, self.temperature)


def save_classifier(
    folder: str | Path, classifier: GPTClassifier, tokenizer, metadata: ClassifierMetadata
) -> None:
    """Write the model (with LoRA merged), its tokenizer and its metadata; `folder` is replaced
    whole or not at all.
    """
    weights = {name: tensor.contiguous() for name, tensor in classifier.model.state_dict().items()}
    with replacing(folder) as new:
        new.mkdir(parents=True)
        save_file(weights, new / "model.safetensors")
        for name, content in (
            ("config.json", classifier.model.config.to_dict()),
            (FILE, asdict(metadata)),
        ):
            (new / name).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
        tokenizer.save(new)


def read_metadata(file: Path) -> ClassifierMetadata:
    """The metadata in `classifier.json`; ValueError if another version of this program wrote it."""
    saved = json.loads(file.read_text(encoding="utf-8"))
    try:
        saved["classes"] = tuple(saved["classes"])
        saved["config"] = ClassifierConfig(**saved["config"])
        return ClassifierMetadata(**saved)
    except (KeyError, TypeError) as error:
        raise ValueError(
            f"{file} has other settings than this version ({error}); train the classifier again"
        ) from error


def load_classifier(folder: str | Path, device: torch.device | str = "cpu"):
    """Return (classifier in eval mode, tokenizer, metadata); ValueError if the files do not belong
    together.
    """
    folder = find_whole(folder) or Path(folder)
    if not (folder / FILE).is_file():
        raise FileNotFoundError(
            f"there is no classifier in {folder}; train one with ch05_classification/main.py"
        )
    metadata = read_metadata(folder / FILE)
    tokenizer = load_tokenizer(folder)
    config = GPTConfig.of(json.loads((folder / "config.json").read_text(encoding="utf-8")))
    if tokenizer.n_vocab != config.vocab_size:
        raise ValueError(
            f"{folder} has a model of {config.vocab_size} tokens but a tokenizer of"
            f" {tokenizer.n_vocab}: they are not from the same run"
        )
    classifier = GPTClassifier(GPTModel(config), len(metadata.classes), metadata.config.pooling)
    classifier.model.load_state_dict(load_file(folder / "model.safetensors"))
    return classifier.to(device).eval(), tokenizer, metadata


def classify(
    texts: list[str],
    classifier: GPTClassifier,
    tokenizer,
    metadata: ClassifierMetadata,
    precision: Precision,
    follow_up: FollowUp | None = None,
) -> tuple[list[str], np.ndarray]:
    """Texts -> (class names, probabilities (n, K)). ValueError if a text is empty.

    A two-hop classifier needs the `follow_up` of its task.
    """
    logits, _ = predict(
        classifier, tokenizer, texts, metadata.classes, metadata.keep, precision, follow_up
    )
    names = [metadata.classes[number] for number in logits.argmax(axis=1)]
    return names, metadata.probabilities(logits)
