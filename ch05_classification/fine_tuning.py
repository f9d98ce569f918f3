"""Fine-tuning a classifier with chapter 4's training loop, until validation stops getting
better.
"""

from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ch03_gpt import Precision
from ch04_pretraining import SCHEDULES, make_optimizers, train
from ch05_classification.classifier import GPTClassifier
from ch05_classification.encoding import Batch, Encoded, batches, shuffled_batches


@dataclass(frozen=True)
class Plan:
    """How a classifier is trained."""

    epochs: float = 8
    batch_size: int = 16
    lr: float = 1e-3  # AdamW's peak
    weight_decay: float = 0.1
    patience: int = 3  # validations without a better loss before the end
    validations: float = 1.0  # in an epoch
    class_weights: bool = False  # rare classes count as much as frequent ones, all together
    label_smoothing: float = 0.0
    seed: int = 0


@dataclass
class History:
    """What happened while it was trained."""

    log: list[dict] = field(default_factory=list)
    seconds: float = 0.0
    steps: int = 0


def class_weights(labels: Tensor, n_classes: int) -> Tensor:
    """(n,) class numbers -> (n_classes,) weights, inverse to how often each occurs, 1 on average
    over the rows.

    >>> class_weights(torch.tensor([0, 0, 0, 1]), 2)
    tensor([0.6667, 2.0000])
    """
    counts = labels.bincount(minlength=n_classes).clamp(min=1)
    return len(labels) / (n_classes * counts)


def classification_loss(weights: Tensor | None = None, label_smoothing: float = 0.0):
    """A loss function for `train`: (sum of the cross-entropies of a batch, number of rows or of
    their weights).
    """

    def loss(classifier: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
        ids, lengths, labels = batch
        logits = classifier(ids, lengths).float()
        total = F.cross_entropy(
            logits, labels, weights, reduction="sum", label_smoothing=label_smoothing
        )
        return total, total.new_tensor(len(labels)) if weights is None else weights[labels].sum()

    return loss


@torch.inference_mode()
def predict_logits(
    classifier: GPTClassifier, encoded: Encoded, precision: Precision, batch_size: int = 64
) -> np.ndarray:
    """(n, n_classes) float32 logits for all rows."""
    classifier.eval()
    order = sorted(range(len(encoded.rows)), key=lambda row: len(encoded.rows[row]))
    by_length = Encoded(
        [encoded.rows[row] for row in order], encoded.labels[order], encoded.truncated
    )
    found = []
    for ids, lengths, _ in batches(by_length, batch_size, 0, precision.device):
        with precision.autocast():
            found.append(classifier(ids, lengths).float().cpu())
    logits = np.empty((len(order), found[0].shape[1]), dtype=np.float32)
    logits[order] = torch.cat(found).numpy()
    return logits


def fit(
    classifier: GPTClassifier,
    training: Encoded,
    validation: Encoded | None,
    plan: Plan,
    precision: Precision,
    pad_id: int,
    description: str = "fine-tuning",
) -> History:
    """Train what is not frozen; ends with the weights of the lowest validation loss, or, without
    validation rows, with the last ones.
    """
    device = precision.device
    n_classes = classifier.head.out_features
    weights = class_weights(training.labels, n_classes).to(device) if plan.class_weights else None
    loss_fn = classification_loss(weights, plan.label_smoothing)
    supply = shuffled_batches(
        training, plan.batch_size, pad_id, np.random.default_rng(plan.seed), device
    )
    an_epoch = -(-len(training.rows) // plan.batch_size)
    steps, every = max(1, round(plan.epochs * an_epoch)), max(1, round(an_epoch / plan.validations))
    history = History()
    best: dict = {}
    waited = 0

    def evaluate(progress) -> dict:
        nonlocal best, waited
        if validation is None:
            return {}
        logits = torch.from_numpy(predict_logits(classifier, validation, precision))
        classifier.train()
        loss = F.cross_entropy(logits, validation.labels).item()
        accuracy = (logits.argmax(dim=1) == validation.labels).numpy().mean().item()
        waited += 1
        if not history.log or loss < min(entry["val_loss"] for entry in history.log):
            best = {
                name: p.detach().clone()
                for name, p in classifier.named_parameters()
                if p.requires_grad
            }
            waited = 0
        history.log.append({"val_loss": loss, "val_accuracy": accuracy})
        return history.log[-1]

    progress = train(
        classifier,
        supply,
        loss_fn,
        steps=steps,
        log_every=every,
        evaluate=evaluate,
        optimizers=make_optimizers(classifier, "adamw", plan.lr, weight_decay=plan.weight_decay),
        schedule=SCHEDULES["wsd"](),
        precision=precision,
        should_stop=lambda: waited >= plan.patience,
        description=description,
    )
    if best:
        classifier.load_state_dict(best, strict=False)
    history.log, history.seconds, history.steps = progress.log, progress.seconds, progress.step
    return history
