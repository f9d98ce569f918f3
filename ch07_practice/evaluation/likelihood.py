"""The log-probability of a text under a model: the basis of multiple choice, perplexity and bits
per byte.

The output head runs at the scored positions only, which saves memory with a large vocabulary. A
text longer than the context is scored in overlapping windows, as in GPT-2's evaluation (Radford et
al. 2019, section 3).
"""

import math
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from tqdm import tqdm

from ch01_text import right_pad
from ch03_gpt import GPTModel, Precision
from ch03_gpt.sampling import log_probabilities

Row = tuple[Sequence[int], Sequence[int]]  # (context ids, ids to score)
BATCH_TOKENS = 8192
HEAD_ROWS = 1024  # positions whose logits are in memory at the same time


def _fit(row: Row, context_length: int) -> tuple[list[int], int]:
    """A row as one text that fits the context, and how many of its last ids to score. A long
    context loses its beginning.
    """
    context, continuation = row
    if not context:
        raise ValueError("the context is empty; begin it with <|endoftext|>")
    if len(continuation) > context_length:
        raise ValueError(
            f"cannot score {len(continuation)} tokens in a context of {context_length}; "
            "split them with text_windows"
        )
    return [*context, *continuation][-(context_length + 1) :], len(continuation)


def _batches(lengths: Sequence[int]) -> Iterator[list[int]]:
    """Batches of row indices: similar lengths, at most `BATCH_TOKENS` tokens with padding."""
    batch: list[int] = []
    for row in sorted(range(len(lengths)), key=lengths.__getitem__):
        if batch and (len(batch) + 1) * lengths[row] > BATCH_TOKENS:
            yield batch
            batch = []
        batch.append(row)
    if batch:
        yield batch


def _score_batch(
    model: GPTModel, texts: Sequence[tuple[list[int], int]], precision: Precision
) -> Iterator[tuple[float, bool]]:
    """(text, how many of its last ids to score) -> (log-probability, is greedy) for each."""
    with precision.autocast():
        # (B, T, C)
        hidden = model.hidden_states(
            right_pad([text[:-1] for text, _ in texts], device=model.device)
        )
    scored_states = torch.cat(
        [
            row[len(text) - 1 - n : len(text) - 1]
            for row, (text, n) in zip(hidden, texts, strict=True)
        ]
    )
    scored = [token for text, n in texts for token in text[len(text) - n :]]
    targets = torch.tensor(scored, dtype=torch.long, device=model.device).unsqueeze(1)
    log_p, likeliest = [], []
    for part, wanted in zip(scored_states.split(HEAD_ROWS), targets.split(HEAD_ROWS), strict=True):
        logits = model.out_head(part.to(model.out_head.weight.dtype))
        log_p.append(log_probabilities(logits, wanted)[0])
        likeliest.append(logits.argmax(dim=1, keepdim=True) == wanted)
    counts = [n for _, n in texts]
    values = torch.cat(log_p).cpu().double().split(counts)
    hits = torch.cat(likeliest).cpu().split(counts)
    return ((value.sum().item(), bool(hit.all())) for value, hit in zip(values, hits, strict=True))


@torch.inference_mode()
def score_rows(
    model: GPTModel, rows: Sequence[Row], precision: Precision, description: str = "scoring"
) -> list[tuple[float, bool]]:
    """(context ids, continuation ids) -> (log-probability of the continuation in nats, whether it
    is what greedy decoding writes), for each row. ValueError if a context is empty or a
    continuation exceeds the model's context.
    """
    model.eval()
    texts = [_fit(row, model.config.context_length) for row in rows]
    scores: list[tuple[float, bool]] = [(0.0, True)] * len(rows)
    for batch in tqdm(
        list(_batches([len(text) for text, _ in texts])), description, leave=False, disable=None
    ):
        for row, score in zip(
            batch, _score_batch(model, [texts[row] for row in batch], precision), strict=True
        ):
            scores[row] = score
    return scores


def text_windows(
    ids: Sequence[int], start: int, context_length: int, overlap: int
) -> Iterator[Row]:
    """Split a text into rows that score each of its ids exactly once. Every row but the first has
    at least `overlap` ids of context. The id `start` precedes the text.

    >>> list(text_windows([1, 2, 3, 4, 5], start=0, context_length=4, overlap=2))
    [([0], [1, 2, 3, 4]), ([1, 2, 3, 4], [5])]
    """
    if not 1 <= overlap <= context_length:
        raise ValueError(
            f"the overlap must be from 1 to the context length {context_length}, not {overlap}"
        )
    text = [start, *ids]
    done = min(len(text), context_length + 1)
    if done > 1:
        yield text[:1], text[1:done]
    while done < len(text):
        end = min(len(text), done + context_length - overlap + 1)
        yield text[max(0, end - context_length - 1) : done], text[done:end]
        done = end


def ratio_interval(
    totals: Sequence[float], counts: Sequence[float], z: float = 1.96
) -> tuple[float, float, float]:
    """(ratio, low, high): the sum of `totals` over the sum of `counts`, with its 95 % interval from
    the variance between parts (the linearised ratio estimator, Cochran 1977, section 2.11). A
    single part has no interval: NaN.

    >>> [round(value, 3) for value in ratio_interval([2, 4, 6], [2, 2, 2])]
    [2.0, 0.868, 3.132]
    """
    x, y = np.asarray(totals, float), np.asarray(counts, float)
    ratio, n = x.sum() / y.sum(), len(x)
    if n < 2:
        return float(ratio), math.nan, math.nan
    half = z * math.sqrt(n / (n - 1) * np.square(x - ratio * y).sum()) / y.sum()
    return float(ratio), float(ratio - half), float(ratio + half)
