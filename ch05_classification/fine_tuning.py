"""Fine-tuning a classifier with chapter 4's training loop, until the validation loss stops
improving.
"""

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ch03_gpt import Precision
from ch04_pretraining import TrainOptions, TrainState, make_optimizers, train
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


class EarlyStopping:
    """The trainable weights with the lowest validation loss, and the validations since then."""

    def __init__(self, model: nn.Module):
        self.model = model
        self.best: dict[str, Tensor] = {}
        self.best_loss, self.evals_since_best = float("inf"), 0

    def update(self, loss: float) -> None:
        """Copy the weights if `loss` is the lowest so far."""
        self.evals_since_best += 1
        if loss < self.best_loss:
            self.best_loss, self.evals_since_best = loss, 0
            self.best = {
                name: p.detach().clone()
                for name, p in self.model.named_parameters()
                if p.requires_grad
            }

    def restore(self) -> None:
        """Put the best weights back."""
        self.model.load_state_dict(self.best, strict=False)  # the frozen weights never changed


def train_classifier(
    classifier: GPTClassifier,
    training: TokenizedDataset,
    validation: TokenizedDataset,
    config: ClassifierConfig,
    precision: Precision,
    pad_id: int,
    description: str = "fine-tuning",
) -> TrainState:
    """Train every weight that is not frozen, and keep those with the lowest validation loss."""
    device, rng = precision.device, np.random.default_rng(config.seed)
    weights = None
    if config.class_weights:
        weights = class_weights(training.labels, classifier.head.out_features).to(device)
    assert config.epochs is not None  # `run_task` fills in the task's own number
    steps_per_epoch = -(-len(training.rows) // config.batch_size)
    stopping = EarlyStopping(classifier)

    def evaluate(state: TrainState) -> dict:
        logits = torch.from_numpy(predict_logits(classifier, validation, precision))
        classifier.train()
        loss = F.cross_entropy(logits, validation.labels).item()
        stopping.update(loss)
        accuracy = (logits.argmax(dim=1) == validation.labels).numpy().mean().item()
        return {"val_loss": loss, "val_accuracy": accuracy}

    state = train(
        classifier,
        shuffled_batches(training, config.batch_size, pad_id, rng, device),
        classification_loss(weights),
        steps=max(1, round(config.epochs * steps_per_epoch)),
        optimizers=make_optimizers(classifier, "adamw", config.lr),
        precision=precision,
        options=TrainOptions(
            log_every=max(1, round(steps_per_epoch / config.evals_per_epoch)),
            evaluate=evaluate,
            should_stop=lambda: stopping.evals_since_best >= config.patience,
            description=description,
        ),
    )
    stopping.restore()
    return state
