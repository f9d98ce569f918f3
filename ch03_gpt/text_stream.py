"""From a stream of tokens to a stream of text: whole characters only, and nothing of a stop string.

A token of a byte-level vocabulary may end in the middle of a character, and a stop string may begin
in one token and end in a later one. Both are solved by holding back the little that is not certain
yet.
"""

import codecs
from collections.abc import Iterable, Iterator, Sequence

import torch

from ch01_text import BPETokenizer
from ch03_gpt.generation import check_prompts, write
from ch03_gpt.model import GPTModel
from ch03_gpt.sampling import Constraint, Sampler, Sampling


def check_stops(stops: Sequence[str]) -> None:
    """ValueError where a stop string is empty."""
    if not all(stops):
        raise ValueError("a stop string is empty; every text would end before it begins")


def held_back(text: str, stops: Sequence[str]) -> int:
    """Length of the longest end of `text` with which one of `stops` might begin.

    >>> held_back("The en", ["end.", "never"])
    2
    """
    longest = max(map(len, stops), default=1) - 1
    return next(
        (
            n
            for n in range(min(longest, len(text)), 0, -1)
            if any(stop.startswith(text[-n:]) for stop in stops)
        ),
        0,
    )


class TextStream:
    """Turns ids into text as they come: the pieces of `feed` and `finish` joined are the decoded
    ids, up to the first stop string.
    """

    def __init__(self, tokenizer, stops: Sequence[str] = ()):
        check_stops(stops)
        self.tokenizer, self.stops = tokenizer, stops
        self.utf8 = codecs.getincrementaldecoder("utf-8")(errors="replace")
        # the id before, where its neighbour decides about the space between them
        self.last: list[int] = []
        self.held = ""
        self.stopped = False

    def _decode(self, token: int) -> str:
        if isinstance(self.tokenizer, BPETokenizer):
            return self.utf8.decode(self.tokenizer.decode_bytes([token]))
        before = self.tokenizer.decode(self.last)
        both = self.tokenizer.decode([*self.last, token])
        self.last = [token]
        return both[len(before) :]

    def _release(self, certain: bool) -> str:
        found = [place for place in map(self.held.find, self.stops) if place >= 0]
        if found:
            self.stopped, end = True, min(found)
        else:
            end = len(self.held) - (0 if certain else held_back(self.held, self.stops))
        text, self.held = self.held[:end], "" if found else self.held[end:]
        return text

    def feed(self, token: int) -> str:
        """The text that is certain now; nothing once a stop string has come."""
        if self.stopped:
            return ""
        self.held += self._decode(token)
        return self._release(certain=False)

    def finish(self) -> str:
        """What was held back; half a character becomes U+FFFD."""
        if self.stopped:
            return ""
        self.held += self.utf8.decode(b"", final=True)
        return self._release(certain=True)


def pieces(tokens: Iterable[int], tokenizer, stops: Sequence[str] = ()) -> Iterator[str]:
    """Ids as they come -> their text, piece by piece, until `<|endoftext|>`, one of `stops`, or
    the last id.
    """
    text = TextStream(tokenizer, stops)
    for token in tokens:
        if token == tokenizer.eot_id:
            break
        if piece := text.feed(token):
            yield piece
        if text.stopped:
            return
    if piece := text.finish():
        yield piece


def document_start(tokenizer, prompt: str) -> list[int]:
    """The ids of a document that begins with `prompt`; ValueError where it is empty."""
    if not prompt:
        raise ValueError("the prompt is empty; say how the text begins")
    return [tokenizer.eot_id, *tokenizer.encode(prompt)]


def stream_text(
    model: GPTModel,
    tokenizer,
    prompt: str,
    max_new_tokens: int,
    *,
    stops: Sequence[str] = (),
    generator: torch.Generator | None = None,
    constraint: Constraint | None = None,
    **options,
) -> Iterator[str]:
    """Yield the continuation of a document that begins with `prompt`, piece by piece, until it
    ends, one of `stops` comes, or `max_new_tokens` are written. ValueError, before any work, where
    something is wrong with the request.
    """
    check_stops(stops)
    ids = document_start(tokenizer, prompt)
    check_prompts(model, [ids])
    sampler = Sampler(
        Sampling(**options),
        [ids],
        model.config.vocab_size,
        model.device,
        generator,
        constraint and [constraint],
    )
    tokens = (chosen.item() for chosen in write(model, [ids], max_new_tokens, sampler))
    return pieces(tokens, tokenizer, stops)
