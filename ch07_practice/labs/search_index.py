"""Text search: by embeddings from our own model, and by the words that a text shares with the
query.

All vectors fit into one NumPy array, and a search is one matrix product: exact, and fast up to some
100,000 texts. Beyond that, use an approximate index: FAISS or hnswlib in the process, pgvector,
Qdrant or Milvus as a database. Words are weighted by TF-IDF (scikit-learn) or BM25 (Robertson &
Zaragoza 2009; the package bm25s).
"""

import re
from collections.abc import Sequence

import numpy as np
import torch
from tqdm import tqdm

from ch01_text import right_pad
from ch03_gpt import GPTModel, Precision

BATCH = 64


def words(text: str) -> list[str]:
    """The words of a text in lower case, for the word indexes.

    >>> words("Where is Nora's kite?")
    ['where', 'is', 'nora', 's', 'kite']
    """
    return re.findall(r"\w+", text.lower())


@torch.inference_mode()
def embed(
    model: GPTModel, tokenizer, texts: Sequence[str], precision: Precision, layer: int | None = None
) -> np.ndarray:
    """Texts -> (N, C) float32: the mean hidden state over each text's tokens. `layer` counts blocks
    (0: the token embeddings); None: all blocks and the final norm. Texts longer than the context
    are truncated.
    """
    model.eval()
    vectors = np.zeros((len(texts), model.config.emb_dim), np.float32)
    encoded = [
        [tokenizer.eot_id, *tokenizer.encode(text)][: model.config.context_length] for text in texts
    ]
    order = sorted(range(len(texts)), key=lambda row: len(encoded[row]))
    for first in tqdm(range(0, len(order), BATCH), "embedding", leave=False, disable=None):
        rows = order[first : first + BATCH]
        ids = right_pad([encoded[row] for row in rows], device=model.device)
        with precision.autocast():
            # (B, T, C)
            hidden = model.hidden_states(ids) if layer is None else hidden_after(model, ids, layer)
        is_token = (
            torch.arange(ids.shape[1]) < torch.tensor([len(encoded[row]) for row in rows])[:, None]
        )
        is_token = is_token.to(model.device).unsqueeze(2)
        vectors[rows] = ((hidden.float() * is_token).sum(dim=1) / is_token.sum(dim=1)).cpu().numpy()
    return vectors


def hidden_after(model: GPTModel, ids: torch.Tensor, layer: int) -> torch.Tensor:
    """(B, T) ids -> (B, T, C): the residual stream after `layer` blocks."""
    x = model.tok_emb(ids)
    for block in model.trf_blocks[:layer]:
        x = block(x)
    return x


class VectorIndex:
    """Exact cosine search among (N, C) vectors.

    The component that all vectors share makes them look alike and distinguishes none, so the mean
    is subtracted (Mu & Viswanath 2018). Queries are texts of another kind and have a mean of their
    own, that of `typical_queries` (M, C).
    """

    def __init__(self, vectors: np.ndarray, typical_queries: np.ndarray):
        self.vectors = unit(vectors - vectors.mean(axis=0))
        self.query_mean = typical_queries.mean(axis=0)

    def search(self, queries: np.ndarray, k: int) -> np.ndarray:
        """(Q, C) -> (Q, k): indices of the most similar vectors, best first."""
        return top_k(unit(queries - self.query_mean) @ self.vectors.T, k)


def unit(vectors: np.ndarray) -> np.ndarray:
    """(N, C) -> (N, C), each row scaled to length 1.

    >>> unit(np.array([[3.0, 4.0]])).tolist()
    [[0.6, 0.8]]
    """
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)


def top_k(scores: np.ndarray, k: int) -> np.ndarray:
    """(Q, N) scores -> (Q, k): indices of the k highest, best first; of equal scores the earlier.

    >>> top_k(np.array([[0.1, 0.9, 0.5, 0.9]]), 3).tolist()
    [[1, 3, 2]]
    """
    if not 1 <= k <= scores.shape[1]:
        raise ValueError(f"k must be from 1 to the {scores.shape[1]} texts of the index, not {k}")
    return np.argsort(-scores, axis=1, kind="stable")[:, :k]


class TfidfIndex:
    """TF-IDF: words weighted by how rare they are (Salton & Buckley 1988)."""

    def __init__(self, texts: Sequence[str]):
        from sklearn.feature_extraction.text import TfidfVectorizer

        self.vectorizer = TfidfVectorizer(analyzer=words)
        self.matrix = self.vectorizer.fit_transform(texts)

    def search(self, queries: Sequence[str], k: int) -> np.ndarray:
        return top_k((self.vectorizer.transform(queries) @ self.matrix.T).toarray(), k)


class Bm25Index:
    """BM25: like TF-IDF, with diminishing returns for repeated words and long texts. ValueError if
    bm25s is not installed.
    """

    def __init__(self, texts: Sequence[str]):
        try:
            import bm25s
        except ImportError as error:
            raise ValueError("BM25 needs bm25s: pip install bm25s") from error
        self.index = bm25s.BM25()
        self.index.index([words(text) for text in texts], show_progress=False)

    def search(self, queries: Sequence[str], k: int) -> np.ndarray:
        return top_k(np.stack([self.index.get_scores(words(query)) for query in queries]), k)
