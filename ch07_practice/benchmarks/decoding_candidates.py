"""The candidates of the decoding benchmark: our model in every number format, and the `generate`
functions of other packages.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from ch03_gpt import GPTConfig, GPTModel, generate, pick_precision
from ch07_practice.benchmarks.benchmark_runner import installed, native_formats
from ch07_practice.benchmarks.reference_models import (
    book_gpt,
    ctranslate2_generator,
    transformers_gpt2,
)
from ch07_practice.decoding.quantization import n_bytes
from ch07_practice.load_model import to_weight_format

# Bytes per weight, including int4's scales and zeros.
BYTES = {"float32": 4, "bfloat16": 2, "int8": 1, "int4": 0.5 + 4 / 32}
Generate = Callable[[Tensor, int], Tensor]  # (prompts (B, T), n) -> (B, T + n), greedily


@dataclass(frozen=True)
class Candidate:
    name: str
    weights: str
    package: str | None = None

    def runs_on(self, device: torch.device) -> bool:
        """Whether it runs there; integer weights and CTranslate2 are measured on a CPU only."""
        return device.type == "cpu" or (
            self.weights not in ("int8", "int4") and self.package != "ctranslate2"
        )

    def build(self, config: GPTConfig, device: torch.device) -> tuple[Generate, int]:
        """The function that generates, and the bytes of the weights that it reads for each
        token.
        """
        torch.manual_seed(0)
        ours = GPTModel(config)
        if self.package == "ctranslate2":
            return ctranslate2_generator(ours, self.weights)
        if self.package is None:
            model = to_weight_format(ours, self.weights, device)
            return partial(generate, model), n_bytes(model)
        dtype = pick_precision(device, self.weights).dtype
        if self.package == "transformers":
            theirs = transformers_gpt2(ours).to(device, dtype).eval()
            return partial(_transformers_generate, theirs), n_bytes(theirs)
        from llms_from_scratch.ch04 import generate_text_simple

        book = book_gpt(ours).to(device, dtype).eval()
        return partial(generate_text_simple, book, context_size=config.context_length), n_bytes(
            book
        )


def _transformers_generate(model: Any, ids: Tensor, n: int) -> Tensor:
    return model.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        max_new_tokens=n,
        min_new_tokens=n,
        do_sample=False,
        pad_token_id=0,
    )


CANDIDATES = {
    candidate.name: candidate
    for candidate in (
        *(Candidate(f"ours, {weights}", weights) for weights in BYTES),
        *(
            Candidate(f"{package}, {weights}", weights, package)
            for package, formats in (
                ("ctranslate2", ("float32", "int8")),
                ("transformers", ("float32", "bfloat16")),
                ("llms_from_scratch", ("float32", "bfloat16")),
            )
            for weights in formats
        ),
    )
}


def available_candidates(candidates: Iterable[Candidate], device: torch.device) -> list[Candidate]:
    """The candidates that are installed and need no emulated arithmetic on `device`. Prints which
    are left out.
    """
    formats = native_formats(BYTES, device)
    return [c for c in installed(candidates) if c.weights in formats and c.runs_on(device)]
