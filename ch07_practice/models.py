"""Which model to use: a run's own, or any other by name, with its tokenizer and in the number format asked for."""

from pathlib import Path

import torch

from ch03_gpt import GPTModel, pick_precision
from ch04_pretraining import from_pretrained, run_checkpoint, tokenizer_of
from ch07_practice.quantization import KINDS, quantize


def cast(model: GPTModel, weights: str, device: torch.device) -> GPTModel:
    """Put the weights into a format for decoding: auto is bfloat16 where the device is good at it, else float32.

    Every token streams all weights through the processor, so half the bytes is nearly half the time. int8 and int4
    are ch07_practice.quantization's, on a CPU. ValueError where the device or the format is unknown.
    """
    if weights in KINDS:
        if device.type != "cpu":
            raise ValueError(f"{weights} weights run on a CPU here, not on {device.type}; take auto, or --device cpu")
        return quantize(model.to(torch.bfloat16), weights)
    return model.to(device, pick_precision(device, weights).dtype).eval()


def open_model(run: Path, model: str | None, weights: str, device: torch.device):
    """Return (model in eval mode, its tokenizer) of `model`, a checkpoint folder or a name that `from_pretrained`
    knows, or else of the run."""
    source = run_checkpoint(run) if model is None else model
    return cast(from_pretrained(source), weights, device), tokenizer_of(source)
