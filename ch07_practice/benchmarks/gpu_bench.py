"""Ten minutes on a GPU: each part of gpu_parts.py in a process of its own, with a time limit.

What a part reports is saved at once; a part that fails says why, and the next one begins.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from ch07_practice.contest import Rows, apart
from ch07_practice.gpu_parts import characters, gpt2_speed, make_run, run_tests
from ch07_practice.machine import instruction_set


@dataclass(frozen=True)
class Part:
    name: str
    seconds: float  # its limit, to which comes what the parts before it left over
    work: Callable[..., None]
    arguments: tuple


def parts(device: torch.device, run: Path) -> list[Part]:
    """The four, ten minutes together."""
    return [
        Part("gpt2-124m", 130, gpt2_speed, (device,)),
        Part("characters", 130, characters, (device,)),
        Part("tests", 150, run_tests, (110,)),
        Part("make run", 190, make_run, (run,)),
    ]


def run_parts(
    all_parts: Sequence[Part], device: torch.device, save: Callable[[Rows], None]
) -> Rows:
    """One row a part: its time, how it ended, and what it reported; `save`d whenever there is
    something new.
    """
    rows: Rows = []
    deadline = time.perf_counter()
    for number, part in enumerate(all_parts, 1):
        deadline += part.seconds
        began, found = time.perf_counter(), []
        print(
            f"{part.name} ({number} of {len(all_parts)}): at most {deadline - began:.0f} seconds, "
            f"then at most {sum(later.seconds for later in all_parts[number:]):.0f}"
        )
        rows.append({"part": part.name, "instruction set": instruction_set(device), "found": found})
        try:
            for one in apart(part.name, part.work, *part.arguments, seconds=deadline - began):
                found.append(one)
                print("  " + ", ".join(f"{name} {_short(value)}" for name, value in one.items()))
                save(rows)
            outcome = "finished"
        except (ValueError, OSError, RuntimeError) as error:
            outcome = str(error)
        seconds = time.perf_counter() - began
        rows[-1] |= {"outcome": outcome, "seconds": seconds}
        print(f"{part.name}: {outcome}, {seconds:.0f} s\n")
        save(rows)
    return rows


def _short(value) -> str:
    return f"{value:,.4g}" if isinstance(value, float) else str(value)
