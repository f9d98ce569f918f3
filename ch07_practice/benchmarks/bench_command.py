"""The `bench` command: speed beside other packages; results are saved after every measurement."""

import json
import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Literal

import pandas as pd
import torch

from ch01_text.run import chapter_folder, write_atomically
from ch03_gpt import pick_device, pick_precision
from ch04_pretraining import ensure_pretrained
from ch07_practice.benchmarks import decoding_bench, gpu_bench, step_profile, training_bench
from ch07_practice.benchmarks.benchmark_runner import Rows
from ch07_practice.benchmarks.machine import describe_machine
from ch07_practice.benchmarks.quantization_table import quantization_table

QUICK_QUESTIONS, QUICK_TOKENS = 100, 10_000  # for the quantization table


def save_results(path: Path, name: str, rows: Rows, finished: bool = False) -> dict:
    """Write `rows` and the machine to `path`; returns what was written. `finished` says whether the
    rows are complete.
    """
    result = {"machine": describe_machine(), "finished": finished, name: rows}
    write_atomically(path, json.dumps(result, indent=2, allow_nan=False) + "\n")
    return result


def choose_sizes(name: str, size: str | None, quick: bool, device: torch.device) -> list:
    """The shapes to measure: the one named by --size, the smallest for --quick, or all."""
    shapes: dict[str, dict[str, Any]] = {
        "train": training_bench.SIZES | (training_bench.GPU_SIZES if device.type == "cuda" else {}),
        "decode": decoding_bench.SIZES,
    }
    known = shapes.get(name, {})
    if size is not None and not known:
        raise ValueError(f"--bench {name} has no sizes; leave out --size {size}")
    if size is not None and size not in known:
        raise ValueError(
            f"--size must be one of {', '.join(known)} for --bench {name}, not {size!r}"
        )
    sizes = [known[size]] if size else list(known.values())
    return [sizes[0].quick()] if quick and sizes else sizes


def check_flags(name: str, seconds: float, quick: bool, device: torch.device) -> None:
    """ValueError for a flag that does not fit the benchmark or the device."""
    if not (math.isfinite(seconds) and seconds > 0):
        raise ValueError(f"--seconds must be a positive number such as 3, not {seconds:g}")
    if name == "gpu" and device.type != "cuda":
        raise ValueError(
            f"--bench gpu needs a CUDA GPU, and the device is {device.type}; "
            "--bench train and --bench decode run on every machine"
        )
    if name == "gpu" and quick:
        raise ValueError(
            "--quick does not apply to --bench gpu, which takes at most five minutes; leave it out"
        )


def run_bench(
    name: str,
    sizes: list,
    seconds: float,
    quick: bool,
    run: Path,
    device: torch.device,
    save: Callable[[Rows], Any],
) -> Rows:
    """Run one benchmark and draw its plot, if it has one."""
    if name == "quantization":
        smaller = (QUICK_QUESTIONS, QUICK_TOKENS) if quick else ()
        return quantization_table(ensure_pretrained(run), save, *smaller)
    if name == "step":
        n_steps = step_profile.QUICK_STEPS if quick else step_profile.STEPS
        return step_profile.step_profile(device, n_steps, save)
    if name == "gpu":
        return gpu_bench.run_parts(gpu_bench.parts(device), device, save)
    if name == "train":
        rounds = 1 if quick else training_bench.ROUNDS
        rows = training_bench.run_bench(device, sizes, seconds, rounds, save)
        figure = training_bench.draw_bench(pd.DataFrame(rows))
    else:
        rounds, repeats = (1, 1) if quick else (decoding_bench.ROUNDS, decoding_bench.REPEATS)
        rows = decoding_bench.run_bench(device, sizes, rounds, repeats, save)
        figure = decoding_bench.draw_bench(pd.DataFrame(rows))
    figure.savefig(chapter_folder(run, "ch07_practice") / f"bench_{name}.png", dpi=110)
    return rows


def bench(
    bench: Literal["train", "step", "decode", "quantization", "gpu"] = "train",
    size: str | None = None,
    seconds: float = 3.0,
    quick: bool = False,
    run: Path = Path("runs/default"),
    seed: int = 1337,
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto",
) -> dict:
    """Measure speed beside other packages, on this machine, in one run. Close other programs while
    it runs.

    On two cores all of train takes an hour or more, with --quick about two minutes. Packages that
    are not installed are left out: pip install -e ".[bench]", and for the package of the book pip
    install --no-deps llms-from-scratch.

    Args:
        bench: train: tokens per second of training. step: where the time of a training step goes,
            for every laptop preset. decode: tokens per second of decoding 1, 8 and 32 prompts.
            quantization: size, perplexity, right answers and speed of the run's model in fewer
            bits. gpu: on a data-centre GPU, the training speed of GPT-2 124M and the time to
            nanoGPT's loss on characters.
        size: Measure only this shape. For training 4x128, 6x384-b8, 6x384-b32, 12x768, on a GPU
            also gpt2-124m; for decoding 12m, 124m; by default all.
        seconds: Length of each of the three training measurements of a candidate.
        quick: Measure only the smallest shape (or the one of --size), once, with a shorter warm-up
            or shorter outputs; for step, fewer steps; for quantization, a fifth of the text and
            the questions.
        run: Folder of the run; results go to RUN/ch07_practice, after every measurement.
        seed: Accepted as in every chapter; weights and texts are the same in each run.
        device: Where to compute; auto prefers a GPU.
    """
    where = pick_device(device)
    check_flags(bench, seconds, quick, where)
    sizes = choose_sizes(bench, size, quick, where)
    path = chapter_folder(run, "ch07_practice") / f"bench_{bench}.json"
    path.unlink(missing_ok=True)  # of an earlier run
    save = partial(save_results, path, bench)
    print(f"{pick_precision(where)}; results go to {path}")
    try:
        rows = run_bench(bench, sizes, seconds, quick, run, where, save)
    except KeyboardInterrupt:
        print(f"results so far are in {path}" if path.exists() else "no results yet")
        raise
    result = save(rows, finished=True)
    print(f"saved in {path}")
    return result
