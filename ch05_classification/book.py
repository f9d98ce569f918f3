"""The functions of the book's classification chapter under its names, on top of this project's.

The book's classifier is a GPTModel with a new `out_head` that reads the last position of a padded
row.
"""

from itertools import chain, islice, repeat
from pathlib import Path

import pandas as pd
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Optimizer
from torch.utils.data import DataLoader, Dataset

from ch03_gpt import GPTModel
from ch04_pretraining import TrainOptions, TrainState, evaluate_loss, train
from ch05_classification.sms import BOOK_SEED


def random_split(df: pd.DataFrame, train_frac: float, validation_frac: float):
    """Shuffle the rows and cut them into (training, validation, test). As in the book, copies of a
    text may end up in two splits.
    """
    df = df.sample(frac=1, random_state=BOOK_SEED).reset_index(drop=True)
    first = int(len(df) * train_frac)
    second = first + int(len(df) * validation_frac)
    return df[:first], df[first:second], df[second:]


class SpamDataset(Dataset):
    """Rows of a CSV file or a DataFrame (columns Text and Label, a number), padded with
    `pad_token_id` to the longest text or to `max_length`: items are (ids (T,), label), int64.
    """

    def __init__(
        self,
        csv_file: str | Path | pd.DataFrame,
        tokenizer,
        max_length: int | None = None,
        pad_token_id: int = 50_256,
    ):
        self.data = csv_file if isinstance(csv_file, pd.DataFrame) else pd.read_csv(csv_file)
        encoded = [tokenizer.encode(text)[:max_length] for text in self.data["Text"]]
        self.max_length = max_length or max(map(len, encoded))
        self.encoded_texts = [
            ids + [pad_token_id] * (self.max_length - len(ids)) for ids in encoded
        ]

    def __len__(self) -> int:
        return len(self.encoded_texts)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return torch.tensor(self.encoded_texts[index]), torch.tensor(
            int(self.data["Label"].iloc[index])
        )


def _last_token_loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    inputs, labels = batch
    logits = model(inputs)[:, -1]  # (B, K)
    return F.cross_entropy(logits, labels, reduction="sum"), logits.new_tensor(len(labels))


@torch.inference_mode()
def calc_accuracy_loader(
    data_loader: DataLoader, model: GPTModel, device, num_batches: int | None = None
) -> float:
    """The accuracy on the first `num_batches` batches (default: all)."""
    was_training = model.training
    model.eval()
    right = total = 0
    for inputs, labels in islice(data_loader, num_batches):
        predicted = model(inputs.to(device))[:, -1].argmax(dim=-1)
        right += (predicted == labels.to(device)).sum().item()
        total += len(labels)
    model.train(was_training)
    return right / total


def train_classifier_simple(
    model: GPTModel,
    train_loader: DataLoader,
    val_loader: DataLoader,
    optimizer: Optimizer,
    device,
    num_epochs: int,
    eval_freq: int,
    eval_iter: int,
):
    """The book's training loop: constant learning rate, no gradient clipping.

    Returns (training losses and validation losses, one per `eval_freq` steps; training and
    validation accuracies, one per epoch; number of examples seen).
    """
    losses: tuple[list[float], list[float]] = [], []
    accuracies: tuple[list[float], list[float]] = [], []
    loaders = train_loader, val_loader

    def evaluate(progress: TrainState) -> dict:
        if (progress.step - 1) % eval_freq == 0:
            for values, loader in zip(losses, loaders, strict=True):
                batches = [(x.to(device), y.to(device)) for x, y in islice(loader, eval_iter)]
                values.append(evaluate_loss(model, batches, loss_fn=_last_token_loss)[0])
        if progress.step % len(train_loader) == 0:
            for values, loader in zip(accuracies, loaders, strict=True):
                values.append(calc_accuracy_loader(loader, model, device, eval_iter))
            print(
                f"epoch {len(accuracies[0])}: accuracy {accuracies[0][-1]:.1%}, validation"
                f" {accuracies[1][-1]:.1%}"
            )
        return {}

    seen = 0
    steps = num_epochs * len(train_loader)
    epochs = chain.from_iterable(repeat(train_loader, num_epochs))

    def supply():
        nonlocal seen
        for inputs, labels in epochs:
            seen += len(labels)
            yield inputs.to(device), labels.to(device)

    train(
        model,
        supply(),
        _last_token_loss,
        steps=steps,
        optimizers=[optimizer],
        options=TrainOptions(
            max_norm=None, schedule=lambda progress: 1.0, log_every=1, evaluate=evaluate
        ),
    )
    return *losses, *accuracies, seen


@torch.inference_mode()
def classify_review(
    text: str,
    model: GPTModel,
    tokenizer,
    device,
    max_length: int | None = None,
    pad_token_id: int = 50_256,
) -> str:
    """The model's prediction for `text`: "spam" or "not spam"."""
    room = min(max_length or model.config.context_length, model.config.context_length)
    ids = tokenizer.encode(text)[:room]
    ids += [pad_token_id] * ((max_length or len(ids)) - len(ids))
    model.eval()
    logits = model(torch.tensor([ids], device=device))[:, -1]
    return "spam" if logits.argmax(dim=-1).item() == 1 else "not spam"


def plot_values(
    epochs_seen, examples_seen, train_values, val_values, label: str = "loss"
) -> Figure:
    """The book's figure: training and validation curves against epochs, examples seen on top."""
    figure = Figure(figsize=(5, 3), layout="constrained")
    axes = figure.subplots()
    axes.plot(epochs_seen, train_values, label=f"training {label}")
    axes.plot(epochs_seen, val_values, "-.", label=f"validation {label}")
    axes.set(xlabel="epochs", ylabel=label)
    axes.legend()
    above = axes.twiny()
    above.plot(examples_seen, train_values, alpha=0)
    above.set_xlabel("examples seen")
    return figure
