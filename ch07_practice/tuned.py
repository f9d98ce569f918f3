"""The chat models of a run: chapter 6's, which is asked to make one where there is none."""

import subprocess
import sys
from pathlib import Path

from ch03_gpt import Precision
from ch04_pretraining import find_checkpoint, load_checkpoint
from ch06_instruction.answering import Chat

CHAPTER = Path(__file__).parent.parent / "ch06_instruction"


def tuned_checkpoints(run: Path) -> dict[str, Path]:
    """The stages of chapter 6 that a run has, by name, in the order in which they are made."""
    folder = Path(run) / CHAPTER.name
    return {
        name: found
        for name in ("sft", "dpo", "ppo", "grpo")
        if (found := find_checkpoint(folder / name))
    }


def tuned_chat(run: Path, precision: Precision, stage: str = "sft") -> Chat:
    """A chat model of a run; where it is missing, chapter 6's command makes it. ValueError where
    that fails.
    """
    if stage not in tuned_checkpoints(run):
        print(f"there is no {stage} model in {run} yet: chapter 6 makes it first", file=sys.stderr)
        command = [sys.executable, CHAPTER / "main.py", "--stage", stage, "--run", run]
        if subprocess.run(command, check=False).returncode:
            raise ValueError(
                f"chapter 6 made no {stage} model in {run}; its own message stands above"
            )
    model, tokenizer = load_checkpoint(tuned_checkpoints(run)[stage], precision.device)
    return Chat(model, tokenizer, precision)
