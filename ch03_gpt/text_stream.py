"""Incremental detokenization: whole characters only, and nothing of a stop string.

A token of a byte-level vocabulary may end in the middle of a character, and a stop string may begin
in one token and end in a later one. So the end of the text is withheld until it is certain.
"""

import codecs
from collections.abc import Iterable, Iterator, Sequence

import torch

from ch01_text import BPETokenizer
from ch03_gpt.generation import check_prompts, decode_loop
from ch03_gpt.model import GPTModel
from ch03_gpt.sampling import Constraint, Sampler, SamplingParams


def check_stops(stops: Sequence[str]) -> None:
    """ValueError if a stop string is empty."""
    if not all(stops):
        raise ValueError("a stop string is empty, so every text would end at once; leave it out")


def partial_stop_length(text: str, stops: Sequence[str]) -> int:
    """Length of the longest suffix of `text` that is a prefix of one of `stops`.

    >>> partial_stop_length("The en", ["end.", "never"])
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
    """Decodes ids as they come: what `push` and `finish` return, joined, is the decoded text up to
    the first stop string.
    """

    def __init__(self, tokenizer, stops: Sequence[str] = ()):
        check_stops(stops)
        self.tokenizer, self.stops = tokenizer, stops
        self.utf8 = codecs.getincrementaldecoder("utf-8")(errors="replace")
        # previous id: word tokenizers choose the space from the pair
        self.previous: list[int] = []
        self.withheld = ""
        self.stopped = False

    def _decode(self, token: int) -> str:
        if isinstance(self.tokenizer, BPETokenizer):
            return self.utf8.decode(self.tokenizer.decode_bytes([token]))
        first = self.tokenizer.decode(self.previous)
        both = self.tokenizer.decode([*self.previous, token])
        self.previous = [token]
        return both[len(first) :]

    def _release(self, certain: bool) -> str:
        found = [start for start in map(self.withheld.find, self.stops) if start >= 0]
        if found:
            self.stopped, end = True, min(found)
        else:
            end = len(self.withheld) - (
                0 if certain else partial_stop_length(self.withheld, self.stops)
            )
        text, self.withheld = self.withheld[:end], "" if found else self.withheld[end:]
        return text

    def push(self, token: int) -> str:
        """Return the text that is certain now; "" once a stop string was completed."""
        if self.stopped:
            return ""
        self.withheld += self._decode(token)
        return self._release(certain=False)

    def finish(self) -> str:
        """Return what was withheld; an incomplete character becomes U+FFFD."""
        if self.stopped:
            return ""
        self.withheld += self.utf8.decode(b"", final=True)
        return self._release(certain=True)


def stream_decode(tokens: Iterable[int], tokenizer, stops: Sequence[str] = ()) -> Iterator[str]:
    """Yield the text of ids as they come, until `<|endoftext|>`, one of `stops`, or the last id."""
    text = TextStream(tokenizer, stops)
    for token in tokens:
        if token == tokenizer.eot_id:
            break
        if piece := text.push(token):
            yield piece
        if text.stopped:
            return
    if piece := text.finish():
        yield piece


def document_start(tokenizer, prompt: str) -> list[int]:
    """The ids of a document that begins with `prompt`; ValueError if it is empty."""
    if not prompt:
        raise ValueError("the prompt is empty; give the beginning of the text")
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
    """Yield the continuation of a document that begins with `prompt`, piece by piece, until the
    document ends, one of `stops` is completed, or `max_new_tokens` are generated. ValueError,
    before any work, if an argument is invalid.
    """
    check_stops(stops)
    ids = document_start(tokenizer, prompt)
    check_prompts(model, [ids])
    sampler = Sampler(
        SamplingParams(**options),
        [ids],
        model.config.vocab_size,
        model.device,
        generator,
        None if constraint is None else [constraint],
    )
    tokens = (int(chosen) for chosen in decode_loop(model, [ids], max_new_tokens, sampler))
    return stream_decode(tokens, tokenizer, stops)
