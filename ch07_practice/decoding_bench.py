"""How fast is text written, beside transformers' `generate` and the book's package? Same shapes and weights, greedy,
the same prompts of the same length; every contender in a process of its own.

Writing one text streams all weights through the processor for every token, so the yardstick is the memory bandwidth,
measured in the same process: at best as many tokens a second as the weights fit into it. (Weights that fit into the
processor's cache can beat it.) Several texts at once share the stream.
"""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import pandas as pd
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from ch03_gpt import GPTConfig, GPTModel, generate, matrix_parameters, pick_precision
from ch07_practice.contest import in_turn, installed, peak_memory, wait_for
from ch07_practice.models import cast
from ch07_practice.peers import book_gpt, transformers_gpt2

ROUNDS = 2
PROMPT = 16  # tokens
BATCHES = (1, 8, 32)
BYTES = {"float32": 4, "bfloat16": 2, "int8": 1, "int4": 0.5 + 4 / 32}  # per weight, int4's scales and zeros included
Write = Callable[[Tensor, int], Tensor]


@dataclass(frozen=True)
class Size:
    name: str
    config: GPTConfig
    new_tokens: int


SIZES = {size.name: size for size in (
    Size("12m", GPTConfig(4096, 256, 384, 6, 6, qkv_bias=True, tie_embeddings=True), 192),
    Size("124m", GPTConfig(50_257, 256, 768, 12, 12, qkv_bias=True, tie_embeddings=True), 48),
)}


@dataclass(frozen=True)
class Contender:
    name: str
    weights: str
    package: str | None = None

    @property
    def batches(self) -> tuple[int, ...]:
        """The book's generator has no cache (its GPT-2 with one raises an error, 1.0.19): many texts take minutes."""
        return BATCHES[:1] if self.package == "llms_from_scratch" else BATCHES

    def build(self, config: GPTConfig, device: torch.device) -> tuple[Write, nn.Module]:
        """A function (prompts (B, T), n) -> (B, T + n) that writes greedily, and the model that it uses."""
        torch.manual_seed(0)
        ours = GPTModel(config)
        if self.package is None:
            model = cast(ours, self.weights, device)
            return partial(generate, model), model
        dtype = pick_precision(device, self.weights).dtype
        if self.package == "transformers":
            model = transformers_gpt2(ours).to(device, dtype).eval()
            return lambda ids, n: model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=n,
                                                 min_new_tokens=n, do_sample=False, pad_token_id=0), model
        from llms_from_scratch.ch04 import generate_text_simple

        model = book_gpt(ours).to(device, dtype).eval()
        return partial(generate_text_simple, model, context_size=config.context_length), model


CONTENDERS = {contender.name: contender for contender in (
    *(Contender(f"ours, {weights}", weights) for weights in BYTES),
    *(Contender(f"{package}, {weights}", weights, package) for package in ("transformers", "llms_from_scratch")
      for weights in ("float32", "bfloat16")),
)}


@dataclass
class Measurement:
    """What one process found out about one contender."""

    first: dict[int, float]  # seconds to the first token, by number of prompts
    rest: dict[int, float]  # seconds for each further one
    text: list[int]  # what was written after the first prompt
    weights: int  # bytes of parameters and buffers
    peak: int | None  # bytes of the process at most; None where the system does not count them
    bandwidth: float  # bytes a second


def memory_bandwidth(device: torch.device, megabytes: int = 512) -> float:
    """Bytes a second of a sum over that much memory, which reads every number once: the best of several."""
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


def _work(contender: Contender, number: int, size: Size, device: torch.device, repeats: int) -> Measurement:
    write, model = contender.build(size.config, device)
    prompts = torch.randint(0, size.config.vocab_size, (max(BATCHES), PROMPT),
                            generator=torch.Generator().manual_seed(0)).to(device)
    first, rest = {}, {}
    with torch.inference_mode():
        for B in contender.batches:
            write(prompts[:B], 4)  # warm-up
            first[B] = statistics.median(_seconds(write, prompts[:B], 1, device) for _ in range(repeats))
            whole = statistics.median(_seconds(write, prompts[:B], size.new_tokens, device) for _ in range(repeats))
            rest[B] = (whole - first[B]) / (size.new_tokens - 1)
        text = write(prompts[:1], size.new_tokens)[0, PROMPT:].tolist()
    tensors = {tensor.data_ptr(): tensor for tensor in [*model.parameters(), *model.buffers()]}
    weights = sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
    return Measurement(first, rest, text, weights, peak_memory(), memory_bandwidth(device))


def measure(size: Size, contenders: list[Contender], device: torch.device, repeats: int = 3) -> list[dict]:
    """One row a contender: medians over ROUNDS fresh processes."""
    found: dict[str, list[Measurement]] = in_turn(partial(_work, size=size, device=device, repeats=repeats), contenders,
                                                  ROUNDS, size.name)
    reference = found[contenders[0].name][0].text
    rows = []
    for contender in contenders:
        several = found[contender.name]
        speeds = {B: B / statistics.median(m.rest[B] for m in several) for B in contender.batches}
        streamed = matrix_parameters(size.config) * BYTES[contender.weights]
        peaks = [m.peak for m in several if m.peak]
        agree = sum(a == b for a, b in zip(reference, several[0].text, strict=True))
        rows.append({
            "size": size.name, "contender": contender.name,
            "first token, ms": 1e3 * statistics.median(m.first[1] for m in several),
            **{f"tokens/s, {B} prompt{'s' * (B > 1)}": speeds.get(B) for B in BATCHES},
            "of bandwidth": speeds[1] * streamed / statistics.median(m.bandwidth for m in several),
            "weights, MiB": several[0].weights / 2**20, "process, MiB": max(peaks) / 2**20 if peaks else None,
            f"as {contenders[0].name}": f"{agree}/{len(reference)} tokens",
        })
    return rows


def run_bench(device: torch.device, sizes: list[Size]) -> pd.DataFrame:
    """All contenders that are installed at all `sizes`."""
    present = installed([c for c in CONTENDERS.values() if device.type == "cpu" or c.weights not in ("int8", "int4")])
    tables = []
    for size in sizes:
        tables.append(pd.DataFrame(measure(size, present, device)))
        print(tables[-1].to_string(index=False, float_format="{:,.2f}".format) + "\n")
    return pd.concat(tables)


def draw_bench(table: pd.DataFrame) -> Figure:
    """Tokens per second against the number of prompts, one panel a size."""
    figure = Figure(figsize=(11, 4.5), layout="constrained")
    sizes = list(dict.fromkeys(table["size"]))
    columns = [f"tokens/s, {B} prompt{'s' * (B > 1)}" for B in BATCHES]
    for axes, size in zip(figure.subplots(1, len(sizes), squeeze=False).flat, sizes, strict=True):
        for _, row in table[table["size"] == size].iterrows():
            ours = row["contender"].startswith("ours")
            axes.plot(BATCHES, row[columns].astype(float), marker="o", label=row["contender"],
                      linestyle="-" if ours else "--")
        axes.set(title=size, xlabel="prompts at once", ylabel="tokens per second, all together", xscale="log",
                 yscale="log", xticks=BATCHES, xticklabels=BATCHES)
        axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    return figure
