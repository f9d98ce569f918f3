"""Loading the models of a run, or any other by name, in the number format asked for."""

import sys
from pathlib import Path
from typing import Any

import torch

from ch03_gpt import GPTModel, Precision, pick_precision
from ch04_pretraining import (
    ensure_pretrained,
    find_checkpoint,
    from_pretrained,
    load_checkpoint,
    tokenizer_of,
)
from ch06_instruction.answering import Chat
from ch07_practice.decoding.fast_linear import LAYER_CLASSES, make_fastest, pack, speed_note
from ch07_practice.decoding.quantization import replace_linear

CHAPTER_6 = "ch06_instruction"
TUNED_STAGES = ("sft", "dpo", "ppo", "grpo")  # chapter 6's, in the order of training


def to_weight_format(model: GPTModel, weights: str, device: torch.device) -> GPTModel:
    """Prepare `model` for decoding: auto is bfloat16 where the device computes it faster, else
    float32; int8 and int4 quantize the linear layers, on a CPU only.

    Decoding reads all weights from memory for every token, so half the bytes take nearly half the
    time. On a CPU, each linear layer becomes the fastest one of `decoding.fast_linear`. ValueError
    if the device or the format is unknown.
    """
    if weights in LAYER_CLASSES:
        if device.type != "cpu":
            raise ValueError(
                f"{weights} weights run on a CPU only, not on {device.type}; choose --weights auto"
                " or --device cpu"
            )
        return replace_linear(model.to(pick_precision(device).dtype), make_fastest(weights))
    model = model.to(device, pick_precision(device, weights).dtype).eval()
    return replace_linear(model, pack) if device.type == "cpu" else model


def open_model(
    run: Path, model: str | Path | None, weights: str, device: torch.device
) -> tuple[GPTModel, Any]:
    """Return (model in eval mode, its tokenizer). `model` is a checkpoint folder or a name that
    `from_pretrained` knows; None is the run's own. Reports on stderr whether int8 or int4 weights
    are faster on this machine.
    """
    source = ensure_pretrained(run) if model is None else model
    loaded = from_pretrained(source)
    if weights in LAYER_CLASSES and device.type == "cpu":
        print(speed_note(weights, loaded.config, pick_precision(device).dtype), file=sys.stderr)
    return to_weight_format(loaded, weights, device), tokenizer_of(source)


def tuned_checkpoints(run: Path) -> dict[str, Path]:
    """Stage -> checkpoint of chapter 6's models in the run, in the order of training."""
    folder = Path(run) / CHAPTER_6
    return {
        stage: checkpoint
        for stage in TUNED_STAGES
        if (checkpoint := find_checkpoint(folder / stage))
    }


def find_checkpoints(run: Path) -> dict[str, Path]:
    """Stage -> checkpoint of all models in the run. "base", the story model, comes first; chapter 4
    trains it now if it is missing.
    """
    return {"base": ensure_pretrained(run)} | tuned_checkpoints(run)


def tuned_chat(run: Path, precision: Precision, stage: str = "sft") -> Chat:
    """A chat model of the run; if it is missing, chapter 6 trains it now."""
    if stage not in tuned_checkpoints(run):
        from ch01_text.run import chapter_folder
        from ch06_instruction.pipeline import AlignmentConfig, AlignmentPipeline, base_chat
        from ch06_instruction.storyworld_tasks import StoryworldData

        print(f"there is no {stage} model in {run} yet: chapter 6 trains it first", file=sys.stderr)
        pipeline = AlignmentPipeline(
            chapter_folder(run, CHAPTER_6),
            lambda: base_chat("pretrained", Path(run), precision),
            StoryworldData(),  # type: ignore[arg-type]  # the same parts, as properties
            AlignmentConfig(),
            precision,
            seed=1337,
        )
        getattr(pipeline, stage)()
    model, tokenizer = load_checkpoint(tuned_checkpoints(run)[stage], precision.device)
    return Chat(model, tokenizer, precision)
