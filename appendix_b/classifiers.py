"""Image classifiers: a multilayer perceptron and a convolutional network."""

import numpy as np

from appendix_b.convolution import Conv2d, MaxPool2d
from appendix_b.layers import BatchNorm, Dropout, Flatten, Linear, ReLU
from appendix_b.nn import Module, Sequential


def mlp(
    image_size: int,
    n_classes: int,
    rng: np.random.Generator,
    hidden_size: int = 128,
    n_hidden: int = 2,
    drop_rate: float = 0.0,
    batch_norm: bool = False,
) -> Sequential:
    """(B, 1, image_size, image_size) -> logits (B, n_classes) through `n_hidden` hidden layers;
    without any, this is logistic regression.
    """
    layers: list[Module] = [Flatten()]
    in_features = image_size * image_size
    for _ in range(n_hidden):
        layers.append(Linear(in_features, hidden_size, rng))
        if batch_norm:
            layers.append(BatchNorm(hidden_size))
        layers.append(ReLU())
        if drop_rate:
            layers.append(Dropout(drop_rate, rng))
        in_features = hidden_size
    return Sequential(*layers, Linear(in_features, n_classes, rng))


def cnn(
    image_size: int,
    n_classes: int,
    rng: np.random.Generator,
    channels: int = 16,
    drop_rate: float = 0.3,
) -> Sequential:
    """(B, 1, image_size, image_size) -> logits (B, n_classes): three convolutions, two poolings
    that halve the image, and a hidden layer.
    """
    flat = 2 * channels * (image_size // 2 // 2) ** 2
    return Sequential(
        Conv2d(1, channels, 3, rng, padding=1),
        BatchNorm(channels),
        ReLU(),
        Conv2d(channels, channels, 3, rng, padding=1),
        BatchNorm(channels),
        ReLU(),
        MaxPool2d(2),  # (B, C, image_size / 2, image_size / 2)
        Conv2d(channels, 2 * channels, 3, rng, padding=1),
        BatchNorm(2 * channels),
        ReLU(),
        MaxPool2d(2),  # (B, 2 C, image_size / 4, image_size / 4)
        Flatten(),
        Linear(flat, 64, rng),
        ReLU(),
        Dropout(drop_rate, rng),
        Linear(64, n_classes, rng),
    )
