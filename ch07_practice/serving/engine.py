"""Continuous batching: requests join and leave the batch between steps, so that none waits for the
longest one (Yu et al. 2022, Orca).

Each running request owns one row of a shared key/value cache. A step moves waiting requests into
free rows, prefills at most `max_num_batched_tokens` prompt tokens, and then decodes one token for
every request whose prompt is complete. Long prompts therefore never stall the requests that are
already decoding. A prefix that another row has already computed is copied instead of prefilled.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import count

import torch
from torch import Tensor

from ch02_attention import KVCache
from ch03_gpt import Constraint, GPTModel, Sampler, SamplingParams
from ch03_gpt.capability import native_gemv_on_cpu
from ch03_gpt.generation import check_prompts, prefill
from ch03_gpt.sampling import log_probabilities


@dataclass(eq=False)
class Request:
    """A prompt with its options, and the output: `ids` grows until `finish_reason` is set."""

    prompt: Sequence[int]
    max_new_tokens: int
    sampling: SamplingParams = field(default_factory=SamplingParams)
    stop_ids: Sequence[int] = ()
    seed: int = 0
    constraint: Constraint | None = None
    # how many of the most likely tokens to report with each sampled one; None: no log-probabilities
    top_logprobs: int | None = None
    ids: list[int] = field(default_factory=list)  # without the stop token
    # for each id: its log-probability, and those of the most likely tokens
    logprobs: list[tuple[float, dict[int, float]]] = field(default_factory=list)
    finish_reason: str | None = None  # "stop", "length", "cancelled"

    def __post_init__(self):
        if self.max_new_tokens < 1:
            raise ValueError(f"max_new_tokens must be at least 1, not {self.max_new_tokens}")
        self.generator = torch.Generator().manual_seed(self.seed)


def _common_prefix_length(a: Sequence[int], b: Sequence[int]) -> int:
    return next(
        (i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b))
    )


@dataclass(eq=False)
class _Sequence:
    """A running request: the tokens in its cache row, and those still to be prefilled."""

    request: Request
    arrival: int
    pending: list[int]
    cached: list[int] = field(default_factory=list)


class Engine:
    """Decodes many requests together: `submit` them, then call `step` until they are finished.

    At most `max_num_seqs` requests run at a time; the others wait. Each step prefills at most
    `max_num_batched_tokens` prompt tokens over all requests. A text that fills the context
    continues from its newer half, as in `ch03_gpt.generate`.
    """

    def __init__(
        self,
        model: GPTModel,
        max_num_seqs: int = 32,
        max_num_batched_tokens: int = 256,
        cache: KVCache | None = None,
    ):
        self.model = model.eval()
        self.max_num_seqs, self.max_num_batched_tokens = max_num_seqs, max_num_batched_tokens
        self.cache = model.make_cache(max_num_seqs) if cache is None else cache
        self.running: list[_Sequence] = []  # sequence i owns row i of the cache
        self.waiting: deque[Request] = deque()
        self.arrivals = count()
        # the sequences that `sampler` was built for; a change of them rebuilds it
        self.sampled: list[_Sequence] = []
        self.sampler: Sampler | None = None

    def check(self, request: Request) -> None:
        """ValueError if a request cannot be served."""
        check_prompts(self.model, [request.prompt])
        Sampler(request.sampling, [request.prompt], self.model.config.vocab_size)

    def submit(self, request: Request) -> Request:
        """Queue a request; ValueError, at once, if it cannot be served."""
        self.check(request)
        self.waiting.append(request)
        return request

    def reset(self) -> None:
        """Drop all requests, for example after a step that raised an error."""
        self.running, self.sampled, self.sampler = [], [], None
        self.waiting.clear()
        self.cache.cache_seqlens[:] = 0

    def cancel(self, request: Request) -> None:
        """Remove a waiting or running request; its row is free for the next step."""
        if request in self.waiting:
            self.waiting.remove(request)
        for sequence in [one for one in self.running if one.request is request]:
            self._free(sequence)
        request.finish_reason = request.finish_reason or "cancelled"

    @property
    def busy(self) -> bool:
        return bool(self.running or self.waiting)

    def finish(self) -> None:
        """Step until every request is finished."""
        while self.busy:
            self.step()

    @torch.inference_mode()
    def step(self) -> list[Request]:
        """Prefill some prompt tokens and decode one token per complete prompt; returns the requests
        that received a token or ended.
        """
        self._schedule()
        decoding = [sequence for sequence in self.running if not sequence.pending]
        logits = self._prefill() | self._decode(decoding)
        return self._sample([one for one in self.running if one in logits], logits)

    def _schedule(self) -> None:
        """Move waiting requests into free rows, first come, first served."""
        while self.waiting and len(self.running) < self.max_num_seqs:
            request = self.waiting.popleft()
            self.running.append(_Sequence(request, next(self.arrivals), list(request.prompt)))

    def _prefill(self) -> dict[_Sequence, Tensor]:
        """Prefill up to `max_num_batched_tokens` tokens, oldest requests first; returns the logits
        (V,) of the sequences whose prompt is now complete.
        """
        logits, budget = {}, self.max_num_batched_tokens
        for sequence in sorted(self.running, key=lambda sequence: sequence.arrival):
            if not sequence.pending or budget == 0:
                continue
            if not sequence.cached:
                self._copy_prefix(sequence)
            new, sequence.pending = sequence.pending[:budget], sequence.pending[budget:]
            index = self.running.index(sequence)
            hidden = prefill(self.model, [new], self.cache.rows(index, index + 1))
            sequence.cached += new
            budget -= len(new)
            if not sequence.pending:
                logits[sequence] = self.model.out_head(hidden)[0]
        return logits

    def _copy_prefix(self, sequence: _Sequence) -> None:
        """Copy the longest prefix that another row already holds. The last prompt token is always
        computed: its hidden state predicts the first new token.
        """
        if self.cache.n_slots < self.cache.max_length:
            return  # a sliding window has already dropped its first tokens
        lengths = [
            _common_prefix_length(other.cached, sequence.pending[:-1]) for other in self.running
        ]
        if length := max(lengths):
            self.cache.copy_row(lengths.index(length), self.running.index(sequence), length)
            sequence.cached, sequence.pending = (
                sequence.pending[:length],
                sequence.pending[length:],
            )

    def _decode(self, decoding: list[_Sequence]) -> dict[_Sequence, Tensor]:
        """Run the newest token of each decoding sequence -> its next logits (V,). Rows that are
        still prefilling take part as padding.
        """
        if not decoding:
            return {}
        newest = [[one.request.ids[-1] if one in decoding else 0] for one in self.running]
        used, counts = self.cache.rows(0, len(self.running)), [o in decoding for o in self.running]
        with native_gemv_on_cpu(len(self.running), self.model.tok_emb.weight.dtype):
            hidden = self.model.hidden_states(
                torch.tensor(newest, device=self.model.device), used, counts
            )
            predictions = self.model.out_head(hidden[:, -1])  # (B, V)
        for sequence in decoding:
            sequence.cached.append(sequence.request.ids[-1])
        return {
            sequence: prediction
            for sequence, prediction in zip(self.running, predictions, strict=True)
            if sequence in decoding
        }

    def _sample(self, sequences: list[_Sequence], logits: dict[_Sequence, Tensor]) -> list[Request]:
        """Sample a token for each of `sequences` and free the rows of those that ended."""
        if not sequences:
            return []
        requests = [sequence.request for sequence in sequences]
        if self.sampler is None or sequences != self.sampled:
            self.sampled, self.sampler = sequences, self._make_sampler(requests)
        predictions = torch.stack([logits[sequence] for sequence in sequences])  # (B, V)
        chosen = self.sampler.sample(predictions)
        wanted = [r.top_logprobs for r in requests if r.top_logprobs is not None]
        if wanted:
            log_p, top_log_p, top_ids = (
                x.tolist() for x in log_probabilities(predictions, chosen, max(wanted))
            )
        for i, (sequence, token) in enumerate(
            zip(sequences, chosen.flatten().tolist(), strict=True)
        ):
            request = sequence.request
            if token in request.stop_ids:
                request.finish_reason = "stop"
            else:
                request.ids.append(token)
                if request.top_logprobs is not None:
                    best = list(zip(top_ids[i], top_log_p[i], strict=True))
                    request.logprobs.append((log_p[i][0], dict(best[: request.top_logprobs])))
                if len(request.ids) == request.max_new_tokens:
                    request.finish_reason = "length"
            if request.finish_reason:
                self._free(sequence)
            elif len(sequence.cached) == self.cache.max_length:
                self._restart_from_newer_half(sequence)
        return requests

    def _make_sampler(self, requests: list[Request]) -> Sampler:
        return Sampler(
            [r.sampling for r in requests],
            [r.prompt for r in requests],
            self.model.config.vocab_size,
            self.model.device,
            [r.generator for r in requests],
            [r.constraint for r in requests],
            outputs=[r.ids for r in requests],
        )

    def _restart_from_newer_half(self, sequence: _Sequence) -> None:
        """The context is full: clear the row and queue the newer half of the text for prefill."""
        limit = self.cache.max_length
        text = [*sequence.cached, sequence.request.ids[-1]]
        sequence.cached, sequence.pending = [], text[-(limit - limit // 2) :]
        self.cache.cache_seqlens[self.running.index(sequence)] = 0

    def _free(self, sequence: _Sequence) -> None:
        """Free a row. The last row moves into it, so that the rows in use stay contiguous."""
        index, last = self.running.index(sequence), self.running.pop()
        if last is not sequence:
            self.running[index] = last
            end = len(self.running)
            self.cache.copy_row(end, index, int(self.cache.cache_seqlens[end]))
        self.cache.cache_seqlens[len(self.running)] = 0
