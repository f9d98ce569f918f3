"""A tiny GPT on our own engine: the transformer blocks of attention.py between an embedding and a
head.

GPT-2's architecture (Radford et al. 2019) with a tied head: the matrix that turns ids into vectors
also scores vectors against ids. With the same weights, chapter 3's GPTModel gives the same logits
(asserted in the tests).
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from appendix_b.attention import TransformerBlock
from appendix_b.layers import Dropout, Embedding, LayerNorm
from appendix_b.nn import Module
from appendix_b.saving import load_arrays, save_arrays
from appendix_b.tensor import Tensor, no_grad


@dataclass(frozen=True)
class Shape:
    """The numbers that decide a GPT's shape."""

    vocab_size: int  # V
    context_length: int = 128  # T: the longest window that it sees
    width: int = 128  # C
    heads: int = 4
    layers: int = 3
    dropout: float = 0.0


class GPT(Module):
    """Token ids (B, T), integers -> logits (B, T, V). ValueError where T exceeds the context
    length.
    """

    def __init__(self, shape: Shape, rng: np.random.Generator):
        self.shape = shape
        self.tokens = Embedding(shape.vocab_size, shape.width, rng, spread=0.02)
        self.positions = Embedding(shape.context_length, shape.width, rng, spread=0.02)
        self.drop = Dropout(shape.dropout, rng)
        self.blocks = [
            TransformerBlock(shape.width, shape.heads, rng, shape.dropout)
            for _ in range(shape.layers)
        ]
        self.norm = LayerNorm(shape.width)
        self._start_like_gpt2(rng)

    def _start_like_gpt2(self, rng: np.random.Generator) -> None:
        """Normal with standard deviation 0.02, biases zero, and smaller where a branch writes into
        the residual
        stream: there are two such writes in each layer, and their variances add up.
        """
        for block in self.blocks:
            attention, (widen, _, narrow) = block.attention, block.feed_forward.layers
            writes = {id(attention.mix), id(narrow)}
            for linear in (
                attention.query,
                attention.key,
                attention.value,
                attention.mix,
                widen,
                narrow,
            ):
                spread = 0.02 / math.sqrt(2 * self.shape.layers) if id(linear) in writes else 0.02
                linear.weight.data[...] = rng.normal(0, spread, linear.weight.shape)
                if linear.bias is not None:
                    linear.bias.data[...] = 0

    def forward(self, ids: np.ndarray) -> Tensor:
        T, longest = ids.shape[1], self.shape.context_length
        if longest < T:
            raise ValueError(f"{T} tokens exceed the context length {longest}; shorten the input")
        x = self.drop(self.tokens(ids) + self.positions(np.arange(T)))  # (B, T, C)
        for block in self.blocks:
            x = block(x)
        return self.norm(x) @ self.tokens.weight.transpose()

    def save(self, path: str | Path, **settings) -> None:
        """Write weights, shape and other `settings` (what JSON can hold) to one .npz file."""
        save_arrays(path, self.state(), {"shape": asdict(self.shape), **settings})

    @classmethod
    def load(cls, path: str | Path) -> tuple["GPT", dict]:
        """The model that `save` wrote, and its settings."""
        arrays, settings = load_arrays(path)
        if "shape" not in settings:
            raise ValueError(f"{path} holds no GPT; train one first")
        model = cls(Shape(**settings.pop("shape")), np.random.default_rng(0))
        model.load_state(arrays)
        return model.eval(), settings


def draw(
    logits: np.ndarray,
    rng: np.random.Generator,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
) -> np.ndarray:
    """Logits (B, V) -> one drawn id for each row (B,).

    `temperature` 0 takes the most likely one; `top_k` keeps so many, `top_p` the fewest whose
    probabilities reach it.

    >>> draw(np.array([[0.0, 5.0, 1.0]]), np.random.default_rng(0), temperature=0.0)
    array([1])
    """
    if temperature < 0:
        raise ValueError(f"the temperature must be 0 or more, not {temperature}")
    if temperature == 0:
        return logits.argmax(axis=1)
    order = np.argsort(-logits, axis=1, kind="stable")  # the most likely first
    scaled = np.take_along_axis(logits, order, axis=1).astype(np.float64) / temperature
    probabilities = np.exp(scaled - scaled[:, :1])
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    if top_k is not None:
        probabilities[:, top_k:] = 0
    if top_p is not None:
        before = np.cumsum(probabilities, axis=1) - probabilities
        probabilities[before >= top_p * probabilities.sum(axis=1, keepdims=True)] = 0
    reached = np.cumsum(probabilities, axis=1)
    point = rng.random((len(logits), 1)) * reached[:, -1:]
    place = (reached <= point).sum(axis=1, keepdims=True)
    return np.take_along_axis(order, place, axis=1)[:, 0]


def write(
    model: Callable[[np.ndarray], Tensor],
    ids: np.ndarray,
    context_length: int,
    rng: np.random.Generator,
    **sampling,
) -> Iterator[np.ndarray]:
    """Yield the next id of each row (B,), one step after the other, without an end.

    `model` maps ids (B, T) to logits (B, T, V) and sees the last `context_length` ids. Options: see
    `draw`.
    """
    with no_grad():
        while True:
            logits = model(ids[:, -context_length:]).data[:, -1]
            following = draw(logits, rng, **sampling)
            ids = np.concatenate([ids, following[:, None]], axis=1)
            yield following
