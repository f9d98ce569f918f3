"""From logits to the next token: penalties, temperature, top-k, top-p, min-p, and the draw.

Every function works on a whole batch, with one setting for all rows or a column (B, 1) of them, and
in the order that Transformers applies them. Sources: top-k (Fan et al. 2018), top-p (Holtzman et
al. 2020), min-p (Nguyen et al. 2024), repetition penalty (Keskar et al. 2019, section 4.1).
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor

EXCLUDED = float("-inf")


@dataclass(frozen=True)
class Sampling:
    """How the next tokens of one text are chosen. ValueError where settings are out of range or
    contradict.
    """

    temperature: float = 0.0  # 0: always the most likely token; 1: the model's own distribution
    top_k: int | None = None  # only the k most likely tokens
    top_p: float | None = None  # only the fewest tokens whose probabilities reach p
    min_p: float | None = None  # only tokens at least p times as likely as the most likely one
    # logits of tokens in prompt or text: divided if positive, else multiplied
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0  # taken off the logit of every token written so far
    frequency_penalty: float = 0.0  # taken off as often as the token was written
    logit_bias: Mapping[int, float] = field(default_factory=dict)  # added to a token's logit
    banned: Collection[int] = ()  # tokens that are never written

    def __post_init__(self):
        if not self.temperature >= 0:
            raise ValueError(f"temperature must be 0 (greedy) or more, not {self.temperature}")
        if self.top_k is not None and self.top_k < 1:
            raise ValueError(
                f"top_k must be at least 1, not {self.top_k}; leave it out to keep every token"
            )
        for name in ("top_p", "min_p"):
            value = getattr(self, name)
            if value is not None and not 0 < value <= 1:
                raise ValueError(
                    f"{name} must be in (0, 1], not {value}; leave it out to switch it off"
                )
        if not self.repetition_penalty > 0:
            raise ValueError(
                f"repetition_penalty must be positive, not {self.repetition_penalty}; 1 switches"
                " it off"
            )
        filters = [name for name in ("top_k", "top_p", "min_p") if getattr(self, name) is not None]
        if self.temperature == 0 and filters:
            raise ValueError(
                f"{filters[0]} says how to draw, temperature 0 not to draw; set a temperature or"
                f" leave {filters[0]} out"
            )
        if both := sorted(set(self.logit_bias) & set(self.banned)):
            raise ValueError(f"token {both[0]} is banned and has a logit bias; choose one")

    @property
    def counts(self) -> bool:
        """Whether it matters what was written before."""
        return (self.repetition_penalty, self.presence_penalty, self.frequency_penalty) != (
            1.0,
            0.0,
            0.0,
        )


class Constraint(Protocol):
    """Says after every token which ones may follow."""

    def allowed(self) -> Tensor:
        """(V,) booleans, at least one of them true, on the CPU."""

    def accept(self, token: int) -> None:
        """`token` was written."""


def penalize_repetition(logits: Tensor, seen: Tensor, penalty: float | Tensor) -> Tensor:
    """(B, V), seen or not (B, V) -> (B, V): tokens already seen lose, whatever their logit's sign.

    >>> logits, seen = torch.tensor([[2.0, -2.0, 1.0]]), torch.tensor([[True, True, False]])
    >>> penalize_repetition(logits, seen, 2.0)
    tensor([[ 1., -4.,  1.]])
    """
    return torch.where(seen, torch.where(logits < 0, logits * penalty, logits / penalty), logits)


def keep_top_p(logits: Tensor, p: float | Tensor) -> Tensor:
    """(B, V) -> (B, V): keep the fewest most likely tokens whose probabilities reach `p`.

    >>> keep_top_p(torch.log(torch.tensor([[0.5, 0.3, 0.2]])), 0.7).exp()
    tensor([[0.5000, 0.3000, 0.0000]])
    """
    ascending, order = logits.sort(dim=-1)
    cumulative = ascending.softmax(dim=-1).cumsum(dim=-1)
    excluded = cumulative <= 1 - p
    excluded[:, -1] = False
    return logits.masked_fill(excluded.scatter(1, order, excluded), EXCLUDED)


def keep_min_p(logits: Tensor, p: float | Tensor) -> Tensor:
    """(B, V) -> (B, V): keep tokens at least `p` times as likely as the most likely one."""
    probabilities = logits.softmax(dim=-1)
    return logits.masked_fill(
        probabilities < p * probabilities.amax(dim=-1, keepdim=True), EXCLUDED
    )


def draw(logits: Tensor, uniform: Tensor) -> Tensor:
    """(B, V) logits, a number in [0, 1) for each row (B, 1) -> (B, 1) int64 tokens, distributed as
    the softmax.

    One number a row, looked up in the cumulative distribution: what a row draws does not depend on
    the others.
    """
    cumulative = logits.softmax(dim=-1).cumsum(dim=-1)
    total = cumulative[:, -1:]
    below = torch.minimum(uniform * total, torch.nextafter(total, torch.zeros_like(total)))
    return torch.searchsorted(cumulative, below, right=True)


def log_probabilities(
    logits: Tensor, chosen: Tensor, top: int = 0
) -> tuple[Tensor, Tensor, Tensor]:
    """(B, V) logits, (B, 1) tokens -> their log-probabilities (B, 1), and those of the `top` most
    likely tokens with their ids (B, top), before any filter and at temperature 1.
    """
    log_p = logits.float().log_softmax(dim=-1)
    best = log_p.topk(top)
    return log_p.gather(1, chosen), best.values, best.indices


class Sampler:
    """Chooses a token for every row of a batch; rows may differ in all their settings.

    `options`: one for all rows or one a row. `prompts`, `written`: ids that each row began with and
    has written since, for the penalties. `generators`: None, one for all rows, or one a row.
    `constraints`: one a row, or None.
    """

    def __init__(
        self,
        options: Sampling | Sequence[Sampling],
        prompts: Sequence[Sequence[int]],
        n_vocab: int,
        device: torch.device | str = "cpu",
        generators: torch.Generator | Sequence | None = None,
        constraints: Sequence[Constraint | None] | None = None,
        written: Sequence[Sequence[int]] | None = None,
    ):
        B = len(prompts)
        self.options = [options] * B if isinstance(options, Sampling) else list(options)
        self.generators, self.device = generators, device
        self.constraints = constraints if constraints and any(constraints) else None
        self.drawn = self._column([option.temperature > 0 for option in self.options], False)
        self.temperature = self._column([option.temperature or 1.0 for option in self.options], 1.0)
        ks = [min(option.top_k or n_vocab, n_vocab) for option in self.options]
        self.k, self.largest_k = self._column(ks, n_vocab), max(ks)
        self.top_p = self._column([option.top_p or 1.0 for option in self.options], 1.0)
        self.min_p = self._column([option.min_p or 0.0 for option in self.options], 0.0)
        self.bias = self._bias(n_vocab)
        self.counts = None
        if any(option.counts for option in self.options):
            self.repetition = self._column(
                [option.repetition_penalty for option in self.options], None
            )
            self.presence = self._column([option.presence_penalty for option in self.options], None)
            self.frequency = self._column(
                [option.frequency_penalty for option in self.options], None
            )
            self.prompted = self._count(prompts, n_vocab) > 0  # (B, V)
            self.counts = self._count(written or [[] for _ in prompts], n_vocab)  # (B, V)

    def _column(self, values: list, neutral) -> Tensor | None:
        """(B, 1), or None where every row has the neutral value."""
        if all(value == neutral for value in values):
            return None
        return torch.tensor(values, device=self.device).unsqueeze(1)

    def _bias(self, n_vocab: int) -> Tensor | None:
        rows = [
            dict(option.logit_bias) | dict.fromkeys(option.banned, EXCLUDED)
            for option in self.options
        ]
        if not any(rows):
            return None
        bias = torch.zeros(len(rows), n_vocab, device=self.device)
        for row, values in enumerate(rows):
            if beyond := [i for i in values if not 0 <= i < n_vocab]:
                raise ValueError(f"there is no token {beyond[0]}; ids go from 0 to {n_vocab - 1}")
            if values:
                bias[row, list(values)] = torch.tensor(
                    [float(value) for value in values.values()], device=self.device
                )
        if (bias == EXCLUDED).all(dim=1).any():
            raise ValueError("every token is banned; leave one to write")
        return bias

    def _count(self, texts: Sequence[Sequence[int]], n_vocab: int) -> Tensor:
        rows = [
            torch.tensor(list(text), dtype=torch.long).bincount(minlength=n_vocab) for text in texts
        ]
        return torch.stack(rows).float().to(self.device)

    def filter(self, logits: Tensor) -> Tensor:
        """(B, V) logits -> (B, V) float32 logits of the distribution to draw from; excluded
        tokens have -inf.
        """
        logits = logits.float()
        if self.counts is not None:
            seen = self.prompted | (self.counts > 0)
            logits = penalize_repetition(logits, seen, self.repetition)
            logits = logits - self.presence * (self.counts > 0) - self.frequency * self.counts
        if self.bias is not None:
            logits = logits + self.bias
        if self.constraints is not None:
            logits = logits.masked_fill(~self._allowed(logits), EXCLUDED)
        if self.temperature is not None:
            logits = logits / self.temperature
        if self.largest_k < logits.shape[-1]:  # then all else happens among the k most likely ones
            few, ids = logits.topk(self.largest_k)  # (B, k)
            few = few.masked_fill(
                torch.arange(self.largest_k, device=logits.device) >= self.k, EXCLUDED
            )
            return torch.full_like(logits, EXCLUDED).scatter(1, ids, self._filter_shares(few))
        if self.k is not None:
            threshold = logits.sort(dim=-1, descending=True).values.gather(1, self.k - 1)
            logits = logits.masked_fill(logits < threshold, EXCLUDED)
        return self._filter_shares(logits)

    def _filter_shares(self, logits: Tensor) -> Tensor:
        if self.top_p is not None:
            logits = keep_top_p(logits, self.top_p)
        return logits if self.min_p is None else keep_min_p(logits, self.min_p)

    def _allowed(self, logits: Tensor) -> Tensor:
        everything = torch.ones(logits.shape[-1], dtype=torch.bool)
        rows = [
            constraint.allowed() if constraint else everything for constraint in self.constraints
        ]
        return torch.stack(rows).to(logits.device)

    def _uniform(self, B: int) -> Tensor:
        if self.generators is None or isinstance(self.generators, torch.Generator):
            return torch.rand(B, 1, generator=self.generators, device=self.device)
        numbers = [
            torch.rand(1, 1, generator=generator, device=generator.device)
            for generator in self.generators
        ]
        return torch.cat(numbers).to(self.device)

    def choose(self, logits: Tensor) -> Tensor:
        """(B, V) logits -> (B, 1) int64 tokens, which then count as written."""
        logits = self.filter(logits)
        if self.drawn is None:
            chosen = logits.argmax(dim=-1, keepdim=True)
        else:
            chosen = draw(logits, self._uniform(len(logits)))
            if not self.drawn.all():
                chosen = torch.where(self.drawn, chosen, logits.argmax(dim=-1, keepdim=True))
        if self.counts is not None:
            self.counts.scatter_add_(1, chosen, torch.ones_like(chosen, dtype=self.counts.dtype))
        if self.constraints is not None:
            for constraint, token in zip(self.constraints, chosen.flatten().tolist(), strict=True):
                if constraint:
                    constraint.accept(token)
        return chosen
