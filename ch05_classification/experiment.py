"""One classifier from the base model to its predictions for the test rows."""

import copy
from dataclasses import dataclass, replace

import numpy as np
import torch

from ch03_gpt import GPTModel, Precision
from ch04_pretraining import TrainState
from ch05_classification.checkpoint import ClassifierMetadata
from ch05_classification.classifier import GPTClassifier, freeze_except
from ch05_classification.config import ClassifierConfig
from ch05_classification.dataset import LabelledTexts, Task
from ch05_classification.encoding import tokenize
from ch05_classification.fine_tuning import train_classifier
from ch05_classification.lora import replace_linear_with_lora
from ch05_classification.metrics import fit_temperature
from ch05_classification.two_hop import predict, with_second_hop


@dataclass(frozen=True)
class Result:
    """A trained classifier and its predictions."""

    classifier: GPTClassifier
    tokenizer: object
    metadata: ClassifierMetadata
    history: TrainState  # of the training
    val_logits: np.ndarray  # (n_val, K)
    logits: np.ndarray  # (n_test, K)
    n_truncated: int  # texts of all splits that exceeded the context length
    trainable_params: int

    @property
    def predicted(self) -> np.ndarray:
        """(n_test,) class numbers."""
        return self.logits.argmax(axis=1)

    @property
    def probabilities(self) -> np.ndarray:
        """(n_test, K), after temperature scaling."""
        return self.metadata.probabilities(self.logits)


def build_classifier(
    model: GPTModel, tokenizer, task: Task, config: ClassifierConfig
) -> GPTClassifier:
    """A classifier on a copy of `model`, frozen except for the weights to be trained."""
    torch.manual_seed(config.seed)
    classifier = GPTClassifier(copy.deepcopy(model), len(task.classes), config.pooling)
    if task.verbalizers is not None and config.pooling == "last":
        first_tokens = [tokenizer.encode(word)[0] for word in task.verbalizers]
        classifier.init_head_from_verbalizers(first_tokens)
    if config.lora_rank:
        classifier.model.requires_grad_(False)
        replace_linear_with_lora(classifier.model.trf_blocks, config.lora_rank, config.lora_alpha)
        classifier.head.requires_grad_(True)
    else:
        freeze_except(classifier, config.trainable)
    return classifier


def run_task(
    task: Task,
    model: GPTModel,
    tokenizer,
    config: ClassifierConfig,
    precision: Precision,
    description: str = "fine-tuning",
) -> Result:
    """Fine-tune on the training rows, select weights and temperature on the validation rows,
    predict the test rows.
    """
    config = replace(config, epochs=config.epochs or task.epochs)
    training, validation = (
        tokenize(
            tokenizer,
            with_second_hop(part, task.classes, task.follow_up),
            model.config.context_length,
            task.keep,
        )
        for part in (task.train, task.val)
    )
    classifier = build_classifier(model, tokenizer, task, config).to(precision.device)
    history = train_classifier(
        classifier, training, validation, config, precision, tokenizer.eot_id, description
    )

    def logits_for(part: LabelledTexts) -> tuple[np.ndarray, int]:
        return predict(
            classifier, tokenizer, part.texts, task.classes, task.keep, precision, task.follow_up
        )

    val_logits, _ = logits_for(task.val)
    logits, n_truncated = logits_for(task.test)
    temperature = fit_temperature(val_logits, task.val.labels)
    return Result(
        classifier,
        tokenizer,
        ClassifierMetadata(task.classes, task.keep, temperature, config),
        history,
        val_logits,
        logits,
        training.n_truncated + validation.n_truncated + n_truncated,
        sum(p.numel() for p in classifier.parameters() if p.requires_grad),
    )
