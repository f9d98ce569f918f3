"""Constrained decoding: only tokens that can still lead to a valid text may be written, whatever
the model prefers.

A regular expression is an automaton over bytes (regular.py), a vocabulary a set of byte strings. In
each state the tokens are walked through the automaton along a trie, so that common beginnings are
tried once (Willard & Louf 2023). A token is allowed if a valid end is still near enough for the
tokens that are left: so every text is valid, also one that runs into its limit.
"""

import json
import re
import time
from collections.abc import Sequence

import torch
from torch import Tensor

from ch01_text import BPETokenizer, WordTokenizer
from ch07_practice.regular import NOTHING, after, derivative, matches_empty, parse


def token_bytes(tokenizer) -> dict[int, bytes]:
    """Id -> the bytes that the token writes, of all tokens but the special ones. ValueError for
    words, which are joined by rules of their own.
    """
    if isinstance(tokenizer, BPETokenizer):
        return dict(enumerate(tokenizer.tokens))
    if isinstance(tokenizer, WordTokenizer):
        raise ValueError(
            "a word tokenizer cannot be constrained: what stands between its words is not in the"
            " tokens"
        )
    return {
        i: token.encode()
        for i, token in enumerate(tokenizer.tokens)
        if token not in tokenizer.special_tokens
    }


class Vocabulary:
    """The tokens of a tokenizer as a trie: nested {byte: node}, where the ids that end at a node
    are under None; and the smallest of them, `units`: the bytes, and what has bytes that are no
    tokens. A text ends with `end_id`, by default <|endoftext|>; a chat model's message has an end
    of its own.
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
    """A regular expression for a vocabulary; its states are shared by all texts that are written
    with it.

    `seconds`: how long they may take to explore; ValueError beyond.
    """

    def __init__(self, expression: str, vocabulary: Vocabulary, seconds: float = float("inf")):
        self.expression, self.vocabulary, self.seconds = expression, vocabulary, seconds
        self.start = parse(expression)
        self.distances: dict[tuple, float] = {}
        self.moves: dict[tuple, dict[tuple, Tensor]] = {}

    def tokens_after(self, state: tuple) -> dict[tuple, Tensor]:
        """The states that one token leads to, and the ids that lead there."""
        if state not in self.moves:
            found: dict[tuple, list[int]] = {}
            stack = [(state, self.vocabulary.trie)]
            while stack:
                here, node = stack.pop()
                for byte, child in node.items():
                    if byte is None:
                        found.setdefault(here, []).extend(child)
                    elif (there := derivative(here, byte)) != NOTHING:
                        stack.append((there, child))
            self.moves[state] = {there: torch.tensor(ids) for there, ids in found.items()}
        return self.moves[state]

    def distance(self, state: tuple) -> float:
        """How many of the vocabulary's smallest tokens complete the text; infinite where none
        can.
        """
        if state not in self.distances:
            self._explore(state)
        return self.distances[state]

    def _explore(self, start: tuple) -> None:
        """Find the distances of all states that can be reached from `start`, backwards from the
        ends.
        """
        end = time.monotonic() + self.seconds
        before: dict[tuple, set[tuple]] = {start: set()}
        queue = [start]
        for state in queue:
            if time.monotonic() > end:
                raise ValueError(
                    f"the pattern takes longer than {self.seconds} s to understand, {len(queue):,}"
                    " states so far; repeat less, or any number of times"
                )
            for unit in self.vocabulary.units:
                there = after(state, unit)
                if there == NOTHING:
                    continue
                if there not in before:
                    before[there] = set()
                    queue.append(there)
                before[there].add(state)
        nearest = [state for state in queue if matches_empty(state)]
        self.distances |= dict.fromkeys(queue, float("inf")) | dict.fromkeys(nearest, 0)
        for state in nearest:
            for earlier in before[state]:
                if self.distances[earlier] == float("inf"):
                    self.distances[earlier] = self.distances[state] + 1
                    nearest.append(earlier)


class RegexConstraint:
    """Lets one text match a pattern from beginning to end; `<|endoftext|>` ends it.

    `max_new_tokens` must be what the text is written with. ValueError where no text of the
    vocabulary matches, or none that short.
    """

    def __init__(self, pattern: Pattern, max_new_tokens: int):
        self.pattern, self.state, self.left = pattern, pattern.start, max_new_tokens
        self.over = False
        nearest = pattern.distance(pattern.start)
        if nearest == float("inf"):
            raise ValueError(f"no text of this vocabulary matches {pattern.expression!r}")
        if nearest > max_new_tokens:
            raise ValueError(
                f"a text that matches {pattern.expression!r} may need {nearest} tokens; allow that"
                " many"
            )

    def allowed(self) -> Tensor:
        """(V,) booleans."""
        mask = torch.zeros(self.pattern.vocabulary.n_vocab, dtype=torch.bool)
        if not self.over:
            for state, ids in self.pattern.tokens_after(self.state).items():
                if self.pattern.distance(state) <= self.left - 1:
                    mask[ids] = True
        mask[self.pattern.vocabulary.end_id] = self.over or matches_empty(self.state)
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
    """A regular expression for one of `choices`."""
    if not choices:
        raise ValueError("there is nothing to choose from; give at least one choice")
    return "|".join(map(re.escape, choices))


def json_expression(schema: dict) -> str:
    """A regular expression for JSON that obeys a JSON schema, made by outlines-core; ValueError
    where it cannot.
    """
    try:
        from outlines_core.json_schema import build_regex_from_schema
    except ImportError as error:
        raise ValueError("JSON schemas need outlines-core: pip install outlines-core") from error
    try:
        return build_regex_from_schema(json.dumps(schema))
    except (ValueError, TypeError) as error:
        raise ValueError(f"this JSON schema cannot be used: {error}") from error
