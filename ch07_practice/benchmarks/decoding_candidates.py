"""Who takes part in the decoding benchmark: our weights in every number format, and the peers'
programs for writing.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from ch03_gpt import GPTConfig, GPTModel, generate, pick_precision
from ch07_practice.contest import installed, native
from ch07_practice.models import cast
from ch07_practice.peers import book_gpt, ctranslate2_writer, transformers_gpt2
from ch07_practice.quantization import n_bytes

# Bytes a weight, int4's scales and zeros included.
BYTES = {"float32": 4, "bfloat16": 2, "int8": 1, "int4": 0.5 + 4 / 32}
Write = Callable[[Tensor, int], Tensor]  # (prompts (B, T), n) -> (B, T + n), greedily


@dataclass(frozen=True)
class Contender:
    name: str
    weights: str
    package: str | None = None

    def runs_on(self, device: torch.device) -> bool:
        """Integers as weights, and CTranslate2, are measured on a CPU only."""
        return device.type == "cpu" or (
            self.weights not in ("int8", "int4") and self.package != "ctranslate2"
        )

    def build(self, config: GPTConfig, device: torch.device) -> tuple[Write, int]:
        """A function that writes, and the bytes of the weights that it reads for it."""
        torch.manual_seed(0)
        ours = GPTModel(config)
        if self.package == "ctranslate2":
            return ctranslate2_writer(ours, self.weights)
        if self.package is None:
            model = cast(ours, self.weights, device)
            return partial(generate, model), n_bytes(model)
        dtype = pick_precision(device, self.weights).dtype
        if self.package == "transformers":
            model = transformers_gpt2(ours).to(device, dtype).eval()
            return partial(_transformers_write, model), n_bytes(model)
        from llms_from_scratch.ch04 import generate_text_simple

        model = book_gpt(ours).to(device, dtype).eval()
        return partial(generate_text_simple, model, context_size=config.context_length), n_bytes(
            model
        )


def _transformers_write(model: nn.Module, ids: Tensor, n: int) -> Tensor:
    return model.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        max_new_tokens=n,
        min_new_tokens=n,
        do_sample=False,
        pad_token_id=0,
    )


CONTENDERS = {
    contender.name: contender
    for contender in (
        *(Contender(f"ours, {weights}", weights) for weights in BYTES),
        *(
            Contender(f"{package}, {weights}", weights, package)
            for package, formats in (
                ("ctranslate2", ("float32", "int8")),
                ("transformers", ("float32", "bfloat16")),
                ("llms_from_scratch", ("float32", "bfloat16")),
            )
            for weights in formats
        ),
    )
}


def take_part(contenders: Iterable[Contender], device: torch.device) -> list[Contender]:
    """Those that are installed and need no emulated arithmetic on `device`; says which are left
    out.
    """
    formats = native(BYTES, device)
    return [c for c in installed(contenders) if c.weights in formats and c.runs_on(device)]
