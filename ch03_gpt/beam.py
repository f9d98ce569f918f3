"""Beam search: keep the most likely whole texts rather than the most likely next token.

Each step extends every active text by every token and keeps the best `num_beams` of all. Finished
texts are compared by log-probability over length to a power (Wu et al. 2016, section 7, without the
constants), because every further token makes a text less likely. On open-ended text the result is
dull (Holtzman et al. 2020); it is meant for short answers.
"""

from collections.abc import Iterable, Sequence

import torch

from ch03_gpt.generation import DecodingState, check_prompts
from ch03_gpt.model import GPTModel

NEVER = float("-inf")


class _Search:
    """The continuations of one prompt: `active` ones with their log-probabilities in `scores`, and
    the best `finished` ones.
    """

    def __init__(self, num_beams: int, length_penalty: float, stops: set[int]):
        self.length_penalty, self.stops = length_penalty, stops
        self.active: list[list[int]] = [[] for _ in range(num_beams)]
        # the beams begin as one text: only one of them may continue
        self.scores = [0.0] + [NEVER] * (num_beams - 1)
        self.finished: list[tuple[list[int], float]] = []
        self.length = 0
        self.done = False

    def _penalized(self, score: float) -> float:
        return score / self.length**self.length_penalty

    def extend(self, candidates: list[tuple[float, int, int]]) -> None:
        """`candidates`: (log-probability, beam, token), the best first. Sets `parents`, the beam
        that each active text continues.
        """
        self.length += 1
        num_beams, survivors = len(self.active), []
        for rank, (score, beam, token) in enumerate(candidates):
            if token not in self.stops:
                survivors.append((score, beam, token))
            elif rank < num_beams and score > NEVER:
                self.finished.append((self.active[beam], self._penalized(score)))
        survivors = (survivors + [(NEVER, 0, 0)] * num_beams)[:num_beams]
        self.finished = sorted(self.finished, key=lambda text: -text[1])[:num_beams]
        self.parents = [beam for _, beam, _ in survivors]
        self.scores = [score for score, _, _ in survivors]
        self.active = [[*self.active[beam], token] for _, beam, token in survivors]
        best_active = self._penalized(self.scores[0])
        self.done = len(self.finished) == num_beams and best_active <= self.finished[-1][1]

    def best(self, n: int) -> list[tuple[list[int], float]]:
        texts = list(self.finished)
        if not self.done:
            texts += [
                (text, self._penalized(score))
                for text, score in zip(self.active, self.scores, strict=True)
                if score > NEVER
            ]
        return sorted(texts, key=lambda text: -text[1])[:n]


def _check(
    model: GPTModel,
    prompts: Sequence[Sequence[int]],
    max_new_tokens: int,
    num_beams: int,
    num_return_sequences: int,
) -> None:
    check_prompts(model, prompts)
    if max_new_tokens < 1:
        raise ValueError(f"max_new_tokens must be at least 1, not {max_new_tokens}")
    if not 1 <= num_beams <= model.config.vocab_size:
        raise ValueError(
            f"num_beams must be from 1 to the {model.config.vocab_size} tokens, not {num_beams}"
        )
    if not 1 <= num_return_sequences <= num_beams:
        raise ValueError(
            f"num_return_sequences must be from 1 to the {num_beams} beams, not"
            f" {num_return_sequences}"
        )
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
    num_beams: int = 4,
    length_penalty: float = 1.0,
    stop_ids: Iterable[int] = (),
    num_return_sequences: int = 1,
) -> list[list[tuple[list[int], float]]]:
    """Prompts of any lengths -> for each the best `num_return_sequences` of (new ids without the
    stop token, score), best first.

    The score is the sum of log-probabilities over (number of new tokens, the stop token included)
    ** length_penalty. The search for a prompt ends when `num_beams` texts are finished and no
    active one is better than the worst of them. ValueError if prompt and text exceed the context.
    """
    _check(model, prompts, max_new_tokens, num_beams, num_return_sequences)
    was_training = model.training
    model.eval()
    try:
        with torch.inference_mode():
            searches = [_Search(num_beams, length_penalty, set(stop_ids)) for _ in prompts]
            state = DecodingState(model, prompts, max_new_tokens, samples=num_beams)
            _extend(searches, state.logits, num_beams)
            for _ in range(max_new_tokens - 1):
                if all(search.done for search in searches):
                    break
                rows = [
                    p * num_beams + parent
                    for p, search in enumerate(searches)
                    for parent in search.parents
                ]
                state.reorder(rows)
                newest = [text[-1] for search in searches for text in search.active]
                state.append(torch.tensor(newest, device=model.device).unsqueeze(1))
                _extend(searches, state.logits, num_beams)
    finally:
        model.train(was_training)
    return [search.best(num_return_sequences) for search in searches]


def _extend(searches: list[_Search], logits: torch.Tensor, num_beams: int) -> None:
    """One step of every unfinished search, from the logits (P x num_beams, V) of its active
    texts.
    """
    # (P, num_beams, 1)
    scores = torch.tensor([search.scores for search in searches], device=logits.device).unsqueeze(2)
    V = logits.shape[-1]
    totals = scores + logits.float().log_softmax(dim=-1).view(len(searches), num_beams, V)
    # at least `num_beams` candidates remain even if all others are stop tokens
    enough = num_beams * (1 + max(1, len(searches[0].stops)))
    best = totals.flatten(1).topk(min(enough, num_beams * V))
    beam, token = (best.indices // V).tolist(), (best.indices % V).tolist()
    for search, *candidates in zip(searches, best.values.tolist(), beam, token, strict=True):
        if not search.done:
            search.extend(list(zip(*candidates, strict=True)))
