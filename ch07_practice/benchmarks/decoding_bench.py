"""How fast is text written, beside transformers' `generate`, CTranslate2 and the book's package?
Same shapes and weights, greedy, the same prompts of the same length; every contender in a process
of its own.

Writing one text streams all weights through the processor for every token, so the yardstick is the
memory bandwidth, measured in the same process: at best as many tokens a second as the weights fit
into it. (Weights that fit into the processor's cache can beat it.) Several texts at once share the
stream.
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
from ch07_practice.contest import Rows, in_turn, size_by_size, wait_for
from ch07_practice.decoding_contenders import BYTES, CONTENDERS, Contender, Write, take_part
from ch07_practice.machine import instruction_set, peak_memory

ROUNDS = 2
REPEATS = 3  # of every writing in a round
PROMPT = 16  # tokens
BATCHES = (1, 8, 32)
PATIENCE = 30  # seconds: what would take longer is not written, and nothing is repeated after them


@dataclass(frozen=True)
class Size:
    name: str
    config: GPTConfig
    new_tokens: int

    def quick(self) -> "Size":
        """The same shape with shorter texts."""
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
    """What one process found out about one contender."""

    first: dict[int, float]  # seconds to the first token, by number of prompts
    rest: dict[int, float]  # seconds for each further one
    text: list[int]  # what was written after the first prompt
    weights: int  # bytes of parameters and buffers
    peak: int | None  # bytes of the process at most
    bandwidth: float  # bytes a second


def memory_bandwidth(device: torch.device, megabytes: int = 512) -> float:
    """Bytes a second of a sum over that much memory, which reads every number once: the best of
    several.
    """
    numbers = torch.ones(megabytes * 2**18, device=device)
    best = float("inf")
    for _ in range(8):
        started = time.perf_counter()
        numbers.sum().item()
        best = min(best, time.perf_counter() - started)
    return numbers.numel() * numbers.element_size() / best


def _seconds(write: Write, ids: Tensor, n: int, device: torch.device) -> float:
    started = time.perf_counter()
    write(ids, n)
    wait_for(device)
    return time.perf_counter() - started


def _median_seconds(write: Write, ids: Tensor, n: int, device: torch.device, repeats: int) -> float:
    """Of up to `repeats` writings, fewer where they take long."""
    times: list[float] = []
    while len(times) < repeats and sum(times) < PATIENCE:
        times.append(_seconds(write, ids, n, device))
    return statistics.median(times)


def _work(
    contender: Contender, number: int, size: Size, device: torch.device, repeats: int
) -> Measurement:
    write, weights = contender.build(size.config, device)
    prompts = torch.randint(
        0,
        size.config.vocab_size,
        (max(BATCHES), PROMPT),
        generator=torch.Generator().manual_seed(0),
    ).to(device)
    first, rest = {}, {}
    with torch.inference_mode():
        for B in BATCHES:
            warm_up = _seconds(write, prompts[:B], 4, device)
            if B > 1 and warm_up / 4 * size.new_tokens > PATIENCE:
                break
            first[B] = _median_seconds(write, prompts[:B], 1, device, repeats)
            whole = _median_seconds(write, prompts[:B], size.new_tokens, device, repeats)
            rest[B] = (whole - first[B]) / (size.new_tokens - 1)
        text = write(prompts[:1], size.new_tokens)[0, PROMPT:].tolist()
    return Measurement(first, rest, text, weights, peak_memory(), memory_bandwidth(device))


def speed_column(B: int) -> str:
    return f"tokens/s, {B} prompt{'s' * (B > 1)}"


def table(
    size: Size,
    found: dict[str, list[Measurement]],
    contenders: list[Contender],
    device: torch.device,
) -> Rows:
    """One row a contender that was measured, by the medians of its processes; a number of prompts
    that would have taken longer than PATIENCE stays empty. The first contender's text is what the
    others' are compared with.
    """
    reference, rows = found[contenders[0].name][0].text, []
    for contender in contenders:
        several = found[contender.name]
        if not several:
            continue
        speeds = {
            B: B / statistics.median(m.rest[B] for m in several if B in m.rest)
            for B in BATCHES
            if any(B in m.rest for m in several)
        }
        streamed = matrix_parameters(size.config) * BYTES[contender.weights]
        agree = sum(a == b for a, b in zip(reference, several[0].text, strict=True))
        peaks = [m.peak / 2**20 for m in several if m.peak]
        rows.append(
            {
                "size": size.name,
                "contender": contender.name,
                "first token, ms": 1e3 * statistics.median(m.first[1] for m in several),
                **{speed_column(B): speeds.get(B) for B in BATCHES},
                "of bandwidth": (
                    speeds[1] * streamed / statistics.median(m.bandwidth for m in several)
                ),
                "weights, MiB": several[0].weights / 2**20,
                "process, MiB": max(peaks, default=None),
                f"as {contenders[0].name}": f"{agree}/{len(reference)} tokens",
                "instruction set": instruction_set(device),
            }
        )
    return rows


def measure(
    size: Size,
    title: str,
    contenders: list[Contender],
    device: torch.device,
    rounds: int = ROUNDS,
    repeats: int = REPEATS,
) -> Iterator[Rows]:
    """The size's table after every measurement: `rounds` fresh processes a contender."""
    work = partial(_work, size=size, device=device, repeats=repeats)
    for found in in_turn(work, contenders, rounds, title):
        yield table(size, found, contenders, device)


def run_bench(
    device: torch.device, sizes: list[Size], rounds: int, repeats: int, save: Callable[[Rows], None]
) -> Rows:
    """All contenders that are installed, and whose number format the device computes in, at all
    `sizes`.
    """
    contenders = take_part(list(CONTENDERS.values()), device)
    return size_by_size(
        partial(measure, contenders=contenders, device=device, rounds=rounds, repeats=repeats),
        sizes,
        save,
    )


def draw_bench(table: pd.DataFrame) -> Figure:
    """Tokens per second against the number of prompts, one panel a size."""
    figure = Figure(figsize=(11, 4.5), layout="constrained")
    sizes = list(dict.fromkeys(table["size"]))
    columns = [speed_column(B) for B in BATCHES]
    for axes, size in zip(figure.subplots(1, len(sizes), squeeze=False).flat, sizes, strict=True):
        for _, row in table[table["size"] == size].iterrows():
            ours = row["contender"].startswith("ours")
            axes.plot(
                BATCHES,
                row[columns].astype(float),
                marker="o",
                label=row["contender"],
                linestyle="-" if ours else "--",
            )
        axes.set(
            title=size,
            xlabel="prompts at once",
            ylabel="tokens per second, all together",
            xscale="log",
            yscale="log",
            xticks=BATCHES,
            xticklabels=BATCHES,
        )
        axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    return figure
