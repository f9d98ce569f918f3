"""Continuous batching: requests join and leave the batch between steps, so that none waits for the
longest (Yu et al. 2022, Orca).

Each request has a row of one key/value cache. A step admits waiting requests to free rows in the
order of their arrival, reads at most `prefill` tokens of their prompts, and then writes one token
for every request whose prompt is
read: long prompts never hold up those who are writing. What another row has read already of the
    same prompt is copied.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import count

import torch
from torch import Tensor

from ch02_attention import KVCache
from ch03_gpt import Constraint, GPTModel, Sampler, Sampling
from ch03_gpt.capability import single_row_kernels
from ch03_gpt.generation import check_prompts, read
from ch03_gpt.sampling import log_probabilities


@dataclass(eq=False)
class Request:
    """What to write, and what has been written: `ids` grows until `finish_reason` says why it
    ended.
    """

    prompt: Sequence[int]
    max_new_tokens: int
    sampling: Sampling = field(default_factory=Sampling)
    stop_ids: Sequence[int] = ()
    seed: int = 0
    constraint: Constraint | None = None
    # how many of the most likely tokens to report beside the chosen one
    logprobs: int | None = None
    ids: list[int] = field(default_factory=list)  # without the stop token
    # log-probabilities of each id
    found: list[tuple[float, dict[int, float]]] = field(default_factory=list)
    finish_reason: str | None = None  # "stop", "length", "cancelled"

    def __post_init__(self):
        if self.max_new_tokens < 1:
            raise ValueError(f"max_new_tokens must be at least 1, not {self.max_new_tokens}")
        self.generator = torch.Generator().manual_seed(self.seed)


def _n_common(a: Sequence[int], b: Sequence[int]) -> int:
    """How many tokens two texts have in common from the beginning on."""
    return next(
        (i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b))
    )


@dataclass(eq=False)
class _Row:
    """A row of the cache and the request in it: tokens that it holds, and tokens still to be
    read.
    """

    request: Request
    arrival: int
    unread: list[int]
    held: list[int] = field(default_factory=list)


class Engine:
    """Writes for many requests at once: `submit` them, and call `step` until they are finished.

    `rows`: how many are written at a time. `prefill`: prompt tokens read in one step, of all
    requests together. A text that fills the context goes on with the newer half of it, as in
    `ch03_gpt.generate`.
    """

    def __init__(
        self, model: GPTModel, rows: int = 32, prefill: int = 256, cache: KVCache | None = None
    ):
        self.model, self.n_rows, self.prefill = model.eval(), rows, prefill
        self.cache = model.make_cache(rows) if cache is None else cache
        self.rows: list[_Row] = []
        self.waiting: deque[Request] = deque()
        self.arrivals = count()
        # whom `sampler` chooses for; it is made anew when they change
        self.sampled: list[_Row] = []
        self.sampler: Sampler | None = None

    def check(self, request: Request) -> None:
        """ValueError where a request cannot be served."""
        check_prompts(self.model, [request.prompt])
        Sampler(request.sampling, [request.prompt], self.model.config.vocab_size)

    def submit(self, request: Request) -> Request:
        """Queue a request; ValueError, at once, where it cannot be served."""
        self.check(request)
        self.waiting.append(request)
        return request

    def reset(self) -> None:
        """Forget all requests, after a step that failed half-way."""
        self.rows, self.sampled, self.sampler = [], [], None
        self.waiting.clear()
        self.cache.lengths[:] = 0

    def cancel(self, request: Request) -> None:
        """Take a request out, whether it waits or writes; its row is free for the next step."""
        if request in self.waiting:
            self.waiting.remove(request)
        for row in [row for row in self.rows if row.request is request]:
            self._leave(row)
        request.finish_reason = request.finish_reason or "cancelled"

    @property
    def busy(self) -> bool:
        return bool(self.rows or self.waiting)

    def finish(self) -> None:
        """Step until every request is finished."""
        while self.busy:
            self.step()

    @torch.inference_mode()
    def step(self) -> list[Request]:
        """Read some prompt tokens, write one token each; returns the requests that wrote one or
        ended.
        """
        while self.waiting and len(self.rows) < self.n_rows:
            request = self.waiting.popleft()
            self.rows.append(_Row(request, next(self.arrivals), list(request.prompt)))
        writing = [row for row in self.rows if not row.unread]
        logits = self._read_prompts() | self._predict(writing)
        return self._write([row for row in self.rows if row in logits], logits)

    def _read_prompts(self) -> dict[_Row, Tensor]:
        """Read up to `prefill` tokens, the earliest requests first; logits of those whose prompt
        is read.
        """
        logits, left = {}, self.prefill
        for row in sorted(self.rows, key=lambda row: row.arrival):
            if not row.unread or left == 0:
                continue
            if not row.held:
                self._copy_common(row)
            new, row.unread = row.unread[:left], row.unread[left:]
            index = self.rows.index(row)
            hidden = read(self.model, [new], self.cache.rows(index, index + 1))
            row.held += new
            left -= len(new)
            if not row.unread:
                logits[row] = self.model.out_head(hidden)[0]
        return logits

    def _copy_common(self, row: _Row) -> None:
        """Take over from another row what both have in common from the beginning on, but for the
        last token.
        """
        if self.cache.n_slots < self.cache.max_length:
            return  # a bounded cache has forgotten its beginning
        lengths = [_n_common(other.held, row.unread[:-1]) for other in self.rows]
        if length := max(lengths):
            self.cache.copy_row(lengths.index(length), self.rows.index(row), length)
            row.held, row.unread = row.unread[:length], row.unread[length:]

    def _predict(self, writing: list[_Row]) -> dict[_Row, Tensor]:
        """Logits after the newest token of each row that writes; the others' places in the batch
        stay idle.
        """
        if not writing:
            return {}
        newest = [[row.request.ids[-1] if row in writing else 0] for row in self.rows]
        used, counts = self.cache.rows(0, len(self.rows)), [row in writing for row in self.rows]
        with single_row_kernels(len(self.rows), self.model.tok_emb.weight.dtype):
            hidden = self.model.hidden_states(
                torch.tensor(newest, device=self.model.device), used, counts
            )
            predictions = self.model.out_head(hidden[:, -1])
        for row in writing:
            row.held.append(row.request.ids[-1])
        return {
            row: prediction
            for row, prediction in zip(self.rows, predictions, strict=True)
            if row in writing
        }

    def _write(self, rows: list[_Row], logits: dict[_Row, Tensor]) -> list[Request]:
        """Choose a token for each of `rows`; those who have finished leave."""
        if not rows:
            return []
        requests = [row.request for row in rows]
        if rows != self.sampled:
            self.sampled = rows
            self.sampler = Sampler(
                [r.sampling for r in requests],
                [r.prompt for r in requests],
                self.model.config.vocab_size,
                self.model.device,
                [r.generator for r in requests],
                [r.constraint for r in requests],
                written=[r.ids for r in requests],
            )
        predictions = torch.stack([logits[row] for row in rows])
        chosen = self.sampler.choose(predictions)
        wanted = [r.logprobs for r in requests if r.logprobs is not None]
        found = (
            [x.tolist() for x in log_probabilities(predictions, chosen, max(wanted))]
            if wanted
            else None
        )
        for i, (row, token) in enumerate(zip(rows, chosen.flatten().tolist(), strict=True)):
            request = row.request
            if token in request.stop_ids:
                request.finish_reason = "stop"
            else:
                request.ids.append(token)
                if request.logprobs is not None:
                    best = list(zip(found[2][i], found[1][i], strict=True))[: request.logprobs]
                    request.found.append((found[0][i][0], dict(best)))
                if len(request.ids) == request.max_new_tokens:
                    request.finish_reason = "length"
            if request.finish_reason:
                self._leave(row)
            elif len(row.held) == self.cache.max_length:
                limit = self.cache.max_length
                row.held, row.unread = [], [*row.held, token][-(limit - limit // 2) :]
                self.cache.lengths[self.rows.index(row)] = 0
        return requests

    def _leave(self, row: _Row) -> None:
        """Free a row; the last one moves into its place, so that the rows in use stay together."""
        index, last = self.rows.index(row), self.rows.pop()
        if last is not row:
            self.rows[index] = last
            self.cache.copy_row(len(self.rows), index, int(self.cache.lengths[len(self.rows)]))
        self.cache.lengths[len(self.rows)] = 0
