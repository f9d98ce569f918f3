"""Beam search: keep the most likely whole texts rather than the most likely next token.

Each step continues every text of a beam by every token and keeps the best `beams` of all. Texts
that have ended are compared by log-probability over length to a power (Wu et al. 2016, section 7,
without the constants), because every token more makes a text less likely. On open-ended text the
result is dull (Holtzman et al. 2020); it is meant for short answers.
"""

from collections.abc import Iterable, Sequence

import torch

from ch03_gpt.generation import Context, check_prompts
from ch03_gpt.model import GPTModel

NEVER = float("-inf")


class _Search:
    """The texts that continue one prompt: `living` ones with their log-probabilities, and the
    best that `ended`.
    """

    def __init__(self, beams: int, length_penalty: float, stops: set[int]):
        self.length_penalty, self.stops = length_penalty, stops
        self.living: list[list[int]] = [[] for _ in range(beams)]
        # the beams begin as one text: only one of them may continue
        self.scores = [0.0] + [NEVER] * (beams - 1)
        self.ended: list[tuple[list[int], float]] = []
        self.length = 0
        self.over = False

    def _rated(self, score: float) -> float:
        return score / self.length**self.length_penalty

    def extend(self, candidates: list[tuple[float, int, int]]) -> None:
        """`candidates`: (log-probability, beam, token), the best first. Sets `parents`, the beam
        that each goes on.
        """
        self.length += 1
        beams, survivors = len(self.living), []
        for rank, (score, beam, token) in enumerate(candidates):
            if token not in self.stops:
                survivors.append((score, beam, token))
            elif rank < beams and score > NEVER:
                self.ended.append((self.living[beam], self._rated(score)))
        survivors = (survivors + [(NEVER, 0, 0)] * beams)[:beams]
        self.ended = sorted(self.ended, key=lambda text: -text[1])[:beams]
        self.parents = [beam for _, beam, _ in survivors]
        self.scores = [score for score, _, _ in survivors]
        self.living = [[*self.living[beam], token] for _, beam, token in survivors]
        self.over = len(self.ended) == beams and self._rated(self.scores[0]) <= self.ended[-1][1]

    def best(self, n: int) -> list[tuple[list[int], float]]:
        living = (
            []
            if self.over
            else [
                (text, self._rated(score))
                for text, score in zip(self.living, self.scores, strict=True)
                if score > NEVER
            ]
        )
        return sorted(self.ended + living, key=lambda text: -text[1])[:n]


def _check(
    model: GPTModel, prompts: Sequence[Sequence[int]], max_new_tokens: int, beams: int, results: int
) -> None:
    check_prompts(model, prompts)
    if max_new_tokens < 1:
        raise ValueError(f"max_new_tokens must be at least 1, not {max_new_tokens}")
    if not 1 <= beams <= model.config.vocab_size:
        raise ValueError(
            f"beams must be from 1 to the {model.config.vocab_size} tokens, not {beams}"
        )
    if not 1 <= results <= beams:
        raise ValueError(f"results must be from 1 to the {beams} beams, not {results}")
    longest = max(map(len, prompts)) + max_new_tokens
    if longest > model.config.context_length:
        raise ValueError(
            f"prompt and text have up to {longest} tokens, the model sees"
            f" {model.config.context_length}; ask for fewer"
        )


def beam_search(
    model: GPTModel,
    prompts: Sequence[Sequence[int]],
    max_new_tokens: int,
    *,
    beams: int = 4,
    length_penalty: float = 1.0,
    stop_ids: Iterable[int] = (),
    results: int = 1,
) -> list[list[tuple[list[int], float]]]:
    """Prompts of any lengths -> for each the best `results` of (new ids without the stop token,
    score), best first.

    The score is the sum of log-probabilities over (number of new tokens, the stop token among them)
    ** length_penalty. The search for a prompt ends when `beams` texts have ended and no living one
    is better than the worst of them. ValueError where prompt and text exceed the context.
    """
    _check(model, prompts, max_new_tokens, beams, results)
    was_training = model.training
    model.eval()
    try:
        with torch.inference_mode():
            searches = [_Search(beams, length_penalty, set(stop_ids)) for _ in prompts]
            context = Context(model, prompts, max_new_tokens, samples=beams)
            _extend(searches, context.logits, beams)
            for _ in range(max_new_tokens - 1):
                if all(search.over for search in searches):
                    break
                rows = [
                    p * beams + parent
                    for p, search in enumerate(searches)
                    for parent in search.parents
                ]
                context.reorder(rows)
                newest = [text[-1] for search in searches for text in search.living]
                context.append(torch.tensor(newest, device=model.device).unsqueeze(1))
                _extend(searches, context.logits, beams)
    finally:
        model.train(was_training)
    return [search.best(results) for search in searches]


def _extend(searches: list[_Search], logits: torch.Tensor, beams: int) -> None:
    """One step of every search that is not over, from the logits (P beams, V) of its living
    texts.
    """
    # (P, beams, 1)
    scores = torch.tensor([search.scores for search in searches], device=logits.device).unsqueeze(2)
    V = logits.shape[-1]
    totals = scores + logits.float().log_softmax(dim=-1).view(len(searches), beams, V)
    # `beams` are left even without all stop tokens
    enough = beams * (1 + max(1, len(searches[0].stops)))
    best = totals.flatten(1).topk(min(enough, beams * V))
    beam, token = (best.indices // V).tolist(), (best.indices % V).tolist()
    for search, *candidates in zip(searches, best.values.tolist(), beam, token, strict=True):
        if not search.over:
            search.extend(list(zip(*candidates, strict=True)))
