"""Continue a text as a command does: piece by piece to the terminal, under whatever constraint
was asked for.
"""

import json
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from ch03_gpt import GPTModel, Sampler, Sampling, document_start, pieces
from ch03_gpt.generation import check_prompts, write
from ch03_gpt.text_stream import check_stops
from ch07_practice.constrained import (
    Pattern,
    RegexConstraint,
    Vocabulary,
    choice_expression,
    json_expression,
)
from ch07_practice.speculative import PromptLookup, Speculation


@dataclass(frozen=True)
class Format:
    """What a text must look like: at most one of these."""

    regex: str | None = None
    choices: Sequence[str] = ()
    json_schema: str | None = None  # the schema itself or a file with it

    def expression(self) -> str | None:
        """The regular expression for it; ValueError where two formats are asked for, or the
        schema is not JSON.
        """
        given = [value for value in (self.regex, self.choices, self.json_schema) if value]
        if len(given) > 1:
            raise ValueError("choose one of --regex, --choices and --json-schema")
        if self.choices:
            return choice_expression(self.choices)
        if self.json_schema:
            text = self.json_schema
            if not text.lstrip().startswith("{"):
                text = Path(text).read_text(encoding="utf-8")
            try:
                return json_expression(json.loads(text))
            except json.JSONDecodeError as error:
                raise ValueError(f"the JSON schema is no JSON: {error}") from error
        return self.regex


class Completer:
    """A model and its tokenizer, ready to continue texts."""

    def __init__(self, model: GPTModel, tokenizer):
        self.model, self.tokenizer = model, tokenizer

    def tokens(
        self, prompt: str, max_new_tokens: int, seed: int, form: Format, lookup: bool, **options
    ) -> Iterator[int]:
        """Ids as they are written; ValueError, before any work, where something is wrong with
        the request.
        """
        ids = document_start(self.tokenizer, prompt)
        check_prompts(self.model, [ids])
        if max_new_tokens < 1:
            raise ValueError(f"max_new_tokens must be at least 1, not {max_new_tokens}")
        generator = torch.Generator(self.model.device).manual_seed(seed)
        expression = form.expression()
        if lookup:
            if expression is not None:
                raise ValueError(
                    "guesses are not checked against a format; leave out --speculate or the format"
                )
            rounds = Speculation(
                self.model,
                ids,
                max_new_tokens,
                PromptLookup(),
                generator=generator,
                stop_ids=[self.tokenizer.eot_id],
                **options,
            )
            return (token for ids in rounds for token in ids)
        constraint = None
        if expression is not None:
            constraint = RegexConstraint(
                Pattern(expression, Vocabulary(self.tokenizer)), max_new_tokens
            )
        sampler = Sampler(
            Sampling(**options),
            [ids],
            self.model.config.vocab_size,
            self.model.device,
            generator,
            constraint and [constraint],
        )
        return (chosen.item() for chosen in write(self.model, [ids], max_new_tokens, sampler))

    def show(self, prompt: str, tokens: Iterator[int], stops: Sequence[str]) -> dict:
        """Write prompt and continuation to the terminal as they come; returns text, count and
        speed.
        """
        check_stops(stops)
        started = first = time.perf_counter()
        n = 0

        def counted() -> Iterator[int]:
            nonlocal n, first
            for token in tokens:
                n += 1
                first = time.perf_counter() if n == 1 else first
                yield token

        sys.stdout.write(prompt)
        text = ""
        for piece in pieces(counted(), self.tokenizer, stops):
            text += piece
            sys.stdout.write(piece)
            sys.stdout.flush()
        print()
        seconds = time.perf_counter() - started
        return {
            "text": text,
            "tokens": n,
            "seconds": seconds,
            "first_token_seconds": first - started,
        }
