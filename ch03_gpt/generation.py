"""Generating text: predict the next token, append it, repeat.

With the key/value cache (chapter 2) each new token costs one token's work instead of the whole
text's. Prompts of unequal length are processed together and give the tokens that each would give
alone. When a text has filled the context, its older half is dropped and the rest is prefilled
again, with or without a cache, so that both give the same tokens.
"""

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ch01_text import right_pad
from ch03_gpt.capability import native_gemv_on_cpu
from ch03_gpt.model import GPTModel
from ch03_gpt.sampling import Constraint, Sampler, SamplingParams, log_probabilities

PREFILL = 512  # prompt tokens in one forward pass


def check_prompts(model: GPTModel, prompts: Sequence[Sequence[int]]) -> None:
    """ValueError if there is no prompt, an empty one, or one longer than the context."""
    limit = model.config.context_length
    if len(prompts) == 0:
        raise ValueError("there is no prompt; give at least one")
    for prompt in prompts:
        if len(prompt) == 0:
            raise ValueError("a prompt must have at least one token")
        if len(prompt) > limit:
            raise ValueError(
                f"the prompt has {len(prompt)} tokens, the model sees {limit}; shorten the prompt"
            )


def prefill(
    model: GPTModel, rows: Sequence[Sequence[int]], cache=None, chunk: int = PREFILL
) -> Tensor:
    """Prefill: run each row's new tokens through the model in chunks, fill the cache, return each
    row's last hidden state (B, C).
    """
    lengths = torch.tensor([len(row) for row in rows])  # (B,)
    ids = right_pad(rows, device=model.device)  # (B, longest)
    # attention is causal, so padding on the right cannot change the tokens before it
    if cache is None:
        return model.hidden_states(ids)[torch.arange(len(rows)), lengths - 1]
    last = None
    chunk = min(chunk, cache.chunk)
    for first in range(0, ids.shape[1], chunk):
        piece = ids[:, first : first + chunk]
        # each row's tokens in this chunk; 0 if it ended in an earlier one
        counts = (lengths - first).clamp(0, piece.shape[1])
        padded = counts.min() < piece.shape[1]
        hidden = model.hidden_states(piece, cache, counts.tolist() if padded else None)
        # hidden is (B, chunk, C)
        newest = hidden[torch.arange(len(rows)), (counts - 1).clamp(min=0)]
        if last is None:
            last = newest
        else:  # a row that ended in an earlier chunk keeps its state
            last = torch.where((counts > 0).unsqueeze(1).to(ids.device), newest, last)
    assert last is not None  # no prompt is empty
    return last


class DecodingState:
    """The texts within the context, their cache, and the logits (B, V) of each text's next token.

    `max_new_tokens` bounds the size of the cache. `samples`: number of texts per prompt, which is
    prefilled only once.
    """

    def __init__(
        self,
        model: GPTModel,
        prompts: Sequence[Sequence[int]],
        max_new_tokens: int,
        samples: int = 1,
        use_cache: bool = True,
        chunk: int = PREFILL,
    ):
        self.model, self.chunk = model, chunk
        self.limit = model.config.context_length
        longest = min(self.limit, max(map(len, prompts)) + max_new_tokens)
        self.cache = model.make_cache(len(prompts), longest) if use_cache else None
        # (P, C) for P prompts; their samples, B = P x samples, are rows of their own from here on
        hidden = prefill(model, prompts, self.cache, chunk)
        if self.cache is not None and samples > 1:
            self.cache = self.cache.repeat(samples)
        self.texts = [list(prompt) for prompt in prompts for _ in range(samples)]
        self.logits = model.out_head(hidden).repeat_interleave(samples, dim=0)  # (B, V)

    def append(self, chosen: Tensor) -> None:
        """Append a token (B, 1) to each text, and predict the next."""
        for text, token in zip(self.texts, chosen.flatten().tolist(), strict=True):
            text.append(token)
        # Dropping one token would move all others to new positions, and change all their keys and
        # values. Half the context goes at once, so that a new prefill is rare.
        full = [row for row, text in enumerate(self.texts) if len(text) > self.limit]
        for row in full:
            del self.texts[row][: len(self.texts[row]) - (self.limit - self.limit // 2)]
        if self.cache is None:
            hidden = prefill(self.model, self.texts)
        elif full:
            hidden = self._refill_after_overflow(chosen, full)
        else:
            # the usual step: (B, 1) ids -> (B, C), and the output head within the same fast path
            with native_gemv_on_cpu(len(chosen), self.model.tok_emb.weight.dtype):
                hidden = self.model.hidden_states(chosen, self.cache)[:, -1]
                self.logits = self.model.out_head(hidden)
                return
        self.logits = self.model.out_head(hidden)

    def reorder(self, rows: Sequence[int]) -> None:
        """Let text i continue what text `rows[i]` was."""
        if self.cache is not None:
            self.cache.reorder(rows)
        self.texts = [list(self.texts[row]) for row in rows]

    def _refill_after_overflow(self, chosen: Tensor, full: list[int]) -> Tensor:
        """Prefill the rows whose context overflowed from their truncated text; decode one token for
        the others.
        """
        assert self.cache is not None
        # The rows take part in one forward pass, where a full row counts as padding (0 tokens). Its
        # wrong hidden state is then replaced.
        counts = [int(row not in full) for row in range(len(self.texts))]
        hidden = self.model.hidden_states(chosen, self.cache, counts)[:, -1].clone()
        for row in full:
            # shares memory and counts with the whole cache
            alone = self.cache.rows(row, row + 1)
            alone.truncate(0)
            hidden[row] = prefill(self.model, [self.texts[row]], alone, self.chunk)[0]
        return hidden


def stream(
    model: GPTModel,
    ids: Tensor,
    max_new_tokens: int,
    *,
    stop_ids: Iterable[int] = (),
    generator: torch.Generator | Sequence[torch.Generator] | None = None,
    use_cache: bool = True,
    **options,
) -> Iterator[Tensor]:
    """Yield the next tokens (B, 1) of all rows as they are sampled; arguments as in `generate`."""
    if ids.ndim != 2 or ids.numel() == 0:
        raise ValueError(
            f"ids must be (B, T) with at least one token in each row, not {tuple(ids.shape)}"
        )
    prompts = ids.tolist()
    check_prompts(model, prompts)
    sampler = Sampler(
        SamplingParams(**options), prompts, model.config.vocab_size, model.device, generator
    )
    stops = torch.tensor(sorted(stop_ids), device=ids.device)
    # A generator's body runs only when its first item is asked for. As `stream` is not one itself,
    # it raises its errors at once.
    return _stream(model, prompts, max_new_tokens, sampler, stops, use_cache)


def _stream(
    model: GPTModel,
    prompts: list[list[int]],
    max_new_tokens: int,
    sampler: Sampler,
    stops: Tensor,
    use_cache: bool,
) -> Iterator[Tensor]:
    finished = torch.zeros(len(prompts), 1, dtype=torch.bool, device=model.device)
    for chosen in decode_loop(model, prompts, max_new_tokens, sampler, use_cache=use_cache):
        if len(stops):
            # Rows of a batch advance together. A finished one goes on being sampled, but yields
            # only its padding.
            chosen = torch.where(finished, stops[0], chosen)
            finished = finished | torch.isin(chosen, stops)
        yield chosen
        if len(stops) and finished.all():
            return


def decode_loop(
    model: GPTModel,
    prompts: Sequence[Sequence[int]],
    max_new_tokens: int,
    sampler: Sampler,
    *,
    samples: int = 1,
    use_cache: bool = True,
    chunk: int = PREFILL,
    logits_callback: Callable[[Tensor, Tensor], None] = lambda logits, ids: None,
) -> Generator[Tensor, None, None]:
    """Yield sampled ids (B, 1), one step at a time; `logits_callback(logits, ids)` is called before
    each.
    """
    # eval: no dropout. `finally` also runs when the consumer stops early and closes the generator.
    was_training = model.training
    model.eval()
    try:
        state = ids = None
        for _ in range(max_new_tokens):
            # inference mode must not include the `yield`: it would then hold in the consumer's code
            with torch.inference_mode():
                if state is None or ids is None:
                    state = DecodingState(model, prompts, max_new_tokens, samples, use_cache, chunk)
                else:
                    # at the beginning of a step, so that the last token never passes through the
                    # model
                    state.append(ids)
                ids = sampler.sample(state.logits)
                logits_callback(state.logits, ids)
            yield ids
    finally:
        model.train(was_training)


def generate(
    model: GPTModel,
    ids: Tensor,
    max_new_tokens: int,
    *,
    stop_ids: Iterable[int] = (),
    generator: torch.Generator | Sequence[torch.Generator] | None = None,
    use_cache: bool = True,
    **options,
) -> Tensor:
    """(B, T) int64 ids on the model's device -> (B, T + new) ids; `ids` itself is not changed.

    `options` are the fields of `SamplingParams`: `temperature=0`, the default, is greedy; above it,
    tokens are sampled with `generator` (or one per row) from the distribution that `top_k`,
    `top_p`, `min_p` and the penalties leave. A row that has produced one of `stop_ids` is padded
    with the lowest of them; generation ends early when every row has. ValueError if an option is
    out of range or the prompt is longer than the context.
    """
    chosen = list(
        stream(
            model,
            ids,
            max_new_tokens,
            stop_ids=stop_ids,
            generator=generator,
            use_cache=use_cache,
            **options,
        )
    )
    return torch.cat([ids, *chosen], dim=1)


@dataclass
class Completion:
    """One text generated after a prompt."""

    ids: list[int] = field(default_factory=list)  # without the stop token
    finish_reason: str = "length"  # or "stop"
    # log-probability of each id, before any filter
    logprobs: list[float] = field(default_factory=list)
    # the most likely ids instead of each
    top_logprobs: list[dict[int, float]] = field(default_factory=list)


def complete(
    model: GPTModel,
    prompts: Sequence[Sequence[int]],
    max_new_tokens: int,
    *,
    samples: int = 1,
    stop_ids: Iterable[int] = (),
    generator: torch.Generator | Sequence[torch.Generator] | None = None,
    constraints: Sequence[Constraint | None] | None = None,
    logprobs: int | None = None,
    use_cache: bool = True,
    chunk: int = PREFILL,
    **options,
) -> list[Completion]:
    """Prompts of any lengths -> `samples` completions of each, those of a prompt side by side.

    `logprobs`: also return the log-probability of every sampled token, and of the `logprobs` most
    likely ones. `generator` and `constraints`: one per completion, if given as a list. The other
    arguments are `generate`'s.
    """
    check_prompts(model, prompts)
    if samples < 1:
        raise ValueError(f"samples must be at least 1, not {samples}")
    if logprobs is not None and not 0 <= logprobs <= model.config.vocab_size:
        raise ValueError(
            f"logprobs must be from 0 to the {model.config.vocab_size} tokens, not {logprobs}"
        )
    stops = set(stop_ids)
    repeated = [prompt for prompt in prompts for _ in range(samples)]
    sampler = Sampler(
        SamplingParams(**options),
        repeated,
        model.config.vocab_size,
        model.device,
        generator,
        constraints,
    )
    completions = [Completion() for _ in repeated]
    found: list[list[list]] = []  # log-probability and token, and the most likely ones, of each row

    def keep_log_probabilities(logits: Tensor, chosen: Tensor) -> None:
        if logprobs is not None:
            found[:] = [tensor.tolist() for tensor in log_probabilities(logits, chosen, logprobs)]

    steps = decode_loop(
        model,
        prompts,
        max_new_tokens,
        sampler,
        samples=samples,
        use_cache=use_cache,
        chunk=chunk,
        logits_callback=keep_log_probabilities,
    )
    for chosen in steps:
        for row, (completion, token) in enumerate(
            zip(completions, chosen.flatten().tolist(), strict=True)
        ):
            # this row ended earlier, but others of its batch have not
            if completion.finish_reason == "stop":
                continue
            if token in stops:
                completion.finish_reason = "stop"
                continue
            completion.ids.append(token)
            if found:
                completion.logprobs.append(found[0][row][0])
                completion.top_logprobs.append(dict(zip(found[2][row], found[1][row], strict=True)))
        if all(completion.finish_reason == "stop" for completion in completions):
            # runs decode_loop's `finally`; the loop over `steps` then ends
            steps.close()
    return completions


@torch.inference_mode()
def generate_text_simple(
    model: GPTModel, idx: Tensor, max_new_tokens: int, context_size: int
) -> Tensor:
    """(B, T) -> (B, T + max_new_tokens): the book's first generator, greedy and without a cache.

    The readable reference for `generate`: both give the same tokens as long as they fit the
    context. Put the model into eval mode first.
    """
    for _ in range(max_new_tokens):
        # the last `context_size` tokens, all computed anew: only the last row of logits is used
        logits = model(idx[:, -context_size:])[:, -1]  # (B, V)
        idx = torch.cat((idx, logits.argmax(dim=-1, keepdim=True)), dim=1)
    return idx
