"""How fast does training go, beside nanoGPT's manner, transformers' GPT-2 and the book's package?
Same shapes, same weights to begin with, same batches, same optimizer; every contender in a process
of its own, one at a time, in alternating order.
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
from ch07_practice.contest import Rows, in_turn, size_by_size, wait_for
from ch07_practice.machine import instruction_set
from ch07_practice.training_contenders import CONTENDERS, Contender, take_part

ROUNDS = 3
# seconds of warm-up; where updates are slower than that, their last loss is not known
PATIENCE = 30


@dataclass(frozen=True)
class Size:
    """A shape to measure, and the number of updates before it, whose last losses are compared."""

    name: str
    config: GPTConfig
    batch_size: int
    warmup: int

    @property
    def tokens(self) -> int:
        return self.batch_size * self.config.context_length

    def quick(self) -> "Size":
        """The same shape after fewer updates."""
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
    """Shakespeare in ids below `vocab_size`: characters (the rarest left out) or at most 4,096
    byte pairs.
    """
    plays = load_documents("shakespeare")[:12]
    if vocab_size < 300:
        tokenizer = CharTokenizer.train(plays, vocab_size)
    else:
        tokenizer = BPETokenizer.train(plays, min(vocab_size, 4096))
    return encode_documents(tokenizer, plays)


@dataclass
class Measurement:
    """What one process found out about one contender."""

    losses: list[float]  # of the warm-up
    times: list[float]  # seconds a step
    peak: float  # FLOP/s of a large matrix product


def _work(
    contender: Contender, number: int, size: Size, device: torch.device, seconds: float
) -> Measurement:
    warmup = size.warmup if number == 0 else min(size.warmup, 3)
    batches = RandomWindows(
        text_tokens(size.config.vocab_size),
        size.config.context_length,
        size.batch_size,
        torch.Generator().manual_seed(0),
        device=device,
    )
    step = contender.build(size.config, batches, device)
    losses: list[float] = []
    began = time.perf_counter()
    while len(losses) < warmup and (len(losses) < 5 or time.perf_counter() - began < PATIENCE):
        losses.append(step().item())
    times, began = [], time.perf_counter()
    while time.perf_counter() - began < seconds or len(times) < 2:
        started = time.perf_counter()
        step()
        wait_for(device)
        times.append(time.perf_counter() - started)
    return Measurement(losses, times, matmul_peak(device, pick_precision(device).dtype))


def _last(measurement: Measurement, size: Size) -> float | None:
    return measurement.losses[-1] if len(measurement.losses) == size.warmup else None


def table(size: Size, found: dict[str, list[Measurement]], device: torch.device) -> Rows:
    """One row a contender that was measured, by the median of all its steps.

    "of best peer" compares with the fastest peer as it comes; "memory kept" gives a peer our
    allocator's setting, too.
    """
    flops, rows = 3 * flops_per_token(size.config), []
    for name, several in found.items():
        if several:
            times = [step for measurement in several for step in measurement.times]
            speed = size.tokens / statistics.median(times)
            rows.append(
                {
                    "size": size.name,
                    "contender": name,
                    "tokens/s": speed,
                    "GFLOP/s": speed * flops / 1e9,
                    "of peak": speed * flops / statistics.median(m.peak for m in several),
                    "of best peer": None,
                    f"loss after {size.warmup} steps": _last(several[0], size),
                    "steps timed": len(times),
                    "instruction set": instruction_set(device),
                }
            )
    peers = [
        row["tokens/s"]
        for row in rows
        if not row["contender"].startswith("ours") and not row["contender"].endswith("memory kept")
    ]
    return [row | {"of best peer": row["tokens/s"] / max(peers)} for row in rows] if peers else rows


def measure(
    size: Size,
    title: str,
    contenders: list[Contender],
    device: torch.device,
    seconds: float,
    rounds: int = ROUNDS,
) -> Iterator[Rows]:
    """The size's table after every measurement: `rounds` times `seconds` of steps a contender, each
    in a fresh process.
    """
    work = partial(_work, size=size, device=device, seconds=seconds)
    for found in in_turn(work, contenders, rounds, title):
        yield table(size, found, device)


def run_bench(
    device: torch.device,
    sizes: list[Size],
    seconds: float,
    rounds: int,
    save: Callable[[Rows], None],
) -> Rows:
    """All contenders that are installed at all `sizes`; says which are not."""
    contenders = take_part(list(CONTENDERS.values()), device)
    return size_by_size(
        partial(measure, contenders=contenders, device=device, seconds=seconds, rounds=rounds),
        sizes,
        save,
    )


def draw_bench(table: pd.DataFrame) -> Figure:
    """Tokens per second of every contender, one panel a size."""
    sizes = list(dict.fromkeys(table["size"]))
    figure = Figure(figsize=(11, 2.6 * len(sizes)), layout="constrained")
    for axes, size in zip(np.atleast_1d(figure.subplots(len(sizes), 1)), sizes, strict=True):
        rows = table[table["size"] == size].iloc[::-1]
        colors = [
            "tab:blue" if name.startswith("ours") else "tab:gray" for name in rows["contender"]
        ]
        bars = axes.barh(rows["contender"], rows["tokens/s"], color=colors)
        axes.bar_label(bars, fmt="{:,.0f}", padding=3)
        axes.set(title=size, xlabel="training, tokens per second")
        axes.margins(x=0.12)
    return figure
