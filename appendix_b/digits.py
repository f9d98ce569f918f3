"""Handwritten digits: 1,797 images of 8 x 8 pixels that come with scikit-learn, or MNIST, 70,000
images of 28 x 28 pixels, by download.
"""

from dataclasses import dataclass

import numpy as np

from ch01_text.text_datasets import Download, fetch

MNIST = Download(
    "mnist.npz",
    "https://storage.googleapis.com/tensorflow/tf-keras-datasets/mnist.npz",
    "731c5ac602752760c8e48fbffcf8c3b850d9dc2a2aedcf2cc48468fc17b673d1",
    "CC BY-SA 3.0",
    "LeCun, Cortes and Burges 1998",
    instead="scikit-learn's digits, --data digits",
)


@dataclass(frozen=True)
class LabelledImages:
    """Images and their classes; indexing selects rows of both."""

    x: np.ndarray  # (n, 1, height, width), float32 between -1 and 1
    y: np.ndarray  # (n,), integers from 0

    def __len__(self) -> int:
        return len(self.y)

    def __getitem__(self, rows) -> "LabelledImages":
        return LabelledImages(self.x[rows], self.y[rows])


def load_images(name: str, seed: int) -> tuple[LabelledImages, LabelledImages]:
    """Training and test images. `digits`: a random fifth of each class, chosen by `seed`, is the
    test set. `mnist`: its own 60,000 and 10,000, whatever the seed.
    """
    if name == "mnist":
        with np.load(fetch(MNIST), allow_pickle=False) as file:
            train, test = (
                LabelledImages(rescale(file[f"x_{part}"], 255), file[f"y_{part}"].astype(int))
                for part in ("train", "test")
            )
            return train, test
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    digits = load_digits()
    train, test = train_test_split(
        np.arange(len(digits.target)), test_size=0.2, random_state=seed, stratify=digits.target
    )
    images = LabelledImages(rescale(digits.images, 16), digits.target)
    return images[train], images[test]


def rescale(images: np.ndarray, largest: int) -> np.ndarray:
    """(n, height, width) between 0 and `largest` -> (n, 1, height, width), float32 in [-1, 1].

    >>> rescale(np.array([[[0, 16]]]), 16).tolist()
    [[[[-1.0, 1.0]]]]
    """
    return (images[:, None] * (2 / largest) - 1).astype(np.float32)
