"""Training speed beside nanoGPT's model and loop, transformers' GPT-2 and the package of the book:
the same shapes, initial weights, batches and optimizer, each candidate in a process of its own.
"""

import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure

from ch01_text import BPETokenizer, CharTokenizer, RandomWindows, encode_documents, load_documents
from ch03_gpt import GPTConfig, flops_per_token, matmul_peak, pick_precision
from ch07_practice.benchmarks.benchmark_runner import Rows, run_interleaved, run_sizes, synchronize
from ch07_practice.benchmarks.machine import instruction_set
from ch07_practice.benchmarks.training_candidates import CANDIDATES, Candidate, available_candidates

ROUNDS = 3
# Limit of the warm-up in seconds. Where it cuts the warm-up short, there is no loss to compare.
PATIENCE = 30


@dataclass(frozen=True)
class Size:
    """A shape to measure, with the number of warm-up steps; their last losses are compared."""

    name: str
    config: GPTConfig
    batch_size: int
    warmup: int

    @property
    def tokens(self) -> int:
        return self.batch_size * self.config.context_length

    def quick(self) -> "Size":
        """The same shape with a shorter warm-up."""
        return replace(self, warmup=min(self.warmup, 20))


def _shape(layers: int, width: int, heads: int, context: int, vocab: int) -> GPTConfig:
    return GPTConfig(vocab, context, width, heads, layers, qkv_bias=True, tie_embeddings=True)


SIZES = {
    size.name: size
    for size in (
        Size("4x128", _shape(4, 128, 4, 64, 65), 12, warmup=60),
        Size("6x384-b8", _shape(6, 384, 6, 256, 4096), 8, warmup=12),
        Size("6x384-b32", _shape(6, 384, 6, 256, 4096), 32, warmup=5),
        Size("12x768", _shape(12, 768, 12, 256, 50_257), 4, warmup=4),
    )
}
GPU_SIZES = {"gpt2-124m": Size("gpt2-124m", _shape(12, 768, 12, 1024, 50_257), 64, warmup=10)}


def text_tokens(vocab_size: int, seed: int = 0) -> np.ndarray:
    """Shakespeare as ids below `vocab_size`: characters (without the rarest), or byte pairs from a
    vocabulary of at most 4,096.
    """
    plays = load_documents("shakespeare")[:12]
    if vocab_size < 300:
        return encode_documents(CharTokenizer.train(plays, vocab_size), plays)
    return encode_documents(BPETokenizer.train(plays, min(vocab_size, 4096)), plays)


@dataclass
class Measurement:
    """The measurements of one process."""

    losses: list[float]  # of the warm-up
    times: list[float]  # seconds per step
    peak: float  # FLOP/s of a large matrix product


def _work(
    candidate: Candidate, number: int, size: Size, device: torch.device, seconds: float
) -> Measurement:
    warmup = size.warmup if number == 0 else min(size.warmup, 3)
    batches = RandomWindows(
        text_tokens(size.config.vocab_size),
        size.config.context_length,
        size.batch_size,
        torch.Generator().manual_seed(0),
        device=device,
    )
    step = candidate.build(size.config, batches, device)
    losses: list[float] = []
    began = time.perf_counter()
    while len(losses) < warmup and (len(losses) < 5 or time.perf_counter() - began < PATIENCE):
        losses.append(step().item())
    times: list[float] = []
    began = time.perf_counter()
    while time.perf_counter() - began < seconds or len(times) < 2:
        started = time.perf_counter()
        step()
        synchronize(device)
        times.append(time.perf_counter() - started)
    return Measurement(losses, times, matmul_peak(device, pick_precision(device).dtype))


def _last_loss(measurement: Measurement, size: Size) -> float | None:
    """The loss after the warm-up; None if the warm-up was cut short."""
    return measurement.losses[-1] if len(measurement.losses) == size.warmup else None


def table(size: Size, measurements: dict[str, list[Measurement]], device: torch.device) -> Rows:
    """One row per candidate with measurements; speeds are medians over all its steps.

    "of best reference" compares with the fastest reference in its standard configuration; the
    candidates "memory kept" use our allocator setting and do not count.
    """
    flops = 3 * flops_per_token(size.config)
    rows: Rows = []
    for name, several in measurements.items():
        if several:
            times = [step for measurement in several for step in measurement.times]
            speed = size.tokens / statistics.median(times)
            rows.append(
                {
                    "size": size.name,
                    "candidate": name,
                    "tokens/s": speed,
                    "GFLOP/s": speed * flops / 1e9,
                    "of peak": speed * flops / statistics.median(m.peak for m in several),
                    "of best reference": None,
                    f"loss after {size.warmup} steps": _last_loss(several[0], size),
                    "steps timed": len(times),
                    "instruction set": instruction_set(device),
                }
            )
    references = [
        row["tokens/s"]
        for row in rows
        if not row["candidate"].startswith("ours") and not row["candidate"].endswith("memory kept")
    ]
    if not references:
        return rows
    best = max(references)
    return [row | {"of best reference": row["tokens/s"] / best} for row in rows]


def measure(
    size: Size,
    title: str,
    candidates: list[Candidate],
    device: torch.device,
    seconds: float,
    rounds: int = ROUNDS,
) -> Iterator[Rows]:
    """Yields the size's table after every measurement. Each candidate runs `rounds` times for
    `seconds`, in fresh processes.
    """
    work = partial(_work, size=size, device=device, seconds=seconds)
    for measurements in run_interleaved(work, candidates, rounds, title):
        yield table(size, measurements, device)


def run_bench(
    device: torch.device,
    sizes: list[Size],
    seconds: float,
    rounds: int,
    save: Callable[[Rows], None],
) -> Rows:
    """Measure all installed candidates at all `sizes`."""
    candidates = available_candidates(list(CANDIDATES.values()), device)
    return run_sizes(
        partial(measure, candidates=candidates, device=device, seconds=seconds, rounds=rounds),
        sizes,
        save,
    )


def draw_bench(table: pd.DataFrame) -> Figure:
    """Tokens per second of every candidate, one panel per size."""
    sizes = list(dict.fromkeys(table["size"]))
    figure = Figure(figsize=(11, 2.6 * len(sizes)), layout="constrained")
    for axes, size in zip(np.atleast_1d(figure.subplots(len(sizes), 1)), sizes, strict=True):
        rows = table[table["size"] == size].iloc[::-1]
        colors = [
            "tab:blue" if name.startswith("ours") else "tab:gray" for name in rows["candidate"]
        ]
        bars = axes.barh(rows["candidate"], rows["tokens/s"], color=colors)
        axes.bar_label(bars, fmt="{:,.0f}", padding=3)
        axes.set(title=size, xlabel="training, tokens per second")
        axes.margins(x=0.12)
    return figure
