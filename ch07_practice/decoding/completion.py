"""The `complete` command: continue a text in the terminal, piece by piece, under a constraint if
one is given.
"""

import json
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from tyro.conf import Positional

from ch03_gpt import GPTModel, Sampler, SamplingParams, document_start, pick_device, stream_decode
from ch03_gpt.generation import check_prompts, decode_loop
from ch03_gpt.text_stream import check_stops
from ch07_practice.decoding.constrained import (
    Pattern,
    RegexConstraint,
    Vocabulary,
    choice_expression,
    json_expression,
)
from ch07_practice.decoding.speculative import PromptLookup, SpeculativeDecoder
from ch07_practice.load_model import open_model


@dataclass(frozen=True)
class OutputFormat:
    """What the text must match: at most one of these."""

    regex: str | None = None
    choices: Sequence[str] = ()
    json_schema: str | None = None  # the schema itself, or a file that contains it

    def expression(self) -> str | None:
        """The format as a regular expression; ValueError if there are several formats, or the
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
                raise ValueError(f"the JSON schema is not valid JSON: {error}") from error
        return self.regex


class Completer:
    """A model and its tokenizer, ready to continue texts."""

    def __init__(self, model: GPTModel, tokenizer):
        self.model, self.tokenizer = model, tokenizer

    def tokens(
        self,
        prompt: str,
        max_new_tokens: int,
        seed: int,
        output_format: OutputFormat,
        lookup: bool,
        **options,
    ) -> Iterator[int]:
        """The ids as they are generated; ValueError, before any work, if the request is invalid."""
        ids = document_start(self.tokenizer, prompt)
        check_prompts(self.model, [ids])
        if max_new_tokens < 1:
            raise ValueError(f"max_new_tokens must be at least 1, not {max_new_tokens}")
        generator = torch.Generator(self.model.device).manual_seed(seed)
        expression = output_format.expression()
        if lookup:
            if expression is not None:
                raise ValueError(
                    "speculative decoding does not support output formats; leave out --speculate"
                    " or the format"
                )
            decoder = SpeculativeDecoder(
                self.model,
                ids,
                max_new_tokens,
                PromptLookup(),
                generator=generator,
                stop_ids=[self.tokenizer.eot_id],
                **options,
            )
            return (token for ids in decoder for token in ids)
        constraint = None
        if expression is not None:
            constraint = RegexConstraint(
                Pattern(expression, Vocabulary(self.tokenizer)), max_new_tokens
            )
        sampler = Sampler(
            SamplingParams(**options),
            [ids],
            self.model.config.vocab_size,
            self.model.device,
            generator,
            None if constraint is None else [constraint],
        )
        return (int(chosen) for chosen in decode_loop(self.model, [ids], max_new_tokens, sampler))

    def show(self, prompt: str, tokens: Iterator[int], stops: Sequence[str]) -> dict:
        """Print prompt and continuation as they come; returns the text, the number of tokens and
        the times.
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
        for piece in stream_decode(counted(), self.tokenizer, stops):
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


def complete(
    prompt: Positional[str],
    max_new_tokens: int = 200,
    temperature: float = 0.8,
    top_k: int | None = None,
    top_p: float | None = None,
    min_p: float | None = None,
    repetition_penalty: float = 1.0,
    presence_penalty: float = 0.0,
    frequency_penalty: float = 0.0,
    stop: tuple[str, ...] = (),
    samples: int = 1,
    regex: str | None = None,
    choices: tuple[str, ...] = (),
    json_schema: str | None = None,
    speculate: Literal["no", "lookup"] = "no",
    model: str | None = None,
    weights: Literal["auto", "float32", "bfloat16", "int8", "int4"] = "auto",
    run: Path = Path("runs/default"),
    seed: int = 1337,
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto",
) -> dict:
    """Continue a text; the output appears in the terminal as it is generated.

    Args:
        prompt: How the text begins.
        max_new_tokens: Maximum number of new tokens. When prompt and output fill the context, the
            model continues from the newer half.
        temperature: 0 always takes the most likely token, 1 samples as the model predicts.
        top_k: Sample from this many most likely tokens.
        top_p: Sample from the smallest set of tokens whose probabilities add up to this.
        min_p: Sample from tokens whose probability is at least this share of the most likely
            token's.
        repetition_penalty: Above 1, tokens of prompt and output become less likely.
        presence_penalty: Subtracted from the logits of tokens in the output.
        frequency_penalty: Subtracted once for each occurrence in the output.
        stop: End before any of these strings.
        samples: How many texts to generate, one after the other.
        regex: The output must match this regular expression as a whole.
        choices: The output must be one of these.
        json_schema: The output must be JSON that satisfies this schema (a file, or the schema
            itself).
        speculate: lookup proposes tokens from the text so far and verifies several at once; the
            output has the same distribution.
        model: A checkpoint folder, gpt2 to gpt2-xl, a Hub repository or its folder; by default the
            run's own model, which chapter 4 trains now if it is missing.
        weights: Number format of the weights; auto takes bfloat16 where the device computes it
            fast.
        run: Folder of the run.
        seed: Seed of the first text; each further text adds 1.
        device: Where to compute; auto prefers a GPU.
    """
    if samples < 1:
        raise ValueError(f"--samples must be at least 1, not {samples}")
    options: dict[str, Any] = {
        "temperature": temperature,
        "top_k": top_k,
        "top_p": top_p,
        "min_p": min_p,
        "repetition_penalty": repetition_penalty,
        "presence_penalty": presence_penalty,
        "frequency_penalty": frequency_penalty,
    }
    # reject wrong options before the model is loaded
    SamplingParams(**options)
    check_stops(stop)
    output_format = OutputFormat(regex, choices, json_schema)
    output_format.expression()
    if not prompt:
        raise ValueError("the prompt is empty; pass the beginning of a text")
    completer = Completer(*open_model(run, model, weights, pick_device(device)))
    texts = []
    for number in range(samples):
        tokens = completer.tokens(
            prompt, max_new_tokens, seed + number, output_format, speculate == "lookup", **options
        )
        texts.append(completer.show(prompt, tokens, stop))
        speed = texts[-1]["tokens"] / texts[-1]["seconds"]
        print(f"({texts[-1]['tokens']} tokens, {speed:,.0f} tokens/s)\n", file=sys.stderr)
    return {"prompt": prompt, "texts": texts}
