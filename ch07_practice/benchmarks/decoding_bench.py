"""Decoding speed beside transformers' `generate`, CTranslate2 and the package of the book: the same
shapes, weights and prompts, greedy, each candidate in a process of its own.

Decoding one text reads all weights for every token, so the limit is the memory bandwidth, which the
same process measures: at most bandwidth / weight bytes tokens per second. (Weights that fit into
the processor's cache can exceed it.) Texts in one batch share the reading.
"""

import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial

import pandas as pd
import torch
from matplotlib.figure import Figure
from torch import Tensor

from ch03_gpt import GPTConfig, matrix_parameters
from ch07_practice.benchmarks.benchmark_runner import Rows, run_interleaved, run_sizes, synchronize
from ch07_practice.benchmarks.decoding_candidates import (
    BYTES,
    CANDIDATES,
    Candidate,
    Generate,
    available_candidates,
)
from ch07_practice.benchmarks.machine import instruction_set, peak_memory

ROUNDS = 2
REPEATS = 3  # of each generation in a round
PROMPT = 16  # tokens
BATCHES = (1, 8, 32)
# Seconds: larger batches that would take longer are skipped, and no generation repeats after them.
PATIENCE = 30


@dataclass(frozen=True)
class Size:
    name: str
    config: GPTConfig
    new_tokens: int

    def quick(self) -> "Size":
        """The same shape with shorter outputs."""
        return replace(self, new_tokens=min(self.new_tokens, 64))


SIZES = {
    size.name: size
    for size in (
        Size("12m", GPTConfig(4096, 256, 384, 6, 6, qkv_bias=True, tie_embeddings=True), 192),
        Size("124m", GPTConfig(50_257, 256, 768, 12, 12, qkv_bias=True, tie_embeddings=True), 48),
    )
}


@dataclass
class Measurement:
    """The measurements of one process."""

    first: dict[int, float]  # seconds to the first token, by batch size
    rest: dict[int, float]  # seconds per further token
    text: list[int]  # output of the first prompt
    weights: int  # bytes of parameters and buffers
    peak: int | None  # peak memory of the process in bytes
    bandwidth: float  # bytes per second


def memory_bandwidth(device: torch.device, megabytes: int = 512) -> float:
    """Bytes per second of summing that much memory, which reads each number once; best of eight."""
    numbers = torch.ones(megabytes * 2**18, device=device)
    best = float("inf")
    for _ in range(8):
        started = time.perf_counter()
        numbers.sum().item()
        best = min(best, time.perf_counter() - started)
    return numbers.numel() * numbers.element_size() / best


def _seconds(generate: Generate, ids: Tensor, n: int, device: torch.device) -> float:
    started = time.perf_counter()
    generate(ids, n)
    synchronize(device)
    return time.perf_counter() - started


def _median_seconds(
    generate: Generate, ids: Tensor, n: int, device: torch.device, repeats: int
) -> float:
    """The median of `repeats` generations, or of fewer if they take long."""
    times: list[float] = []
    while len(times) < repeats and sum(times) < PATIENCE:
        times.append(_seconds(generate, ids, n, device))
    return statistics.median(times)


def _work(
    candidate: Candidate, number: int, size: Size, device: torch.device, repeats: int
) -> Measurement:
    generate, weights = candidate.build(size.config, device)
    prompts = torch.randint(
        0,
        size.config.vocab_size,
        (max(BATCHES), PROMPT),
        generator=torch.Generator().manual_seed(0),
    ).to(device)
    first, rest = {}, {}
    with torch.inference_mode():
        for B in BATCHES:
            warm_up = _seconds(generate, prompts[:B], 4, device)
            if B > 1 and warm_up / 4 * size.new_tokens > PATIENCE:
                break
            first[B] = _median_seconds(generate, prompts[:B], 1, device, repeats)
            whole = _median_seconds(generate, prompts[:B], size.new_tokens, device, repeats)
            rest[B] = (whole - first[B]) / (size.new_tokens - 1)
        text = generate(prompts[:1], size.new_tokens)[0, PROMPT:].tolist()
    return Measurement(first, rest, text, weights, peak_memory(), memory_bandwidth(device))


def speed_column(B: int) -> str:
    return f"tokens/s, {B} prompt{'s' * (B > 1)}"


def table(
    size: Size,
    measurements: dict[str, list[Measurement]],
    candidates: list[Candidate],
    device: torch.device,
) -> Rows:
    """One row per candidate with measurements; values are medians over its processes. Batches that
    were skipped stay empty. All outputs are compared with the first candidate's.
    """
    reference, rows = measurements[candidates[0].name][0].text, []
    for candidate in candidates:
        several = measurements[candidate.name]
        if not several:
            continue
        speeds = {
            B: B / statistics.median(m.rest[B] for m in several if B in m.rest)
            for B in BATCHES
            if any(B in m.rest for m in several)
        }
        bytes_read = matrix_parameters(size.config) * BYTES[candidate.weights]
        agree = sum(a == b for a, b in zip(reference, several[0].text, strict=True))
        peaks = [m.peak / 2**20 for m in several if m.peak]
        rows.append(
            {
                "size": size.name,
                "candidate": candidate.name,
                "first token, ms": 1e3 * statistics.median(m.first[1] for m in several),
                **{speed_column(B): speeds.get(B) for B in BATCHES},
                "of bandwidth": (
                    speeds[1] * bytes_read / statistics.median(m.bandwidth for m in several)
                ),
                "weights, MiB": several[0].weights / 2**20,
                "process, MiB": max(peaks, default=None),
                f"as {candidates[0].name}": f"{agree}/{len(reference)} tokens",
                "instruction set": instruction_set(device),
            }
        )
    return rows


def measure(
    size: Size,
    title: str,
    candidates: list[Candidate],
    device: torch.device,
    rounds: int = ROUNDS,
    repeats: int = REPEATS,
) -> Iterator[Rows]:
    """Yields the size's table after every measurement; each candidate runs in `rounds`
    processes.
    """
    work = partial(_work, size=size, device=device, repeats=repeats)
    for measurements in run_interleaved(work, candidates, rounds, title):
        yield table(size, measurements, candidates, device)


def run_bench(
    device: torch.device, sizes: list[Size], rounds: int, repeats: int, save: Callable[[Rows], None]
) -> Rows:
    """Measure all available candidates at all `sizes`."""
    candidates = available_candidates(list(CANDIDATES.values()), device)
    return run_sizes(
        partial(measure, candidates=candidates, device=device, rounds=rounds, repeats=repeats),
        sizes,
        save,
    )


def draw_bench(table: pd.DataFrame) -> Figure:
    """Tokens per second against the batch size, one panel per size."""
    figure = Figure(figsize=(11, 4.5), layout="constrained")
    sizes = list(dict.fromkeys(table["size"]))
    columns = [speed_column(B) for B in BATCHES]
    for axes, size in zip(figure.subplots(1, len(sizes), squeeze=False).flat, sizes, strict=True):
        for _, row in table[table["size"] == size].iterrows():
            ours = row["candidate"].startswith("ours")
            axes.plot(
                BATCHES,
                row[columns].astype(float),
                marker="o",
                label=row["candidate"],
                linestyle="-" if ours else "--",
            )
        axes.set(
            title=size,
            xlabel="prompts in one batch",
            ylabel="tokens per second over the batch",
            xscale="log",
            yscale="log",
            xticks=BATCHES,
            xticklabels=BATCHES,
        )
        axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    return figure
