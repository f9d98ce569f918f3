"""`main.py bench`: speed beside other packages, saved after every measurement."""

import json
import math
from functools import partial
from pathlib import Path
from typing import Literal

import pandas as pd
import torch

from ch01_text.run import chapter_folder, write_atomically
from ch03_gpt import pick_device, pick_precision
from ch04_pretraining import ensure_pretrained
from ch07_practice import decoding_bench, gpu_bench, training_bench
from ch07_practice.contest import Rows
from ch07_practice.machine import describe_machine
from ch07_practice.quantization_table import quantization_table

QUICK_QUESTIONS, QUICK_TOKENS = 100, 10_000  # of the quantization table


def save_results(path: Path, what: str, rows: Rows, finished: bool = False) -> dict:
    """Write `rows` and the machine to `path`, and return what is written; "finished" says
    whether they are all.
    """
    result = {"machine": describe_machine(), "finished": finished, what: rows}
    write_atomically(path, json.dumps(result, indent=2, allow_nan=False) + "\n")
    return result


def choose_sizes(what: str, size: str | None, quick: bool, device: torch.device) -> list:
    """The shapes to measure: the one that --size names, the smallest for --quick, or all of the
    benchmark's.
    """
    known = {
        "train": training_bench.SIZES | (training_bench.GPU_SIZES if device.type == "cuda" else {}),
        "decode": decoding_bench.SIZES,
    }.get(what, {})
    if size is not None and not known:
        raise ValueError(f"--what {what} has no other sizes; leave --size out, not --size {size}")
    if size is not None and size not in known:
        raise ValueError(
            f"--size must be one of {', '.join(known)} for --what {what}, not {size!r}"
        )
    sizes = [known[size]] if size else list(known.values())
    return [sizes[0].quick()] if quick and sizes else sizes


def check_flags(what: str, seconds: float, quick: bool, device: torch.device) -> None:
    """ValueError names the flag that cannot be, and a value that can."""
    if not (math.isfinite(seconds) and seconds > 0):
        raise ValueError(f"--seconds must be a positive number such as 3, not {seconds:g}")
    if what == "gpu" and device.type != "cuda":
        raise ValueError(
            f"--what gpu needs a CUDA GPU, and the device is {device.type}; "
            "--what train and --what decode run on every machine"
        )
    if what == "gpu" and quick:
        raise ValueError(
            "--quick does not apply to --what gpu, which takes at most ten minutes; leave it out"
        )


def bench(
    what: Literal["train", "decode", "quantization", "gpu"] = "train",
    size: str | None = None,
    seconds: float = 3.0,
    quick: bool = False,
    run: Path = Path("runs/default"),
    seed: int = 1337,
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto",
) -> dict:
    """Measure speed beside other packages, on this machine, in one run. Let nothing else run beside
    it.

    On two cores all of train takes an hour or more, and --quick about two minutes. Peers that are
    not installed are left out: pip install -e ".[bench]", and for the book's package pip install
    --no-deps llms-from-scratch.

    Args:
        what: train: tokens per second of training steps. decode: of writing, for 1, 8 and 32
            prompts. quantization: size, perplexity, right answers and speed of the run's model in
            fewer bits. gpu: what a data-centre GPU does in ten minutes: GPT-2 124M, nanoGPT's
            characters, the tests, make run.
        size: Only this shape. For training 4x128, 6x384-b8, 6x384-b32, 12x768, on a GPU also
            gpt2-124m; for writing 12m, 124m; by default all.
        seconds: For training: time for each of three measurements of a contender.
        quick: Measure the smallest shape (or the one of --size) once only, after fewer steps and in
            shorter texts; or the run's model on a fifth of the text and the questions.
        run: Folder of the run; results go to RUN/ch07_practice, after every measurement.
        seed: Accepted as in every chapter; weights and texts are the same in each run.
        device: Where to compute; auto prefers a GPU.
    """
    where = pick_device(device)
    check_flags(what, seconds, quick, where)
    sizes = choose_sizes(what, size, quick, where)
    folder = chapter_folder(run, "ch07_practice")
    path = folder / f"bench_{what}.json"
    path.unlink(missing_ok=True)  # of an earlier bench
    save = partial(save_results, path, what)
    print(f"{pick_precision(where)}; results go to {path}")
    try:
        if what == "train":
            rounds = 1 if quick else training_bench.ROUNDS
            rows = training_bench.run_bench(where, sizes, seconds, rounds, save)
            training_bench.draw_bench(pd.DataFrame(rows)).savefig(
                folder / "bench_train.png", dpi=110
            )
        elif what == "decode":
            rounds, repeats = (1, 1) if quick else (decoding_bench.ROUNDS, decoding_bench.REPEATS)
            rows = decoding_bench.run_bench(where, sizes, rounds, repeats, save)
            decoding_bench.draw_bench(pd.DataFrame(rows)).savefig(
                folder / "bench_decode.png", dpi=110
            )
        elif what == "quantization":
            shorter = (QUICK_QUESTIONS, QUICK_TOKENS) if quick else ()
            rows = quantization_table(ensure_pretrained(run), save, *shorter)
        else:
            rows = gpu_bench.run_parts(gpu_bench.parts(where, folder / "gpu"), where, save)
    except KeyboardInterrupt:
        print(
            f"what was measured so far is in {path}"
            if path.exists()
            else "nothing was measured yet"
        )
        raise
    result = save(rows, finished=True)
    print(f"saved in {path}")
    return result
