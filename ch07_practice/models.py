"""Which model to use: a run's own, or any other by name, with its tokenizer and in the number
format asked for.
"""

import sys
from pathlib import Path

import torch

from ch03_gpt import GPTModel, pick_precision
from ch04_pretraining import ensure_pretrained, from_pretrained, tokenizer_of
from ch07_practice.fast_linear import CANDIDATES, make_fastest, pack, speed_note
from ch07_practice.quantization import replace_linear


def cast(model: GPTModel, weights: str, device: torch.device) -> GPTModel:
    """Turn `model` into one for decoding: auto is bfloat16 where the device is faster in it, else
    float32.

    Every token streams all weights through the processor, so half the bytes is nearly half the
    time. int8 and int4 are ch07_practice.quantization's, on a CPU. There the layers are replaced by
    the fastest of `fast_linear`. ValueError if the device or the format is unknown.
    """
    if weights in CANDIDATES:
        if device.type != "cpu":
            raise ValueError(
                f"{weights} weights run on a CPU here, not on {device.type}; take auto, or"
                " --device cpu"
            )
        return replace_linear(model.to(pick_precision(device).dtype), make_fastest(weights))
    model = model.to(device, pick_precision(device, weights).dtype).eval()
    return replace_linear(model, pack) if device.type == "cpu" else model


def open_model(run: Path, model: str | None, weights: str, device: torch.device):
    """Return (model in eval mode, its tokenizer) of `model`, a checkpoint folder or a name that
    `from_pretrained` knows, or else of the run. Says on stderr whether int8 or int4 weights are
    faster here.
    """
    source = ensure_pretrained(run) if model is None else model
    plain = from_pretrained(source)
    if weights in CANDIDATES and device.type == "cpu":
        print(speed_note(weights, plain.config, pick_precision(device).dtype), file=sys.stderr)
    return cast(plain, weights, device), tokenizer_of(source)
