"""Ten minutes on a GPU: each part of gpu_parts.py in a process of its own, with a time limit.

What a part reports is saved at once; a part that fails says why, and the next one begins.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from ch07_practice.contest import Rows, apart
from ch07_practice.gpu_parts import chapters, characters, gpt2_speed, run_tests
from ch07_practice.machine import instruction_set


@dataclass(frozen=True)
class Part:
    name: str
    seconds: float  # its limit
    work: Callable[..., None]
    arguments: tuple


def parts(device: torch.device, run: Path) -> list[Part]:
    """The four, ten minutes together."""
    return [Part("gpt2-124m", 140, gpt2_speed, (device,)), Part("characters", 140, characters, (device,)),
            Part("chapters", 200, chapters, (device, run)), Part("tests", 120, run_tests, (115,))]


def run_parts(all_parts: Sequence[Part], device: torch.device, save: Callable[[Rows], None]) -> Rows:
    """One row a part: its time, how it ended, and what it reported; `save`d whenever there is something new."""
    rows: Rows = []
    left = sum(part.seconds for part in all_parts)
    for part in all_parts:
        print(f"{part.name}: at most {part.seconds:g} seconds (all that is left: {left:g})")
        began, found = time.perf_counter(), []
        row = {"part": part.name, "instruction set": instruction_set(device), "found": found}
        rows.append(row)
        try:
            for one in apart(part.name, part.work, *part.arguments, seconds=part.seconds):
                found.append(one)
                print("  " + ", ".join(f"{name} {_short(value)}" for name, value in one.items()))
                save(rows)
            row["outcome"] = "finished"
        except (ValueError, OSError, RuntimeError) as error:
            row["outcome"] = str(error)
        row["seconds"] = time.perf_counter() - began
        print(f"{part.name}: {row['outcome']}, {row['seconds']:.0f} s\n")
        save(rows)
        left -= part.seconds
    return rows


def _short(value) -> str:
    return f"{value:,.4g}" if isinstance(value, float) else str(value)
