"""Two spirals that no straight line separates, as a Dataset and as DataLoaders.

This is a small problem with everything that a real one has: shuffling, an incomplete last batch and
a separate test set. The dataset class is the book's `ToyDataset` (appendix A); the book's five rows
are too few to show this.
"""

import math

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset


def spirals(n: int, seed: int, turns: float = 1.25, noise: float = 0.04) -> tuple[Tensor, Tensor]:
    """n points (n, 2), float32, roughly in [-1, 1], and their classes (n,), int64, alternating
    between 0 and 1.

    Class 1 is class 0 rotated by half a turn, so that both have the same mean and spread.

    >>> points, labels = spirals(4, seed=0, noise=0.0)
    >>> labels.tolist(), points.shape
    ([0, 1, 0, 1], torch.Size([4, 2]))
    """
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(n) % 2
    radius = 0.1 + 0.9 * torch.rand(n, generator=generator).sqrt()
    angle = 2 * math.pi * turns * radius + math.pi * labels
    points = torch.stack((radius * angle.cos(), radius * angle.sin()), dim=1)
    return points + noise * torch.randn(n, 2, generator=generator), labels


class ToyDataset(Dataset):
    """The book's dataset: features (n, ...) and labels (n,) by row number. ValueError if their
    lengths differ.
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
    points: int = 1000, batch_size: int = 32, seed: int = 1337
) -> tuple[DataLoader, DataLoader]:
    """A loader of shuffled training points and a loader of 500 test points in order; the name is
    the book's.
    """
    train, test = ToyDataset(*spirals(points, seed)), ToyDataset(*spirals(500, seed + 1))
    order = torch.Generator().manual_seed(seed)
    train_loader = DataLoader(train, batch_size, shuffle=True, generator=order)
    return train_loader, DataLoader(test, batch_size)
