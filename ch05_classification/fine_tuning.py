"""Fine-tuning a classifier with chapter 4's training loop, until the validation loss stops
improving.
"""

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ch03_gpt import Precision
from ch04_pretraining import Progress, make_optimizers, train
from ch05_classification.classifier import GPTClassifier
from ch05_classification.config import ClassifierConfig
from ch05_classification.encoding import Batch, TokenizedDataset, batches, shuffled_batches


def class_weights(labels: Tensor, n_classes: int) -> Tensor:
    """(n,) class numbers -> (n_classes,) weights, inversely proportional to class frequency and
    averaging 1 over the rows.

    >>> class_weights(torch.tensor([0, 0, 0, 1]), 2)
    tensor([0.6667, 2.0000])
    """
    counts = labels.bincount(minlength=n_classes).clamp(min=1)
    return len(labels) / (n_classes * counts)


def classification_loss(weights: Tensor | None = None):
    """A loss function for `train`: (summed cross-entropy of a batch, number of rows or the sum of
    their weights).
    """

    def loss(classifier: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
        ids, lengths, labels = batch
        logits = classifier(ids, lengths).float()
        total = F.cross_entropy(logits, labels, weights, reduction="sum")
        return total, total.new_tensor(len(labels)) if weights is None else weights[labels].sum()

    return loss


@torch.inference_mode()
def predict_logits(
    classifier: GPTClassifier, dataset: TokenizedDataset, precision: Precision, batch_size: int = 64
) -> np.ndarray:
    """(n, n_classes) float32 logits, in the order of the rows."""
    classifier.eval()
    # Rows of similar length share a batch, so little is spent on padding.
    order = sorted(range(len(dataset.rows)), key=lambda row: len(dataset.rows[row]))
    by_length = TokenizedDataset(
        [dataset.rows[row] for row in order], dataset.labels[order], dataset.n_truncated
    )
    parts = []
    for ids, lengths, _ in batches(by_length, batch_size, 0, precision.device):
        with precision.autocast():
            parts.append(classifier(ids, lengths).float().cpu())
    logits = np.empty((len(order), parts[0].shape[1]), dtype=np.float32)
    logits[order] = torch.cat(parts).numpy()
    return logits


def train_classifier(
    classifier: GPTClassifier,
    training: TokenizedDataset,
    validation: TokenizedDataset,
    config: ClassifierConfig,
    precision: Precision,
    pad_id: int,
    description: str = "fine-tuning",
) -> Progress:
    """Train every weight that is not frozen, and keep those with the lowest validation loss."""
    n_classes = classifier.head.out_features
    weights = None
    if config.class_weights:
        weights = class_weights(training.labels, n_classes).to(precision.device)
    steps_per_epoch = -(-len(training.rows) // config.batch_size)
    best: dict[str, Tensor] = {}
    best_loss, evals_without_gain = float("inf"), 0

    def evaluate(progress: Progress) -> dict:
        nonlocal best, best_loss, evals_without_gain
        logits = torch.from_numpy(predict_logits(classifier, validation, precision))
        classifier.train()
        loss = F.cross_entropy(logits, validation.labels).item()
        accuracy = (logits.argmax(dim=1) == validation.labels).numpy().mean().item()
        evals_without_gain += 1
        if loss < best_loss:
            best_loss, evals_without_gain = loss, 0
            best = {
                name: p.detach().clone()
                for name, p in classifier.named_parameters()
                if p.requires_grad
            }
        return {"val_loss": loss, "val_accuracy": accuracy}

    progress = train(
        classifier,
        shuffled_batches(
            training,
            config.batch_size,
            pad_id,
            np.random.default_rng(config.seed),
            precision.device,
        ),
        classification_loss(weights),
        steps=max(1, round(config.epochs * steps_per_epoch)),
        log_every=max(1, round(steps_per_epoch / config.evals_per_epoch)),
        evaluate=evaluate,
        optimizers=make_optimizers(classifier, "adamw", config.lr),
        precision=precision,
        should_stop=lambda: evals_without_gain >= config.patience,
        description=description,
    )
    classifier.load_state_dict(best, strict=False)  # the frozen weights never changed
    return progress
