"""A tiny GPT on our own engine: the transformer blocks of attention.py between an embedding and an
output head.

The architecture is GPT-2's (Radford et al. 2019) with a tied head: the matrix that turns ids into
vectors also turns vectors into scores for ids. The parts have the names of chapter 3's GPTModel,
and with the same weights it gives the same logits (asserted in the tests).
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from appendix_b.attention import TransformerBlock
from appendix_b.layers import Dropout, Embedding, LayerNorm, Linear
from appendix_b.nn import Module
from appendix_b.saving import load_arrays, save_arrays
from appendix_b.tensor import Tensor, no_grad


@dataclass(frozen=True)
class GPTConfig:
    """The shape of a GPT."""

    vocab_size: int  # V: number of token ids
    context_length: int = 128  # T: the longest input
    emb_dim: int = 128  # C: width of the residual stream
    n_heads: int = 4  # H: attention heads, each emb_dim / n_heads wide
    n_layers: int = 3  # number of transformer blocks
    drop_rate: float = 0.0  # dropout after the embedding and in the residual branches


class GPT(Module):
    """Token ids (B, T) -> logits (B, T, V). ValueError if T exceeds the context length."""

    def __init__(self, config: GPTConfig, rng: np.random.Generator):
        self.config = config
        self.tok_emb = Embedding(config.vocab_size, config.emb_dim, rng, std=0.02)
        self.pos_emb = Embedding(config.context_length, config.emb_dim, rng, std=0.02)
        self.drop_emb = Dropout(config.drop_rate, rng)
        self.trf_blocks = [
            TransformerBlock(config.emb_dim, config.n_heads, rng, config.drop_rate)
            for _ in range(config.n_layers)
        ]
        self.final_norm = LayerNorm(config.emb_dim)
        self._init_weights(rng)

    def _init_weights(self, rng: np.random.Generator) -> None:
        """GPT-2's initialisation: weights normal with standard deviation 0.02, biases zero."""
        # Each block adds the outputs of two layers to the residual stream. The variances of these
        # 2 * n_layers outputs add up, so their weights start smaller by the square root of that.
        residual_std = 0.02 / math.sqrt(2 * self.config.n_layers)
        for block in self.trf_blocks:
            att, (expand, _, contract) = block.att, block.ff.layers
            for linear, std in (
                (att.W_query, 0.02),
                (att.W_key, 0.02),
                (att.W_value, 0.02),
                (att.out_proj, residual_std),
                (expand, 0.02),
                (contract, residual_std),
            ):
                assert isinstance(linear, Linear)
                linear.weight.data[...] = rng.normal(0, std, linear.weight.shape)
                if linear.bias is not None:
                    linear.bias.data[...] = 0

    def forward(self, ids: np.ndarray) -> Tensor:
        T, longest = ids.shape[1], self.config.context_length
        if longest < T:
            raise ValueError(f"{T} tokens exceed the context length {longest}; shorten the input")
        x = self.drop_emb(self.tok_emb(ids) + self.pos_emb(np.arange(T)))  # (B, T, C)
        for block in self.trf_blocks:
            x = block(x)
        return self.final_norm(x) @ self.tok_emb.weight.transpose()  # (B, T, V)

    def save(self, path: str | Path, **settings) -> None:
        """Write weights, config and further `settings` (JSON values) to one .npz file."""
        save_arrays(path, self.state_dict(), {"config": asdict(self.config), **settings})

    @classmethod
    def load(cls, path: str | Path) -> tuple["GPT", dict]:
        """The model that `save` wrote, in evaluation mode, and its settings."""
        arrays, settings = load_arrays(path)
        if "config" not in settings:
            raise ValueError(f"{path} holds no GPT; train one first")
        model = cls(GPTConfig(**settings.pop("config")), np.random.default_rng(0))
        model.load_state_dict(arrays)
        return model.eval(), settings


def sample(
    logits: np.ndarray,
    rng: np.random.Generator,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
) -> np.ndarray:
    """Logits (B, V) -> one sampled id per row (B,).

    Temperature 0 takes the most likely id. `top_k` keeps the k most likely ids, `top_p` the fewest
    whose probabilities sum to at least p.

    >>> sample(np.array([[0.0, 5.0, 1.0]]), np.random.default_rng(0), temperature=0.0)
    array([1])
    """
    if temperature < 0:
        raise ValueError(f"the temperature must be 0 or more, not {temperature}")
    if temperature == 0:
        return logits.argmax(axis=1)
    # Sorted with the most likely id first, both filters cut off the end of each row.
    order = np.argsort(-logits, axis=1, kind="stable")
    scaled = np.take_along_axis(logits, order, axis=1).astype(np.float64) / temperature
    probabilities = np.exp(scaled - scaled[:, :1])
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    if top_k is not None:
        probabilities[:, top_k:] = 0
    if top_p is not None:
        # Keep an id if those before it do not reach p yet; the first one always stays.
        before = np.cumsum(probabilities, axis=1) - probabilities
        probabilities[before >= top_p * probabilities.sum(axis=1, keepdims=True)] = 0
    # Inverse transform sampling: where does a uniform number fall in the cumulative sum?
    cumulative = np.cumsum(probabilities, axis=1)
    point = rng.random((len(logits), 1)) * cumulative[:, -1:]
    rank = (cumulative <= point).sum(axis=1, keepdims=True)
    return np.take_along_axis(order, rank, axis=1)[:, 0]


def generate(
    model: Callable[[np.ndarray], Tensor],
    ids: np.ndarray,
    context_length: int,
    rng: np.random.Generator,
    **sampling,
) -> Iterator[np.ndarray]:
    """Yield the next id of each row (B,), step by step, without end.

    `model` maps ids (B, T) to logits (B, T, V) and is given the last `context_length` ids. The
    `sampling` options are those of `sample`.
    """
    with no_grad():
        while True:
            logits = model(ids[:, -context_length:]).data[:, -1]
            next_ids = sample(logits, rng, **sampling)
            ids = np.concatenate([ids, next_ids[:, None]], axis=1)
            yield next_ids
