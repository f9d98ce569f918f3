"""Speculative decoding: a drafter proposes several tokens cheaply, and the model verifies them all
in one pass (Leviathan et al. 2023).

Running the model on k tokens costs hardly more than on one, because its weights are read from
memory once either way. A token x proposed from the distribution q is accepted with probability
min(1, p(x) / q(x)), where p is the model's own distribution. The first rejected token is replaced
by a sample from max(0, p - q), normalized. The output is distributed exactly as p, whatever the
drafter; a bad drafter only costs time.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from ch03_gpt import GPTModel, Sampler, SamplingParams
from ch03_gpt.generation import check_prompts, prefill


def distribution(logits: Tensor, sampler: Sampler) -> Tensor:
    """(n, V) logits of one text -> the probabilities (n, V) that `sampler` draws from; one-hot if
    it is greedy.
    """
    filtered = sampler.filter(logits)
    if sampler.is_greedy:
        return F.one_hot(filtered.argmax(dim=-1), logits.shape[-1]).float()
    return filtered.softmax(dim=-1)


class Drafter(Protocol):
    def propose(self, text: Sequence[int], n: int) -> tuple[list[int], Tensor | None]:
        """Up to `n` ids that may follow `text`, and the distributions (n, V) that they were sampled
        from; None if they were not sampled. `text` extends the text of the previous call.
        """


class PromptLookup:
    """Proposes what followed the last occurrence of the same n-gram (Saxena 2023): free, and good
    for text that repeats itself or quotes its prompt.
    """

    def __init__(self, max_ngram: int = 3):
        self.max_ngram = max_ngram
        # n-gram -> the position behind its last occurrence
        self.after: dict[tuple[int, ...], int] = {}
        self.indexed = 0

    def propose(self, text: Sequence[int], n: int) -> tuple[list[int], None]:
        # index only the new tokens, so that the work per call does not grow with the text
        for end in range(self.indexed, len(text)):
            for length in range(1, min(self.max_ngram, end) + 1):
                self.after[tuple(text[end - length : end])] = end
        self.indexed = len(text)
        for length in range(min(self.max_ngram, len(text)), 0, -1):
            start = self.after.get(tuple(text[-length:]))
            if start is not None:
                return list(text[start : start + n]), None
        return [], None


class DraftModel:
    """Proposes with a smaller model of the same vocabulary and the same sampling settings."""

    def __init__(self, model: GPTModel, generator: torch.Generator | None = None, **options):
        self.model, self.generator = model.eval(), generator
        self.sampler = Sampler(
            SamplingParams(**options), [[]], model.config.vocab_size, model.device
        )
        self.cache = model.make_cache(1)
        self.length = 0  # of the text of the previous call
        # the previous proposals, which the cache holds behind that text
        self.cached_proposals: list[int] = []

    @torch.inference_mode()
    def propose(self, text: Sequence[int], n: int) -> tuple[list[int], Tensor]:
        accepted = 0
        while (
            accepted < len(self.cached_proposals)
            and text[self.length + accepted] == self.cached_proposals[accepted]
        ):
            accepted += 1
        valid = min(self.length + accepted, len(text) - 1)
        self.cache.truncate(valid)
        new, ids, probabilities = list(text[valid:]), [], []
        for _ in range(n):
            # (1, V)
            p = distribution(
                self.model.out_head(prefill(self.model, [new], self.cache)), self.sampler
            )
            new = torch.multinomial(p, 1, generator=self.generator)[0].tolist()
            ids += new
            probabilities.append(p)
        self.length, self.cached_proposals = len(text), ids[:-1]
        return ids, torch.cat(probabilities)


class SpeculativeDecoder:
    """Iterate over it for the ids that `model` generates after `prompt`, several at a time.

    It counts `rounds` (forward passes of the model), `proposed` and `accepted` tokens. `options`
    are the fields of `SamplingParams`, without penalties, which would change within a round.
    ValueError if prompt and output exceed the context.
    """

    def __init__(
        self,
        model: GPTModel,
        prompt: Sequence[int],
        max_new_tokens: int,
        drafter: Drafter,
        *,
        num_speculative_tokens: int = 4,
        stop_ids: Iterable[int] = (),
        generator: torch.Generator | None = None,
        **options,
    ):
        check_prompts(model, [prompt])
        if len(prompt) + max_new_tokens > model.config.context_length:
            raise ValueError(
                f"prompt and output have {len(prompt) + max_new_tokens} tokens, but the context"
                f" holds {model.config.context_length}; ask for fewer"
            )
        sampling = SamplingParams(**options)
        if sampling.has_penalties:
            raise ValueError(
                "penalties change with every token, but speculative decoding verifies several at"
                " once; leave the penalties out"
            )
        self.model = model.eval()
        self.text = list(prompt)
        self.drafter = drafter
        self.generator = generator
        self.end = len(prompt) + max_new_tokens
        self.num_speculative_tokens, self.stop_ids = num_speculative_tokens, set(stop_ids)
        self.sampler = Sampler(sampling, [prompt], model.config.vocab_size, model.device)
        self.cache = model.make_cache(1)
        self.rounds = self.proposed = self.accepted = 0

    def __iter__(self) -> Iterator[list[int]]:
        with torch.inference_mode():
            if len(self.text) > 1:
                prefill(self.model, [self.text[:-1]], self.cache)
        while len(self.text) < self.end:
            with torch.inference_mode():
                ids = self._round()
            stop = next((i for i, token in enumerate(ids) if token in self.stop_ids), None)
            self.text += ids
            if stop is not None:
                if stop:
                    yield ids[:stop]
                return
            yield ids

    def _round(self) -> list[int]:
        """Propose, verify, and return the accepted tokens with one more of the model's own."""
        n = min(self.num_speculative_tokens, self.end - len(self.text) - 1)
        proposals, q = self.drafter.propose(self.text, n) if n else ([], None)
        ids = torch.tensor([[self.text[-1], *proposals]], device=self.model.device)
        logits = self.model.out_head(self.model.hidden_states(ids, self.cache)[0])  # (n + 1, V)
        p = distribution(logits, self.sampler)
        if q is None:
            q = F.one_hot(ids[0, 1:], p.shape[-1]).float()
        accepted, next_p = self._verify(proposals, p, q)
        self.rounds += 1
        self.proposed += len(proposals)
        self.accepted += accepted
        self.cache.truncate(len(self.text) + accepted)
        next_token = int(torch.multinomial(next_p, 1, generator=self.generator))
        return [*proposals[:accepted], next_token]

    def _verify(self, proposals: list[int], p: Tensor, q: Tensor) -> tuple[int, Tensor]:
        """How many proposals are accepted, and the unnormalized distribution (V,) of the token
        behind them.
        """
        if not proposals:
            return 0, p[0]
        steps, tokens = torch.arange(len(proposals)), torch.tensor(proposals)
        ratios = (p[steps, tokens] / q[steps, tokens]).tolist()
        uniform = torch.rand(len(proposals), generator=self.generator, device=p.device).tolist()
        for accepted, (ratio, number) in enumerate(zip(ratios, uniform, strict=True)):
            if number >= ratio:
                return accepted, (p[accepted] - q[accepted]).clamp(min=0)
        return len(proposals), p[-1]
