"""Speculative decoding: guess several tokens cheaply, let the model check them all in one pass
(Leviathan et al. 2023).

Reading k guesses costs the model hardly more than reading one token, because either way its weights
are streamed through the processor once. A guess x drawn from q is kept with probability min(1, p(x)
/ q(x)), where p is the model's own distribution; the first one that is not kept is replaced by a
draw from max(0, p - q), normalised. What comes out is distributed exactly as p, whoever guesses; a
bad guesser only costs time.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from ch03_gpt import GPTModel, Sampler, Sampling
from ch03_gpt.generation import check_prompts, read


def distribution(logits: Tensor, sampler: Sampler) -> Tensor:
    """(n, V) logits of one text -> the probabilities (n, V) that its next tokens are drawn with;
    greedy: 0 and 1.
    """
    filtered = sampler.filter(logits)
    if sampler.drawn is None:
        return F.one_hot(filtered.argmax(dim=-1), logits.shape[-1]).float()
    return filtered.softmax(dim=-1)


class Guesser(Protocol):
    def guess(self, text: Sequence[int], n: int) -> tuple[list[int], Tensor | None]:
        """Up to `n` ids that may follow `text`, and the probabilities (n, V) that they were drawn
        with; None where they were not drawn. `text` is the text of the last call and more.
        """


class PromptLookup:
    """Guesses that what followed the last tokens earlier in the text follows again (Saxena 2023):
    free, and good for text that repeats itself or quotes its prompt.
    """

    def __init__(self, longest: int = 3):
        self.longest = longest
        # where the text went on after these tokens the last time
        self.after: dict[tuple[int, ...], int] = {}
        self.indexed = 0

    def guess(self, text: Sequence[int], n: int) -> tuple[list[int], None]:
        # only what is new: no work that grows with the text
        for end in range(self.indexed, len(text)):
            for length in range(1, min(self.longest, end) + 1):
                self.after[tuple(text[end - length : end])] = end
        self.indexed = len(text)
        for length in range(min(self.longest, len(text)), 0, -1):
            start = self.after.get(tuple(text[-length:]))
            if start is not None:
                return list(text[start : start + n]), None
        return [], None


class DraftModel:
    """Guesses with a smaller model of the same vocabulary, which draws with the same settings."""

    def __init__(self, model: GPTModel, generator: torch.Generator | None = None, **options):
        self.model, self.generator = model.eval(), generator
        self.sampler = Sampler(Sampling(**options), [[]], model.config.vocab_size, model.device)
        self.cache = model.make_cache(1)
        # the guesses that the cache holds after the text of the last call
        self.read_ids: list[int] = []
        self.length = 0  # of that text

    @torch.inference_mode()
    def guess(self, text: Sequence[int], n: int) -> tuple[list[int], Tensor]:
        right = 0
        while right < len(self.read_ids) and text[self.length + right] == self.read_ids[right]:
            right += 1
        held = min(self.length + right, len(text) - 1)
        self.cache.truncate(held)
        new, ids, probabilities = list(text[held:]), [], []
        for _ in range(n):
            # (1, V)
            p = distribution(self.model.out_head(read(self.model, [new], self.cache)), self.sampler)
            new = torch.multinomial(p, 1, generator=self.generator)[0].tolist()
            ids += new
            probabilities.append(p)
        self.length, self.read_ids = len(text), ids[:-1]
        return ids, torch.cat(probabilities)


class Speculation:
    """Iterate over it for the ids that `model` writes after `prompt`, some at a time.

    Counts `rounds` (passes of the model), `guessed` and `kept` guesses. `options` are the fields of
    `Sampling` but the penalties, which would change from guess to guess. ValueError where prompt
    and text exceed the context.
    """

    def __init__(
        self,
        model: GPTModel,
        prompt: Sequence[int],
        max_new_tokens: int,
        guesser: Guesser,
        *,
        n_guesses: int = 4,
        stop_ids: Iterable[int] = (),
        generator: torch.Generator | None = None,
        **options,
    ):
        check_prompts(model, [prompt])
        if len(prompt) + max_new_tokens > model.config.context_length:
            raise ValueError(
                f"prompt and text have {len(prompt) + max_new_tokens} tokens, the model sees "
                f"{model.config.context_length}; ask for fewer"
            )
        sampling = Sampling(**options)
        if sampling.counts:
            raise ValueError(
                "speculative decoding checks several tokens at once, so penalties cannot count"
                " them; leave the penalties out"
            )
        self.model = model.eval()
        self.text = list(prompt)
        self.guesser = guesser
        self.generator = generator
        self.end = len(prompt) + max_new_tokens
        self.n_guesses, self.stops = n_guesses, set(stop_ids)
        self.sampler = Sampler(sampling, [prompt], model.config.vocab_size, model.device)
        self.cache = model.make_cache(1)
        self.rounds = self.guessed = self.kept = 0

    def __iter__(self) -> Iterator[list[int]]:
        with torch.inference_mode():
            if len(self.text) > 1:
                read(self.model, [self.text[:-1]], self.cache)
        while len(self.text) < self.end:
            with torch.inference_mode():
                ids = self._round()
            stop = next((i for i, token in enumerate(ids) if token in self.stops), None)
            self.text += ids
            if stop is not None:
                if stop:
                    yield ids[:stop]
                return
            yield ids

    def _round(self) -> list[int]:
        """Let the guesser guess, read the guesses, keep the right ones and one token more."""
        room = self.end - len(self.text) - 1
        guesses, q = (
            self.guesser.guess(self.text, min(self.n_guesses, room)) if room else ([], None)
        )
        ids = torch.tensor([[self.text[-1], *guesses]], device=self.model.device)
        logits = self.model.out_head(self.model.hidden_states(ids, self.cache)[0])  # (n + 1, V)
        p = distribution(logits, self.sampler)
        if q is None:
            q = F.one_hot(ids[0, 1:], p.shape[-1]).float()
        kept, rest = self._check(guesses, p, q)
        self.rounds, self.guessed, self.kept = (
            self.rounds + 1,
            self.guessed + len(guesses),
            self.kept + kept,
        )
        self.cache.truncate(len(self.text) + kept)
        return [*guesses[:kept], torch.multinomial(rest, 1, generator=self.generator).item()]

    def _check(self, guesses: list[int], p: Tensor, q: Tensor) -> tuple[int, Tensor]:
        """How many of the guesses are kept, and the probabilities (V,) of the token after them."""
        if not guesses:
            return 0, p[0]
        steps, drawn = torch.arange(len(guesses)), torch.tensor(guesses)
        ratios = (p[steps, drawn] / q[steps, drawn]).tolist()
        uniform = torch.rand(len(guesses), generator=self.generator, device=p.device).tolist()
        for kept, (ratio, number) in enumerate(zip(ratios, uniform, strict=True)):
            if number >= ratio:
                return kept, (p[kept] - q[kept]).clamp(min=0)
        return len(guesses), p[-1]
