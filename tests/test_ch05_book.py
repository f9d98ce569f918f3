"""The book's classification functions under its names. Oracle: the same loops, written out with
PyTorch alone.
"""

import copy
import math

import pandas as pd
import pytest
import torch
from torch.nn import functional as F
from torch.utils.data import DataLoader

from ch01_text import CharTokenizer
from ch03_gpt import GPTConfig, GPTModel
from ch05_classification import (
    SpamDataset,
    calc_accuracy_loader,
    classify_review,
    train_classifier_simple,
)

TEXTS = [("win a prize" if i % 2 else "see you at home") + "!" * (i % 3) for i in range(12)]
TABLE = pd.DataFrame({"Text": TEXTS, "Label": [i % 2 for i in range(12)]})
TOKENIZER = CharTokenizer.train(TEXTS)
PAD = TOKENIZER.eot_id


@pytest.fixture
def model() -> GPTModel:
    """A GPT with the book's new head: two classes, read at the last position."""
    torch.manual_seed(0)
    model = GPTModel(GPTConfig(TOKENIZER.n_vocab, 24, 16, 2, 1, drop_rate=0.0))
    model.out_head = torch.nn.Linear(16, 2)
    return model


def loader() -> DataLoader:
    return DataLoader(SpamDataset(TABLE, TOKENIZER, None, PAD), batch_size=4)


def accuracy(model: GPTModel, batches: list) -> float:
    right = [
        bool(model(inputs[i : i + 1])[0, -1].argmax() == labels[i])
        for inputs, labels in batches
        for i in range(len(labels))
    ]
    return sum(right) / len(right)


def test_the_training_loop_is_the_books(model, capsys):
    """Weights, losses, accuracies and the number of examples."""
    twin = copy.deepcopy(model)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0.1)
    train_losses, val_losses, train_accs, val_accs, seen = train_classifier_simple(
        model, loader(), loader(), optimizer, "cpu", num_epochs=3, eval_freq=2, eval_iter=1
    )

    optimizer = torch.optim.AdamW(twin.parameters(), lr=3e-3, weight_decay=0.1)
    losses, accuracies, step = [], [], 0
    for _ in range(3):
        for inputs, labels in loader():
            optimizer.zero_grad()
            F.cross_entropy(twin(inputs)[:, -1], labels).backward()
            optimizer.step()
            if step % 2 == 0:
                inputs, labels = next(iter(loader()))
                losses.append(F.cross_entropy(twin(inputs)[:, -1], labels).item())
            step += 1
        accuracies.append(accuracy(twin, list(loader())[:1]))

    for ours, theirs in zip(model.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)
    assert train_losses == val_losses == pytest.approx(losses, rel=1e-4)
    assert train_accs == val_accs == accuracies
    assert seen == 3 * len(TEXTS)
    assert capsys.readouterr().out.count("epoch ") == 3


def test_accuracy_and_predictions_are_those_of_a_loop(model):
    batches = list(loader())
    for n in (1, 2, None):
        found = calc_accuracy_loader(loader(), model, "cpu", n)
        assert found == accuracy(model, batches[:n])
    length = SpamDataset(TABLE, TOKENIZER, None, PAD).max_length
    assert length == max(map(len, TEXTS))
    for text in TEXTS[:4]:
        ids = TOKENIZER.encode(text)
        row = torch.tensor([ids + [PAD] * (length - len(ids))])
        expected = "spam" if model(row)[0, -1].argmax() == 1 else "not spam"
        assert classify_review(text, model, TOKENIZER, "cpu", length, PAD) == expected


def test_texts_are_cut_and_padded(tmp_path):
    TABLE.to_csv(tmp_path / "spam.csv", index=False)
    dataset = SpamDataset(tmp_path / "spam.csv", TOKENIZER, max_length=5, pad_token_id=PAD)
    assert len(dataset) == 12
    ids, label = dataset[1]
    assert (ids.tolist(), label.item()) == (TOKENIZER.encode("win a"), 1)
    assert (ids.dtype, label.dtype) == (torch.int64, torch.int64)
    assert math.prod(dataset[0][0].shape) == 5
