"""Which model to use: a run's own, or any other by name, with its tokenizer and in the number format asked for."""

import subprocess
import sys
from pathlib import Path

import torch

from ch01_text import gpt2_tokenizer, load_tokenizer
from ch03_gpt import GPTModel, pick_precision
from ch04_pretraining import find_checkpoint, from_pretrained
from ch07_practice.quantization import KINDS, quantize

ROOT = Path(__file__).parent.parent


def run_checkpoint(run: Path) -> Path:
    """The pretrained model of a run; where there is none yet, chapter 4 makes it."""
    folder = Path(run) / "ch04_pretraining" / "checkpoint"
    if find_checkpoint(folder) is None:
        print(f"there is no model in {run} yet: chapter 4 pretrains one first (five minutes on two cores)",
              file=sys.stderr)
        subprocess.run([sys.executable, ROOT / "ch04_pretraining" / "main.py", "--run", run], check=True)
    return find_checkpoint(folder)


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
    loaded = from_pretrained(source)
    tokenizer = load_tokenizer(source) if (Path(source) / "tokenizer.json").is_file() else gpt2_tokenizer()
    return cast(loaded, weights, device), tokenizer
