"""Constrained decoding: at each step, only tokens that can still lead to a valid text are allowed.

A regular expression is an automaton over bytes (`regex_derivatives`), and a token is a byte string.
In each state, all tokens are run through the automaton along a trie, so that shared prefixes are
tried once (Willard & Louf 2023). A token is allowed only if the text can still be completed within
the remaining tokens. So every text is valid, even one that reaches its length limit.
"""

import json
import re
import time
from collections.abc import Sequence

import torch
from torch import Tensor

from ch01_text import BPETokenizer, WordTokenizer
from ch07_practice.decoding.regex_derivatives import NOTHING, after, derivative, nullable, parse


def token_bytes(tokenizer) -> dict[int, bytes]:
    """Id -> the bytes of every token that is not special. ValueError for a word tokenizer, which
    joins words by rules of its own.
    """
    if isinstance(tokenizer, BPETokenizer):
        return {i: token for token, i in tokenizer.ranks.items()}
    if isinstance(tokenizer, WordTokenizer):
        raise ValueError(
            "a word tokenizer cannot be constrained: its tokens do not contain the spaces between"
            " words"
        )
    return {
        i: token.encode()
        for i, token in enumerate(tokenizer.tokens)
        if token not in tokenizer.special_tokens
    }


class Vocabulary:
    """The tokens of a tokenizer as a trie: nested {byte: node}, with the ids of the tokens that end
    at a node under None.

    `units` are the shortest tokens: single bytes, and tokens with a byte that is no token of its
    own. They measure how many tokens a completion may need. `end_id` ends a text, by default
    <|endoftext|>; a chat model's messages end with another token.
    """

    def __init__(self, tokenizer, end_id: int | None = None):
        self.n_vocab = tokenizer.n_vocab
        self.end_id = tokenizer.eot_id if end_id is None else end_id
        tokens = token_bytes(tokenizer)
        self.trie: dict = {}
        for i, text in tokens.items():
            node = self.trie
            for byte in text:
                node = node.setdefault(byte, {})
            node.setdefault(None, []).append(i)
        single = {text for text in tokens.values() if len(text) == 1}
        self.units = sorted(
            single
            | {text for text in tokens.values() if any(bytes([b]) not in single for b in text)}
        )


class Pattern:
    """A regular expression compiled for a vocabulary. All texts under the same pattern share its
    states.

    ValueError if exploring the states takes longer than `seconds`.
    """

    def __init__(self, expression: str, vocabulary: Vocabulary, seconds: float = float("inf")):
        self.expression, self.vocabulary, self.seconds = expression, vocabulary, seconds
        self.start = parse(expression)
        self.distances: dict[tuple, float] = {}
        self.moves: dict[tuple, dict[tuple, Tensor]] = {}

    def tokens_after(self, state: tuple) -> dict[tuple, Tensor]:
        """State after one more token -> the ids (n,) of the tokens that lead to it."""
        if state not in self.moves:
            ids_by_state: dict[tuple, list[int]] = {}
            stack = [(state, self.vocabulary.trie)]
            while stack:
                here, node = stack.pop()
                for byte, child in node.items():
                    if byte is None:
                        ids_by_state.setdefault(here, []).extend(child)
                    elif (there := derivative(here, byte)) != NOTHING:
                        stack.append((there, child))
            self.moves[state] = {there: torch.tensor(ids) for there, ids in ids_by_state.items()}
        return self.moves[state]

    def distance(self, state: tuple) -> float:
        """The least number of `units` that complete the text from this state; infinite if none
        do.
        """
        if state not in self.distances:
            self._explore(state)
        return self.distances[state]

    def _explore(self, start: tuple) -> None:
        """Set the distances of all states reachable from `start`: explore forwards, then search
        breadth-first backwards from the accepting states.
        """
        end = time.monotonic() + self.seconds
        before: dict[tuple, set[tuple]] = {start: set()}
        queue = [start]
        for state in queue:
            if time.monotonic() > end:
                raise ValueError(
                    f"the pattern takes longer than {self.seconds} s to compile ({len(queue):,}"
                    " states so far); use smaller repetition counts, or * instead of a count"
                )
            for unit in self.vocabulary.units:
                there = after(state, unit)
                if there == NOTHING:
                    continue
                if there not in before:
                    before[there] = set()
                    queue.append(there)
                before[there].add(state)
        nearest = [state for state in queue if nullable(state)]
        self.distances |= dict.fromkeys(queue, float("inf")) | dict.fromkeys(nearest, 0)
        for state in nearest:
            for earlier in before[state]:
                if self.distances[earlier] == float("inf"):
                    self.distances[earlier] = self.distances[state] + 1
                    nearest.append(earlier)


class RegexConstraint:
    """Makes one text match a pattern as a whole; `<|endoftext|>` ends it.

    `max_new_tokens` is the limit that the text is generated with. ValueError if no text of the
    vocabulary matches, or none within that limit.
    """

    def __init__(self, pattern: Pattern, max_new_tokens: int):
        self.pattern, self.state, self.left = pattern, pattern.start, max_new_tokens
        self.over = False
        nearest = pattern.distance(pattern.start)
        if nearest == float("inf"):
            raise ValueError(f"no text of this vocabulary matches {pattern.expression!r}")
        if nearest > max_new_tokens:
            raise ValueError(
                f"a text that matches {pattern.expression!r} may need {nearest} tokens, more than"
                f" the {max_new_tokens} allowed; raise the limit"
            )

    def allowed(self) -> Tensor:
        """(V,) booleans: which tokens may come next."""
        mask = torch.zeros(self.pattern.vocabulary.n_vocab, dtype=torch.bool)
        if not self.over:
            for state, ids in self.pattern.tokens_after(self.state).items():
                if self.pattern.distance(state) <= self.left - 1:
                    mask[ids] = True
        mask[self.pattern.vocabulary.end_id] = self.over or nullable(self.state)
        return mask

    def accept(self, token: int) -> None:
        if self.over or token == self.pattern.vocabulary.end_id:
            self.over = True
            return
        self.state = next(
            state for state, ids in self.pattern.tokens_after(self.state).items() if token in ids
        )
        self.left -= 1


def choice_expression(choices: Sequence[str]) -> str:
    """A regular expression that matches exactly the `choices`."""
    if not choices:
        raise ValueError("there is nothing to choose from; pass at least one choice")
    return "|".join(map(re.escape, choices))


def json_expression(schema: dict) -> str:
    """A regular expression for the JSON texts that satisfy a schema, built by outlines-core.
    ValueError if outlines-core cannot express it.
    """
    try:
        from outlines_core.json_schema import build_regex_from_schema
    except ImportError as error:
        raise ValueError("JSON schemas need outlines-core: pip install outlines-core") from error
    try:
        return build_regex_from_schema(json.dumps(schema))
    except (ValueError, TypeError) as error:
        raise ValueError(f"this JSON schema cannot be used: {error}") from error
