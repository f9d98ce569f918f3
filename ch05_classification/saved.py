"""A classifier in a folder: chapter 4's checkpoint files, one model.safetensors for each member of
an ensemble, and `classifier.json` with the classes and how to choose.
"""

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from ch01_text import load_tokenizer
from ch01_text.saving import find_whole, replacing
from ch03_gpt import GPTConfig, GPTModel, Precision
from ch05_classification.classifier import GPTClassifier
from ch05_classification.ensemble import Ensemble
from ch05_classification.scores import softmax
from ch05_classification.steps import predict

FILE = "classifier.json"


@dataclass(frozen=True)
class Choice:
    """What the logits are about; `temperature` makes probabilities of them that are neither too
    sure nor too timid.
    """

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


def weights_file(number: int) -> str:
    """Where the weights of member `number` are; the first has the name that checkpoints have."""
    return f"model-{number}.safetensors" if number else "model.safetensors"


def save_classifier(
    folder: str | Path, classifier: GPTClassifier | Ensemble, tokenizer, choice: Choice
) -> None:
    """Write the model (LoRA merged), its tokenizer and `choice` to `folder`, which is replaced
    whole or not at all.
    """
    members = list(classifier.members) if isinstance(classifier, Ensemble) else [classifier]
    choice = replace(choice, members=len(members))
    with replacing(folder) as new:
        new.mkdir(parents=True)
        for number, member in enumerate(members):
            save_file(
                {name: tensor.contiguous() for name, tensor in member.model.state_dict().items()},
                new / weights_file(number),
            )
        for name, content in (
            ("config.json", classifier.model.config.to_dict()),
            (FILE, asdict(choice)),
        ):
            (new / name).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
        tokenizer.save(new)


def load_classifier(folder: str | Path, device: torch.device | str = "cpu"):
    """Return (classifier in eval mode, tokenizer, choice); ValueError where the files do not
    belong together.
    """
    folder = find_whole(folder) or Path(folder)
    if not (folder / FILE).is_file():
        raise FileNotFoundError(
            f"there is no classifier in {folder}; train one with ch05_classification/main.py"
        )
    saved = json.loads((folder / FILE).read_text(encoding="utf-8"))
    choice = Choice(**saved | {"classes": tuple(saved["classes"])})
    tokenizer = load_tokenizer(folder)
    config = GPTConfig.of(json.loads((folder / "config.json").read_text(encoding="utf-8")))
    if tokenizer.n_vocab != config.vocab_size:
        raise ValueError(
            f"{folder} has a model of {config.vocab_size} tokens but a tokenizer of"
            f" {tokenizer.n_vocab}: they are not from the same run"
        )
    members = [
        GPTClassifier(GPTModel(config), len(choice.classes), choice.pooling, choice.causal)
        for _ in range(choice.members)
    ]
    for number, member in enumerate(members):
        member.model.load_state_dict(load_file(folder / weights_file(number)))
    classifier = Ensemble(members) if len(members) > 1 else members[0]
    return classifier.to(device).eval(), tokenizer, choice


def classify(
    texts: list[str], classifier: GPTClassifier, tokenizer, choice: Choice, precision: Precision
):
    """Texts -> (class names, probabilities (n, K)). ValueError where a text is empty."""
    logits, _ = predict(
        choice.task, classifier, tokenizer, texts, choice.classes, choice.keep, precision
    )
    return [choice.classes[number] for number in logits.argmax(axis=1)], choice.probabilities(
        logits
    )
