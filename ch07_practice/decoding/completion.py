"""The `complete` command: continue a text in the terminal, piece by piece, under a constraint if
one is given.
"""

import json
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import KW_ONLY, asdict, dataclass
from pathlib import Path
from typing import Annotated, Literal

import torch
from tyro.conf import Positional, arg

from ch01_text.run import check_positive
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


@dataclass(frozen=True)
class CompletionConfig:
    """How to continue a text. ValueError if a setting is out of range or contradicts another."""

    # Maximum number of new tokens. When prompt and output fill the context, the model continues
    # from the newer half.
    max_new_tokens: int = 200
    # 0 always takes the most likely token, 1 samples as the model predicts.
    temperature: float = 0.8
    # Sample from this many most likely tokens.
    top_k: int | None = None
    # Sample from the smallest set of tokens whose probabilities add up to this.
    top_p: float | None = None
    # End before any of these strings.
    stop: tuple[str, ...] = ()
    # How many texts to generate, one after the other.
    samples: int = 1
    # Seed of the first text; each further text adds 1.
    seed: int = 1337

    _: KW_ONLY  # the everyday flags stand above, the others below

    # Sample from tokens whose probability is at least this share of the most likely token's.
    min_p: float | None = None
    # Above 1, tokens of prompt and output become less likely.
    repetition_penalty: float = 1.0
    # Subtracted from the logits of tokens in the output.
    presence_penalty: float = 0.0
    # Subtracted once for each occurrence in the output.
    frequency_penalty: float = 0.0
    # The output must match this regular expression as a whole.
    regex: str | None = None
    # The output must be one of these.
    choices: tuple[str, ...] = ()
    # The output must be JSON that satisfies this schema (a file, or the schema itself).
    json_schema: str | None = None
    # lookup proposes tokens from the text so far and verifies several at once; the output has the
    # same distribution.
    speculate: Literal["no", "lookup"] = "no"

    def __post_init__(self):
        check_positive(self, "max_new_tokens", "samples")
        check_stops(self.stop)
        self.sampling_params()
        if self.expression() is not None and self.speculate != "no":
            raise ValueError(
                "speculative decoding does not support output formats; leave out --speculate or the"
                " format"
            )

    def sampling_params(self) -> SamplingParams:
        return SamplingParams(
            temperature=self.temperature,
            top_k=self.top_k,
            top_p=self.top_p,
            min_p=self.min_p,
            repetition_penalty=self.repetition_penalty,
            presence_penalty=self.presence_penalty,
            frequency_penalty=self.frequency_penalty,
        )

    def expression(self) -> str | None:
        """The regular expression that the output must match, if any."""
        return OutputFormat(self.regex, self.choices, self.json_schema).expression()


class Completer:
    """A model and its tokenizer, ready to continue texts."""

    def __init__(self, model: GPTModel, tokenizer):
        self.model, self.tokenizer = model, tokenizer

    def tokens(self, prompt: str, config: CompletionConfig, seed: int) -> Iterator[int]:
        """The ids as they are generated; ValueError, before any work, if the request is invalid."""
        ids = document_start(self.tokenizer, prompt)
        check_prompts(self.model, [ids])
        params, n = config.sampling_params(), config.max_new_tokens
        generator = torch.Generator(self.model.device).manual_seed(seed)
        if config.speculate == "lookup":
            decoder = SpeculativeDecoder(
                self.model,
                ids,
                n,
                PromptLookup(),
                generator=generator,
                stop_ids=[self.tokenizer.eot_id],
                **asdict(params),
            )
            return (token for ids in decoder for token in ids)
        constraints = None
        if (expression := config.expression()) is not None:
            pattern = Pattern(expression, Vocabulary(self.tokenizer))
            constraints = [RegexConstraint(pattern, n)]
        sampler = Sampler(
            params, [ids], self.model.config.vocab_size, self.model.device, generator, constraints
        )
        return (int(chosen) for chosen in decode_loop(self.model, [ids], n, sampler))

    def show(self, prompt: str, tokens: Iterator[int], stops: Sequence[str]) -> dict:
        """Print prompt and continuation as they come; returns the text, the number of tokens and
        the times.
        """
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
    config: Annotated[CompletionConfig, arg(name="")] = CompletionConfig(),
    *,
    model: str | None = None,
    weights: Literal["auto", "float32", "bfloat16", "int8", "int4"] = "auto",
    run: Path = Path("runs/default"),
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto",
) -> dict:
    """Continue a text; the output appears in the terminal as it is generated.

    Args:
        prompt: How the text begins.
        model: A checkpoint folder, gpt2 to gpt2-xl, a Hub repository or its folder; by default the
            run's own model, which chapter 4 trains now if it is missing.
        weights: Number format of the weights; auto takes bfloat16 where the device computes it
            fast.
        run: Folder of the run.
        device: Where to compute; auto prefers a GPU.
    """
    if not prompt:
        raise ValueError("the prompt is empty; pass the beginning of a text")
    completer = Completer(*open_model(run, model, weights, pick_device(device)))
    texts = []
    for seed in range(config.seed, config.seed + config.samples):
        texts.append(completer.show(prompt, completer.tokens(prompt, config, seed), config.stop))
        speed = texts[-1]["tokens"] / texts[-1]["seconds"]
        print(f"({texts[-1]['tokens']} tokens, {speed:,.0f} tokens/s)\n", file=sys.stderr)
    return {"prompt": prompt, "texts": texts}
