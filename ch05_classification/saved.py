"""A classifier in a folder: chapter 4's checkpoint files, one model.safetensors for each member of an ensemble, and
`classifier.json` with the classes and how to choose."""

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from ch01_text import load_tokenizer
from ch03_gpt import GPTConfig, GPTModel, Precision
from ch05_classification.classifier import GPTClassifier
from ch05_classification.ensemble import Ensemble
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
    members: int = 1

    def probabilities(self, logits: np.ndarray) -> np.ndarray:
        return softmax(logits, self.temperature)


def weights_file(folder: Path, number: int) -> Path:
    """Where the weights of member `number` are; the first has the name that checkpoints have."""
    return folder / (f"model-{number}.safetensors" if number else "model.safetensors")


def save_classifier(folder: Path, classifier: GPTClassifier | Ensemble, tokenizer, choice: Choice) -> None:
    """Write the model (LoRA merged), its tokenizer and `choice` to `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / FILE).unlink(missing_ok=True)  # written last: without it the folder counts for nothing
    for old in folder.glob("model-*.safetensors"):
        old.unlink()
    members = list(classifier.members) if isinstance(classifier, Ensemble) else [classifier]
    for number, member in enumerate(members):
        save_file({name: tensor.contiguous() for name, tensor in member.model.state_dict().items()},
                  weights_file(folder, number))
    config = json.dumps(classifier.model.config.to_dict(), indent=2)
    (folder / "config.json").write_text(config + "\n", encoding="utf-8")
    tokenizer.save(folder)
    choice = replace(choice, members=len(members))
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
    members = [GPTClassifier(GPTModel(config), len(choice.classes), choice.pooling, choice.causal)
               for _ in range(choice.members)]
    for number, member in enumerate(members):
        member.model.load_state_dict(load_file(weights_file(folder, number)))
    classifier = Ensemble(members) if len(members) > 1 else members[0]
    return classifier.to(device).eval(), tokenizer, choice


def classify(texts: list[str], classifier: GPTClassifier, tokenizer, choice: Choice, precision: Precision):
    """Texts -> (class names, probabilities (n, K)). ValueError where a text is empty."""
    logits, _ = predict(choice.task, classifier, tokenizer, texts, choice.classes, choice.keep, precision)
    return [choice.classes[number] for number in logits.argmax(axis=1)], choice.probabilities(logits)
