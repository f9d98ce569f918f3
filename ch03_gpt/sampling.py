"""From logits to the next token: penalties, temperature, top-k, top-p, min-p, and sampling.

Every function takes a whole batch, with one setting for all rows or a column (B, 1) of settings.
They are applied in Transformers' order. Sources: top-k (Fan et al. 2018), top-p (Holtzman et
al. 2020), min-p (Nguyen et al. 2024), repetition penalty (Keskar et al. 2019, section 4.1).
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor

EXCLUDED = float("-inf")  # a logit whose probability is 0


@dataclass(frozen=True)
class SamplingParams:
    """How the next tokens of one text are sampled. ValueError if a setting is out of range or
    contradicts another.
    """

    temperature: float = 0.0  # 0: greedy, the most likely token; 1: the model's own distribution
    top_k: int | None = None  # keep the k most likely tokens
    top_p: float | None = None  # keep the fewest tokens whose probabilities reach p
    min_p: float | None = None  # keep tokens at least p times as likely as the most likely one
    # logits of tokens in the prompt or output: divided by it if positive, otherwise multiplied
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0  # subtracted once from the logit of every token in the output
    frequency_penalty: float = 0.0  # subtracted for every occurrence in the output
    logit_bias: Mapping[int, float] = field(default_factory=dict)  # added to a token's logit
    suppress_tokens: Collection[int] = ()  # tokens that are never sampled

    def __post_init__(self):
        # not `temperature < 0`, which NaN would pass
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
                f"{filters[0]} filters what is sampled, but temperature 0 is greedy; set a"
                f" temperature or leave {filters[0]} out"
            )
        if both := sorted(set(self.logit_bias) & set(self.suppress_tokens)):
            raise ValueError(f"token {both[0]} is suppressed and has a logit bias; choose one")

    @property
    def has_penalties(self) -> bool:
        """Whether the choice depends on the tokens before."""
        return (self.repetition_penalty, self.presence_penalty, self.frequency_penalty) != (
            1.0,
            0.0,
            0.0,
        )


class Constraint(Protocol):
    """Decides after every token which ones may follow."""

    def allowed(self) -> Tensor:
        """(V,) booleans, at least one of them true, on the CPU."""

    def accept(self, token: int) -> None:
        """`token` was sampled."""


def penalize_repetition(logits: Tensor, seen: Tensor, penalty: float | Tensor) -> Tensor:
    """(B, V), seen or not (B, V) -> (B, V): lower the logits of seen tokens, whatever their sign.

    >>> logits, seen = torch.tensor([[2.0, -2.0, 1.0]]), torch.tensor([[True, True, False]])
    >>> penalize_repetition(logits, seen, 2.0)
    tensor([[ 1., -4.,  1.]])
    """
    # dividing a negative logit would raise it
    return torch.where(seen, torch.where(logits < 0, logits * penalty, logits / penalty), logits)


def top_p_filter(logits: Tensor, p: float | Tensor) -> Tensor:
    """(B, V) -> (B, V): keep the fewest most likely tokens whose probabilities reach `p`.

    >>> top_p_filter(torch.log(torch.tensor([[0.5, 0.3, 0.2]])), 0.7).exp()
    tensor([[0.5000, 0.3000, 0.0000]])
    """
    # From the least likely up, a token goes if it and all less likely ones have at most 1 - p: the
    # others then reach p. The most likely one always stays.
    ascending, order = logits.sort(dim=-1)
    cumulative = ascending.softmax(dim=-1).cumsum(dim=-1)
    excluded = cumulative <= 1 - p
    excluded[:, -1] = False
    # scatter puts each mark back at its token's id
    return logits.masked_fill(excluded.scatter(1, order, excluded), EXCLUDED)


def min_p_filter(logits: Tensor, p: float | Tensor) -> Tensor:
    """(B, V) -> (B, V): keep tokens at least `p` times as likely as the most likely one."""
    probabilities = logits.softmax(dim=-1)
    return logits.masked_fill(
        probabilities < p * probabilities.amax(dim=-1, keepdim=True), EXCLUDED
    )


def sample(logits: Tensor, uniform: Tensor) -> Tensor:
    """(B, V) logits, one uniform number in [0, 1) per row (B, 1) -> (B, 1) int64 tokens,
    distributed as the softmax.

    The number is looked up in the row's cumulative distribution, so no row depends on the others.
    """
    cumulative = logits.softmax(dim=-1).cumsum(dim=-1)
    total = cumulative[:, -1:]
    # Rounded sums do not end at exactly 1, so the number is scaled to the total, and kept below it
    # even if the product is rounded up. right=True finds the first sum above the number, which a
    # token of probability 0 cannot be: its sum is that of the token before.
    below = torch.minimum(uniform * total, torch.nextafter(total, torch.zeros_like(total)))
    return torch.searchsorted(cumulative, below, right=True)


def log_probabilities(
    logits: Tensor, chosen: Tensor, top: int = 0
) -> tuple[Tensor, Tensor, Tensor]:
    """(B, V) logits, (B, 1) tokens -> their log-probabilities (B, 1), and those of the `top` most
    likely tokens with their ids (B, top); at temperature 1, before any filter.
    """
    log_p = logits.float().log_softmax(dim=-1)
    best = log_p.topk(top)
    return log_p.gather(1, chosen), best.values, best.indices


class Sampler:
    """Samples a token for every row of a batch; rows may differ in all their settings.

    `params`: one for all rows or one per row. `prompts`, `outputs`: each row's prompt and the ids
    generated since, for the penalties. `generators`: None, one for all rows, or one per row.
    `constraints`: one per row, or None.
    """

    def __init__(
        self,
        params: SamplingParams | Sequence[SamplingParams],
        prompts: Sequence[Sequence[int]],
        n_vocab: int,
        device: torch.device | str = "cpu",
        generators: torch.Generator | Sequence | None = None,
        constraints: Sequence[Constraint | None] | None = None,
        outputs: Sequence[Sequence[int]] | None = None,
    ):
        # Settings are columns (B, 1), broadcast over (B, V) logits; None: no row needs the step.
        B = len(prompts)
        self.params = [params] * B if isinstance(params, SamplingParams) else list(params)
        self.generators, self.device = generators, device
        self.constraints = constraints if constraints and any(constraints) else None
        self.do_sample = self._column_unless_all(False, [p.temperature > 0 for p in self.params])
        # a greedy row is divided by 1 rather than by 0; `do_sample` keeps it greedy
        self.temperature = self._column_unless_all(1.0, [p.temperature or 1.0 for p in self.params])
        ks = [min(p.top_k or n_vocab, n_vocab) for p in self.params]
        self.k, self.largest_k = self._column_unless_all(n_vocab, ks), max(ks)
        self.top_p = self._column_unless_all(1.0, [p.top_p or 1.0 for p in self.params])
        self.min_p = self._column_unless_all(0.0, [p.min_p or 0.0 for p in self.params])
        self.bias = self._bias(n_vocab)
        self.output_counts = None
        if any(p.has_penalties for p in self.params):
            self.repetition = self._column([p.repetition_penalty for p in self.params])
            self.presence = self._column([p.presence_penalty for p in self.params])
            self.frequency = self._column([p.frequency_penalty for p in self.params])
            self.prompt_mask = self._count(prompts, n_vocab) > 0  # (B, V)
            self.output_counts = self._count(outputs or [[] for _ in prompts], n_vocab)  # (B, V)

    @property
    def is_greedy(self) -> bool:
        """Whether every row takes its most likely token."""
        return self.do_sample is None

    def _column(self, values: list) -> Tensor:
        """A value per row, (B, 1)."""
        return torch.tensor(values, device=self.device).unsqueeze(1)

    def _column_unless_all(self, neutral: float, values: list) -> Tensor | None:
        """(B, 1), or None if every row has the neutral value."""
        return None if all(value == neutral for value in values) else self._column(values)

    def _bias(self, n_vocab: int) -> Tensor | None:
        rows = [
            dict(p.logit_bias) | dict.fromkeys(p.suppress_tokens, EXCLUDED) for p in self.params
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
            raise ValueError("every token is suppressed; leave at least one")
        return bias

    def _count(self, texts: Sequence[Sequence[int]], n_vocab: int) -> Tensor:
        rows = [
            torch.tensor(list(text), dtype=torch.long).bincount(minlength=n_vocab) for text in texts
        ]
        return torch.stack(rows).float().to(self.device)

    def filter(self, logits: Tensor) -> Tensor:
        """(B, V) logits -> (B, V) float32 logits of the distribution to sample from; excluded
        tokens have -inf.
        """
        # bfloat16 has 8 significant bits, too few to sum probabilities over a vocabulary
        logits = logits.float()
        if self.output_counts is not None:
            written = self.output_counts > 0
            logits = penalize_repetition(logits, self.prompt_mask | written, self.repetition)
            logits = logits - self.presence * written - self.frequency * self.output_counts
        if self.bias is not None:
            logits = logits + self.bias
        if self.constraints is not None:
            logits = logits.masked_fill(~self._allowed(self.constraints, logits), EXCLUDED)
        # before the filters: top-p and min-p look at the probabilities after temperature
        if self.temperature is not None:
            logits = logits / self.temperature
        if self.k is not None:
            # Tokens that tie with the k-th all stay, as in transformers. Which of them `topk`
            # returns must not decide: that depends on the other rows' k.
            # one k may stand for all rows (verifying a draft samples several rows of one text)
            k = self.k.expand(len(logits), 1)
            threshold = logits.topk(self.largest_k).values.gather(1, k - 1)  # (B, 1)
            logits = logits.masked_fill(logits < threshold, EXCLUDED)
        if self.top_p is not None:
            logits = top_p_filter(logits, self.top_p)
        return logits if self.min_p is None else min_p_filter(logits, self.min_p)

    def _allowed(self, constraints: Sequence[Constraint | None], logits: Tensor) -> Tensor:
        everything = torch.ones(logits.shape[-1], dtype=torch.bool)
        rows = [constraint.allowed() if constraint else everything for constraint in constraints]
        return torch.stack(rows).to(logits.device)

    def _uniform(self, B: int) -> Tensor:
        if self.generators is None or isinstance(self.generators, torch.Generator):
            return torch.rand(B, 1, generator=self.generators, device=self.device)
        # a generator for each row: what it draws does not depend on the other rows of the batch
        numbers = [
            torch.rand(1, 1, generator=generator, device=generator.device)
            for generator in self.generators
        ]
        return torch.cat(numbers).to(self.device)

    def sample(self, logits: Tensor) -> Tensor:
        """(B, V) logits -> (B, 1) int64 tokens, which are counted as output."""
        logits = self.filter(logits)
        if self.do_sample is None:  # every row is greedy
            chosen = logits.argmax(dim=-1, keepdim=True)
        else:
            chosen = sample(logits, self._uniform(len(logits)))
            if not self.do_sample.all():
                chosen = torch.where(self.do_sample, chosen, logits.argmax(dim=-1, keepdim=True))
        if self.output_counts is not None:
            ones = torch.ones_like(chosen, dtype=self.output_counts.dtype)
            self.output_counts.scatter_add_(1, chosen, ones)
        if self.constraints is not None:
            for constraint, token in zip(self.constraints, chosen.flatten().tolist(), strict=True):
                if constraint:
                    constraint.accept(token)
        return chosen
