"""Chapter 3: what a GPT costs, what it generates before training, and how much a cache saves."""

import os
import time
from dataclasses import replace
from pathlib import Path
from typing import Literal

import pandas as pd
import torch
from matplotlib.figure import Figure
from tqdm import tqdm

from ch01_text import BPETokenizer, Tokenizer, load_text, load_tokenizer
from ch01_text.run import chapter_folder, command_line, write_metrics
from ch03_gpt import (
    PRESETS,
    GPTConfig,
    GPTModel,
    Precision,
    cache_bytes_per_token,
    flops_per_token,
    generate,
    pick_device,
    pick_precision,
    preset_config,
)

CHAPTER = "ch03_gpt"
SHARE_OF_MEMORY = 0.4  # a model whose float32 weights need more than this is counted, but not run


def count_parameters(config: GPTConfig) -> int:
    """Number of parameters, counted on a model without memory."""
    with torch.device("meta"):
        return GPTModel(config).n_parameters()


def cost_table(names: list[str]) -> pd.DataFrame:
    """Parameters, work and memory of presets, at their full context length."""
    rows = []
    for name in names:
        config, n = PRESETS[name], count_parameters(PRESETS[name])
        rows.append(
            {
                "preset": name,
                "parameters": f"{n:,}",
                "MFLOP/token": f"{flops_per_token(config) / 1e6:,.1f}",
                "weights, float32": f"{4 * n / 2**20:,.0f} MiB",
                "to train (AdamW)": f"{16 * n / 2**20:,.0f} MiB",
                "cache/token, bf16": f"{cache_bytes_per_token(config) / 2**10:,.1f} KiB",
            }
        )
    return pd.DataFrame(rows)


def fits_memory(n_params: int) -> bool:
    """Whether a model's float32 weights fit comfortably into this machine's memory."""
    memory = (
        os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        if hasattr(os, "sysconf")
        else 8 * 2**30
    )
    return 4 * n_params < SHARE_OF_MEMORY * memory


def find_tokenizer(run: Path) -> Tokenizer:
    """Chapter 1's tokenizer from the run folder, or one trained here on some Shakespeare."""
    folder = Path(run) / "ch01_text"
    if (folder / "tokenizer.json").is_file():
        return load_tokenizer(folder)
    print(f"no tokenizer in {folder}: training a small one on Shakespeare")
    return BPETokenizer.train(load_text("shakespeare")[:500_000], 1024)


def babble(config: GPTConfig, tokenizer, precision: Precision, seed: int) -> str:
    """What a model of this shape generates with random weights."""
    torch.manual_seed(seed)
    model = GPTModel(replace(config, vocab_size=tokenizer.n_vocab)).to(
        precision.device, precision.dtype
    )
    start = torch.tensor([[tokenizer.eot_id]], device=precision.device)
    generator = torch.Generator(precision.device).manual_seed(seed)
    ids = generate(model, start, 30, temperature=1.0, generator=generator)
    return tokenizer.decode(ids[0, 1:].tolist())


def time_generation(model: GPTModel, lengths: list[int]) -> pd.DataFrame:
    """Seconds to generate n tokens greedily, with the cache (the best of three) and without it
    (once, which takes long enough).
    """
    prompt = torch.zeros(1, 1, dtype=torch.long, device=model.device)
    rows = []
    for n in tqdm(lengths, desc="timing generation", disable=None):
        row = {"new tokens": n}
        for name, use_cache, repeats in (("cached", True, 3), ("uncached", False, 1)):
            seconds = []
            for _ in range(repeats):
                started = time.perf_counter()
                generate(model, prompt, n, use_cache=use_cache)[0, -1].item()
                seconds.append(time.perf_counter() - started)
            row[name] = min(seconds)
        rows.append(row)
    return pd.DataFrame(rows)


def draw_timing(timing: pd.DataFrame, name: str) -> Figure:
    """Seconds against new tokens: a straight line with the cache, a curve without."""
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    for column, style in (("uncached", "s--"), ("cached", "o-")):
        axes.plot(timing["new tokens"], timing[column], style, label=column)
    axes.set(
        xlabel="new tokens",
        ylabel="seconds",
        ylim=(0, None),
        title=f"generating with {name}, with and without the key/value cache",
    )
    axes.grid(alpha=0.3)
    axes.legend()
    return figure


def main(
    preset: str = "small",
    run: Path = Path("runs/default"),
    seed: int = 1337,
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto",
) -> dict:
    """Count what models cost, generate with an untrained one, and time its key/value cache.

    Args:
        preset: The model to run; all presets are counted.
        run: Folder of the run; results go to RUN/ch03_gpt.
        seed: Of the random weights and samples.
        device: Where to compute; auto prefers a GPU.
    """
    began = time.perf_counter()
    config = preset_config(preset)
    precision = pick_precision(pick_device(device))
    folder = chapter_folder(run, CHAPTER)
    print(cost_table(list(PRESETS)).to_string(index=False))
    n_params = count_parameters(config)
    metrics = {
        "preset": preset,
        "n_params": n_params,
        "flops_per_token": flops_per_token(config),
        "cache_bytes_per_token": cache_bytes_per_token(config),
        "tokens_per_s": None,
        "cached_speedup": None,
        "wall_seconds": time.perf_counter() - began,
    }
    if not fits_memory(n_params):
        print(f"\n{preset} is counted only: its weights are too large for this machine's memory")
        return write_metrics(folder, metrics)

    print(f"\n{precision}")
    print(
        "an untrained model of this shape generates:"
        f" {babble(config, find_tokenizer(run), precision, seed)!r}\n"
    )
    torch.manual_seed(seed)
    model = GPTModel(config).to(precision.device, precision.dtype).eval()
    longest = min(config.context_length - 1, 192 if n_params < 30e6 else 48)
    timing = time_generation(model, [longest // 4, longest // 2, longest])
    last = timing.iloc[-1]
    write_metrics(
        folder,
        metrics := metrics
        | {
            "tokens_per_s": last["new tokens"] / last["cached"],
            "cached_speedup": last["uncached"] / last["cached"],
            "wall_seconds": time.perf_counter() - began,
        },
    )
    print(timing.to_string(index=False, float_format="%.3f s"))
    print(
        f"\nwith the cache {metrics['tokens_per_s']:,.0f} tokens/s, {metrics['cached_speedup']:.1f}"
        " times as fast"
    )
    draw_timing(timing, preset).savefig(folder / "cache.png", dpi=120)
    return metrics


if __name__ == "__main__":
    command_line(main)
