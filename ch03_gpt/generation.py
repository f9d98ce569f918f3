"""Writing text: predict the next token, append it, repeat.

The key/value cache (chapter 2) makes each new token cost one token's work instead of the whole
text's. When the context is full, the older half of it is dropped and the rest is read again, with
or without a cache, so that both give the same tokens.
"""

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from ch03_gpt.model import GPTModel
from ch03_gpt.sampling import check_sampling, sample


def _next_logits(model: GPTModel, ids: Tensor, max_new_tokens: int, use_cache: bool) -> Iterator[Tensor]:
    """Yield (B, V) logits for the next token; `send` the chosen (B, 1) tokens back in."""
    limit = model.config.context_length
    window = ids
    cache = None
    for _ in range(max_new_tokens):
        if window.shape[1] > limit:
            window, cache = window[:, -(limit - limit // 2):], None
        if use_cache and cache is None:
            cache = model.make_cache(len(ids), limit)
        unread = window[:, cache[0].length:] if cache else window
        hidden = model.hidden_states(unread, cache)[:, -1]  # (B, C): the head runs on the last token only
        chosen = yield model.out_head(hidden)
        window = torch.cat((window, chosen), dim=1)


def stream(model: GPTModel, ids: Tensor, max_new_tokens: int, *, temperature: float = 0.0,
           top_k: int | None = None, top_p: float | None = None, min_p: float | None = None,
           repetition_penalty: float = 1.0, stop_ids: Iterable[int] = (),
           generator: torch.Generator | None = None, use_cache: bool = True) -> Iterator[Tensor]:
    """Yield the next tokens (B, 1) of each row as they are chosen; arguments as in `generate`."""
    check_sampling(temperature, top_k, top_p, min_p, repetition_penalty)
    if ids.ndim != 2 or ids.numel() == 0:
        raise ValueError(f"ids must be (B, T) with at least one token in each row, not {tuple(ids.shape)}")
    if ids.shape[1] > model.config.context_length:
        raise ValueError(f"the prompt has {ids.shape[1]} tokens, the model sees {model.config.context_length}; "
                         "shorten the prompt")
    return _stream(model, ids, max_new_tokens, torch.tensor(sorted(stop_ids), device=ids.device), use_cache,
                   temperature=temperature, top_k=top_k, top_p=top_p, min_p=min_p,
                   repetition_penalty=repetition_penalty, generator=generator)


def _stream(model: GPTModel, ids: Tensor, max_new_tokens: int, stops: Tensor, use_cache: bool,
            **sampling) -> Iterator[Tensor]:
    was_training = model.training
    model.eval()
    try:
        finished = torch.zeros(len(ids), 1, dtype=torch.bool, device=ids.device)
        predictions = _next_logits(model, ids, max_new_tokens, use_cache)
        chosen = None
        for _ in range(max_new_tokens):
            with torch.inference_mode():
                logits = predictions.send(chosen)
                chosen = sample(logits, seen=ids, **sampling)  # (B, 1)
                if len(stops):
                    chosen = torch.where(finished, stops[0], chosen)
                    finished = finished | torch.isin(chosen, stops)
                ids = torch.cat((ids, chosen), dim=1)
            yield chosen
            if len(stops) and finished.all():
                return
    finally:
        model.train(was_training)


def generate(model: GPTModel, ids: Tensor, max_new_tokens: int, *, temperature: float = 0.0,
             top_k: int | None = None, top_p: float | None = None, min_p: float | None = None,
             repetition_penalty: float = 1.0, stop_ids: Iterable[int] = (),
             generator: torch.Generator | None = None, use_cache: bool = True) -> Tensor:
    """(B, T) int64 ids on the model's device -> (B, T + new) ids; `ids` itself is not changed.

    `temperature=0` is greedy; above it, tokens are drawn with `generator` from the distribution
    that `top_k`, `top_p` and `min_p` leave. A row that has produced one of `stop_ids` is filled up
    with the lowest of them; generation ends early when every row has. ValueError where an option
    is out of range or the prompt is longer than the context.
    """
    chosen = list(stream(model, ids, max_new_tokens, temperature=temperature, top_k=top_k, top_p=top_p,
                         min_p=min_p, repetition_penalty=repetition_penalty, stop_ids=stop_ids,
                         generator=generator, use_cache=use_cache))
    return torch.cat([ids, *chosen], dim=1)


@torch.inference_mode()
def generate_text_simple(model: GPTModel, idx: Tensor, max_new_tokens: int, context_size: int) -> Tensor:
    """(B, T) -> (B, T + max_new_tokens): the book's first generator, greedy and without a cache.

    The readable reference for `generate`: both write the same tokens while they fit the context.
    Put the model into eval mode first.
    """
    for _ in range(max_new_tokens):
        logits = model(idx[:, -context_size:])[:, -1]  # (B, V)
        idx = torch.cat((idx, logits.argmax(dim=-1, keepdim=True)), dim=1)
    return idx
