"""How fast does training go, beside transformers' GPT-2 and the book's package? Same shapes, same weights to begin
with, same batches, same optimizer; every contender in a process of its own, one at a time, in alternating order.
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
from torch import Tensor, nn
from torch.nn import functional as F

from ch01_text import BPETokenizer, CharTokenizer, RandomWindows, encode_documents, load_documents
from ch03_gpt import GPTConfig, GPTModel, flops_per_token, matmul_peak, pick_precision
from ch04_pretraining.allocator import keep_freed_memory
from ch04_pretraining.chunked_loss import chunked_next_token_loss
from ch04_pretraining.optimizer import make_optimizers
from ch04_pretraining.training import train_step
from ch07_practice.contest import in_turn, installed, wait_for
from ch07_practice.peers import book_gpt, transformers_gpt2

LR = 1e-3
ROUNDS = 3
Step = Callable[[], Tensor]


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


def _shape(layers: int, width: int, heads: int, context: int, vocab: int) -> GPTConfig:
    return GPTConfig(vocab, context, width, heads, layers, qkv_bias=True, tie_embeddings=True)


SIZES = {size.name: size for size in (
    Size("4x128", _shape(4, 128, 4, 64, 65), 12, warmup=60),
    Size("6x384-b8", _shape(6, 384, 6, 256, 4096), 8, warmup=12),
    Size("6x384-b32", _shape(6, 384, 6, 256, 4096), 32, warmup=5),
    Size("12x768", _shape(12, 768, 12, 256, 50_257), 4, warmup=4),
)}
GPU_SIZES = {"gpt2-124m": Size("gpt2-124m", _shape(12, 768, 12, 1024, 50_257), 64, warmup=10)}


def text_tokens(vocab_size: int, seed: int = 0) -> np.ndarray:
    """Shakespeare in ids below `vocab_size`: characters (the rarest left out) or at most 4,096 byte pairs."""
    plays = load_documents("shakespeare")[:12]
    if vocab_size < 300:
        tokenizer = CharTokenizer.train(plays, vocab_size)
    else:
        tokenizer = BPETokenizer.train(plays, min(vocab_size, 4096))
    return encode_documents(tokenizer, plays)


def _ours(model: GPTModel, batches: Iterator, precision, optimizer: str) -> Step:
    keep_freed_memory()
    optimizers = make_optimizers(model, optimizer, **({"lr": LR} if optimizer == "adamw" else {}))
    model.train()

    def step() -> Tensor:
        loss, count, _ = train_step(model, batches, chunked_next_token_loss, optimizers, 1, 1.0, precision)[0]
        return loss / count

    return step


def _theirs(model: nn.Module, logits: Callable[[Tensor], Tensor], batches: Iterator, precision) -> Step:
    """The usual loop around a model from elsewhere: mean loss, clipping, fused AdamW."""
    matrices = [p for p in model.parameters() if p.dim() >= 2]
    vectors = [p for p in model.parameters() if p.dim() < 2]
    optimizer = torch.optim.AdamW([{"params": matrices, "weight_decay": 0.1}, {"params": vectors, "weight_decay": 0.0}],
                                  lr=LR, betas=(0.9, 0.95), fused=True)
    model.train()

    def step() -> Tensor:
        inputs, targets = next(batches)
        with precision.autocast():
            loss = F.cross_entropy(logits(inputs).flatten(0, 1).float(), targets.flatten())
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return loss.detach()

    return step


@dataclass(frozen=True)
class Contender:
    name: str
    package: str | None = None  # what must be installed
    dtype: str = "auto"
    optimizer: str = "adamw"
    default_shape: bool = False  # of our laptop presets: RoPE, no biases
    fast: bool = False
    keep_memory: bool = False

    def build(self, size: Size, batches: Iterator, device: torch.device) -> Step:
        """A function that does one training step and returns its mean loss."""
        torch.manual_seed(0)
        config = replace(size.config, position="rope", bias=False, qkv_bias=False) if self.default_shape \
            else size.config
        ours, precision = GPTModel(config), pick_precision(device, self.dtype)
        if self.keep_memory:
            keep_freed_memory()
        if self.package == "transformers":
            model = transformers_gpt2(ours).to(device)
            return _theirs(model, lambda ids: model(ids, use_cache=False).logits, batches, precision)
        if self.package:
            model = book_gpt(ours, "fast" if self.fast else "plain").to(device)
            return _theirs(model, model, batches, precision)
        return _ours(ours.to(device), batches, precision, self.optimizer)


CONTENDERS = {contender.name: contender for contender in (
    Contender("ours"),
    Contender("ours, default shape and Muon", optimizer="muon", default_shape=True),
    Contender("transformers, float32", "transformers", "float32"),
    Contender("transformers", "transformers"),
    Contender("transformers, memory kept", "transformers", keep_memory=True),
    Contender("llms_from_scratch", "llms_from_scratch"),
    Contender("llms_from_scratch, fast", "llms_from_scratch", fast=True),
    Contender("llms_from_scratch, fast, memory kept", "llms_from_scratch", fast=True, keep_memory=True),
)}


@dataclass
class Measurement:
    """What one process found out about one contender."""

    losses: list[float]  # of the warm-up
    times: list[float]  # seconds a step
    peak: float  # FLOP/s of a large matrix product


def _work(contender: Contender, number: int, size: Size, device: torch.device, seconds: float) -> Measurement:
    warmup = size.warmup if number == 0 else min(size.warmup, 3)
    batches = RandomWindows(text_tokens(size.config.vocab_size), size.config.context_length, size.batch_size,
                            torch.Generator().manual_seed(0), device=device)
    step = contender.build(size, batches, device)
    losses = [step().item() for _ in range(warmup)]
    times, began = [], time.perf_counter()
    while time.perf_counter() - began < seconds or len(times) < 2:
        started = time.perf_counter()
        step()
        wait_for(device)
        times.append(time.perf_counter() - started)
    return Measurement(losses, times, matmul_peak(device, pick_precision(device).dtype))


def measure(size: Size, contenders: list[Contender], device: torch.device, seconds: float) -> list[dict]:
    """One row a contender: ROUNDS times `seconds` of steps, each in a fresh process, in alternating order; the
    median of all steps counts."""
    work = partial(_work, size=size, device=device, seconds=seconds)
    found: dict[str, list[Measurement]] = in_turn(work, contenders, ROUNDS, size.name)
    flops = 3 * flops_per_token(size.config)
    rows = []
    for name, measurements in found.items():
        times = [step for measurement in measurements for step in measurement.times]
        speed = size.tokens / statistics.median(times)
        rows.append({"size": size.name, "contender": name, "tokens/s": speed, "GFLOP/s": speed * flops / 1e9,
                     "of peak": speed * flops / statistics.median(m.peak for m in measurements),
                     f"loss after {size.warmup} steps": measurements[0].losses[-1], "steps timed": len(times)})
    return rows


def run_bench(device: torch.device, sizes: list[Size], seconds: float) -> pd.DataFrame:
    """All contenders that are installed at all `sizes`; says which are not.

    "of best peer" compares with the fastest peer as it comes; "memory kept" gives a peer our allocator's setting, too.
    """
    present = installed(list(CONTENDERS.values()))
    tables = []
    for size in sizes:
        rows = pd.DataFrame(measure(size, present, device, seconds))
        as_they_come = ~rows["contender"].str.startswith("ours") & ~rows["contender"].str.endswith("memory kept")
        peers = rows[as_they_come]["tokens/s"]
        rows["of best peer"] = rows["tokens/s"] / peers.max() if len(peers) else float("nan")
        tables.append(rows)
        print(rows.to_string(index=False, float_format="{:,.2f}".format) + "\n")
    return pd.concat(tables)


def draw_bench(table: pd.DataFrame) -> Figure:
    """Tokens per second of every contender, one panel a size."""
    sizes = list(dict.fromkeys(table["size"]))
    figure = Figure(figsize=(11, 2.6 * len(sizes)), layout="constrained")
    for axes, size in zip(np.atleast_1d(figure.subplots(len(sizes), 1)), sizes, strict=True):
        rows = table[table["size"] == size].iloc[::-1]
        colors = ["tab:blue" if name.startswith("ours") else "tab:gray" for name in rows["contender"]]
        bars = axes.barh(rows["contender"], rows["tokens/s"], color=colors)
        axes.bar_label(bars, fmt="{:,.0f}", padding=3)
        axes.set(title=size, xlabel="training, tokens per second")
        axes.margins(x=0.12)
    return figure
