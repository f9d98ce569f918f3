"""Finding texts: by the meaning that our own model gives them, and by the words that they share
with the query.

All vectors fit one NumPy array here, and a search is one matrix product: exact, and fast up to some
100,000 texts. Beyond that take an index that does not look at every vector: FAISS or hnswlib in a
process, pgvector, Qdrant or Milvus as a database. Words are weighted by TF-IDF (scikit-learn) or
BM25 (Robertson & Zaragoza 2009; the package bm25s).
"""

import re
from collections.abc import Sequence

import numpy as np
import torch
from tqdm import tqdm

from ch03_gpt import GPTModel, Precision
from ch03_gpt.generation import pad

BATCH = 64


def words(text: str) -> list[str]:
    """A text's words in small letters, for the word indexes.

    >>> words("Where is Nora's kite?")
    ['where', 'is', 'nora', 's', 'kite']
    """
    return re.findall(r"\w+", text.lower())


@torch.inference_mode()
def embed(
    model: GPTModel, tokenizer, texts: Sequence[str], precision: Precision, layer: int | None = None
) -> np.ndarray:
    """Texts -> (N, C) float32: the mean hidden state over each text's tokens. `layer`: after so
    many blocks (0: the token embeddings); None: all of them and the final norm. A text longer than
    the context loses its end.
    """
    model.eval()
    vectors = np.zeros((len(texts), model.config.emb_dim), np.float32)
    encoded = [
        [tokenizer.eot_id, *tokenizer.encode(text)][: model.config.context_length] for text in texts
    ]
    order = sorted(range(len(texts)), key=lambda row: len(encoded[row]))
    for first in tqdm(range(0, len(order), BATCH), "embedding", leave=False, disable=None):
        rows = order[first : first + BATCH]
        ids = pad([encoded[row] for row in rows], model.device)
        with precision.autocast():
            # (B, T, C)
            hidden = model.hidden_states(ids) if layer is None else states_after(model, ids, layer)
        real = (
            torch.arange(ids.shape[1]) < torch.tensor([len(encoded[row]) for row in rows])[:, None]
        )
        real = real.to(model.device).unsqueeze(2)
        vectors[rows] = ((hidden.float() * real).sum(dim=1) / real.sum(dim=1)).cpu().numpy()
    return vectors


def states_after(model: GPTModel, ids: torch.Tensor, layer: int) -> torch.Tensor:
    """(B, T) ids -> (B, T, C): the residual stream after `layer` blocks."""
    x = model.tok_emb(ids)
    for block in model.trf_blocks[:layer]:
        x = block(x)
    return x


class VectorIndex:
    """Exact cosine search among (N, C) vectors. What all vectors have in common says nothing about
    any of them and would make them look alike, so the mean is taken off (Mu & Viswanath 2018):
    queries are texts of another kind, so they lose that of `typical_queries` (M, C).
    """

    def __init__(self, vectors: np.ndarray, typical_queries: np.ndarray):
        self.vectors = unit(vectors - vectors.mean(axis=0))
        self.query_mean = typical_queries.mean(axis=0)

    def search(self, queries: np.ndarray, k: int) -> np.ndarray:
        """(Q, C) -> (Q, k): the numbers of the most similar vectors, the best first."""
        return best(unit(queries - self.query_mean) @ self.vectors.T, k)


def unit(vectors: np.ndarray) -> np.ndarray:
    """(N, C) -> (N, C) of length 1 each.

    >>> unit(np.array([[3.0, 4.0]])).tolist()
    [[0.6, 0.8]]
    """
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)


def best(scores: np.ndarray, k: int) -> np.ndarray:
    """(Q, N) scores -> (Q, k): the numbers of the k highest, the best first, the earlier one among
    equals.

    >>> best(np.array([[0.1, 0.9, 0.5, 0.9]]), 3).tolist()
    [[1, 3, 2]]
    """
    if not 1 <= k <= scores.shape[1]:
        raise ValueError(f"k must be from 1 to the {scores.shape[1]} texts of the index, not {k}")
    return np.argsort(-scores, axis=1, kind="stable")[:, :k]


class TfidfIndex:
    """Words weighted by how rare they are (Salton & Buckley 1988)."""

    def __init__(self, texts: Sequence[str]):
        from sklearn.feature_extraction.text import TfidfVectorizer

        self.vectorizer = TfidfVectorizer(analyzer=words)
        self.matrix = self.vectorizer.fit_transform(texts)

    def search(self, queries: Sequence[str], k: int) -> np.ndarray:
        return best((self.vectorizer.transform(queries) @ self.matrix.T).toarray(), k)


class Bm25Index:
    """BM25: TF-IDF with the length of the text and repeated words discounted. ValueError where
    bm25s is missing.
    """

    def __init__(self, texts: Sequence[str]):
        try:
            import bm25s
        except ImportError as error:
            raise ValueError("BM25 needs bm25s: pip install bm25s") from error
        self.index = bm25s.BM25()
        self.index.index([words(text) for text in texts], show_progress=False)

    def search(self, queries: Sequence[str], k: int) -> np.ndarray:
        return best(np.stack([self.index.get_scores(words(query)) for query in queries]), k)
