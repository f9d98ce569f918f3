"""Two spirals that no straight line separates, as a Dataset and as loaders.

The smallest problem that shows all a real one has: unequal last batches, shuffling, a test set that
is drawn anew. The dataset is the book's `ToyDataset` (appendix A), whose five rows are too few to
see any of that.
"""

import math

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset


def spirals(
    rows: int, seed: int, turns: float = 1.25, noise: float = 0.04
) -> tuple[Tensor, Tensor]:
    """Points (rows, 2) in about [-1, 1], float32, and their classes (rows,) 0 or 1, int64,
    alternating.

    Class 1 is class 0 turned by half a circle, so that both have the same mean and the same spread.

    >>> points, labels = spirals(4, seed=0, noise=0.0)
    >>> labels.tolist(), points.shape
    ([0, 1, 0, 1], torch.Size([4, 2]))
    """
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(rows) % 2
    radius = 0.1 + 0.9 * torch.rand(rows, generator=generator).sqrt()
    angle = 2 * math.pi * turns * radius + math.pi * labels
    points = torch.stack((radius * angle.cos(), radius * angle.sin()), dim=1)
    return points + noise * torch.randn(rows, 2, generator=generator), labels


class ToyDataset(Dataset):
    """The book's dataset: features (n, ...) and labels (n,) by row number. ValueError where
    their lengths differ.
    """

    def __init__(self, X: Tensor, y: Tensor):
        if len(X) != len(y):
            raise ValueError(
                f"there are {len(X)} rows of features and {len(y)} labels; each row needs one"
            )
        self.features, self.labels = X, y

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return self.features[index], self.labels[index]

    def __len__(self) -> int:
        return len(self.labels)


def prepare_dataset(
    rows: int = 1000, batch_size: int = 32, seed: int = 1337
) -> tuple[DataLoader, DataLoader]:
    """(loader of `rows` shuffled training rows, loader of 500 unseen rows in order), the book's
    name.
    """
    train, test = ToyDataset(*spirals(rows, seed)), ToyDataset(*spirals(500, seed + 1))
    order = torch.Generator().manual_seed(seed)
    return DataLoader(train, batch_size, shuffle=True, generator=order), DataLoader(
        test, batch_size
    )
