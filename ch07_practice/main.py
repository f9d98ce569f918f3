"""Chapter 7: use the model that the earlier chapters made."""

import json
from pathlib import Path
from typing import Literal

from ch01_text.run import chapter_folder, command_line, write_atomically
from ch03_gpt import pick_device
from ch07_practice.report import describe_machine, write_report
from ch07_practice.training_bench import GPU_SIZES, SIZES, draw_bench, run_bench


def report(run: Path = Path("runs/default"), seed: int = 1337,
           device: Literal["auto", "cpu", "cuda", "mps"] = "auto") -> dict:
    """Write the report card of a run: report.html, report.md and report.json.

    Args:
        run: Folder of the run.
        seed: Accepted as in every chapter; a report draws no random numbers.
        device: Accepted as in every chapter; a report computes nothing.
    """
    summary = write_report(run)
    print(f"the report card is in {run / 'report.html'} (and .md, .json)")
    return summary


def bench(what: Literal["train"] = "train", size: str | None = None, seconds: float = 3.0,
          run: Path = Path("runs/default"), seed: int = 1337,
          device: Literal["auto", "cpu", "cuda", "mps"] = "auto") -> dict:
    """Measure speed beside other packages, on this machine, in one run. Let nothing else run beside it.

    The peers: pip install transformers; pip install --no-deps llms-from-scratch.

    Args:
        what: train: tokens per second of training steps.
        size: Only this shape: 4x128, 6x384-b8, 6x384-b32, 12x768, on a GPU also gpt2-124m; by default all.
        seconds: Time for each of three measurements of a contender.
        run: Folder of the run; results go to RUN/ch07_practice.
        seed: Accepted as in every chapter; weights and batches are the same in each run.
        device: Where to compute; auto prefers a GPU.
    """
    if seconds <= 0:
        raise ValueError(f"--seconds must be positive, not {seconds}")
    where = pick_device(device)
    sizes = SIZES | (GPU_SIZES if where.type == "cuda" else {})
    if size is not None and size not in sizes:
        raise ValueError(f"unknown size {size!r}; choose one of {', '.join(sizes)}")
    folder = chapter_folder(run, "ch07_practice")
    table = run_bench(where, [sizes[size]] if size else list(sizes.values()), seconds)
    result = {"machine": describe_machine(), "train": table.to_dict("records")}
    write_atomically(folder / "bench_train.json", json.dumps(result, indent=2) + "\n")
    draw_bench(table).savefig(folder / "bench_train.png", dpi=110)
    print(f"saved in {folder / 'bench_train.json'} and .png")
    return result


if __name__ == "__main__":
    command_line({"bench": bench, "report": report})
