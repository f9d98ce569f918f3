"""Networks for images: one that flattens them and one that looks through small windows."""

import numpy as np

from appendix_b.convolution import Conv2d, MaxPool
from appendix_b.layers import BatchNorm, Dropout, Flatten, Linear, ReLU
from appendix_b.nn import Sequential


def mlp(
    side: int,
    classes: int,
    rng: np.random.Generator,
    width: int = 128,
    layers: int = 2,
    dropout: float = 0.0,
    batch_norm: bool = False,
) -> Sequential:
    """(B, 1, side, side) -> logits (B, classes) through hidden layers of `width`."""
    parts, inputs = [Flatten()], side * side
    for _ in range(layers):
        parts += [
            Linear(inputs, width, rng),
            *([BatchNorm(width)] if batch_norm else []),
            ReLU(),
            *([Dropout(dropout, rng)] if dropout else []),
        ]
        inputs = width
    return Sequential(*parts, Linear(inputs, classes, rng))


def cnn(
    side: int, classes: int, rng: np.random.Generator, width: int = 16, dropout: float = 0.3
) -> Sequential:
    """(B, 1, side, side) -> logits (B, classes): two times convolution and pooling, channels
    doubled, then a hidden layer. Half the side is left after each pooling.
    """
    flat = 2 * width * (side // 2 // 2) ** 2
    return Sequential(
        Conv2d(1, width, 3, rng, padding=1),
        BatchNorm(width),
        ReLU(),
        # (B, C, side / 2, side / 2)
        Conv2d(width, width, 3, rng, padding=1),
        BatchNorm(width),
        ReLU(),
        MaxPool(2),
        # (B, 2C, side / 4, ..)
        Conv2d(width, 2 * width, 3, rng, padding=1),
        BatchNorm(2 * width),
        ReLU(),
        MaxPool(2),
        Flatten(),
        Linear(flat, 64, rng),
        ReLU(),
        Dropout(dropout, rng),
        Linear(64, classes, rng),
    )
