"""The `scaling` command: does a law fitted to small runs predict a larger one? It trains a grid of
small models, fits the law, predicts a larger run, trains that, and compares.

Every run of the grid has its own learning-rate schedule, which ends with its budget: a loss taken
from the middle of a longer run would be too high (Hoffmann et al. 2022, section 3). Budgets must
not be too small: fitted to runs of 100,000 to 800,000 tokens, the law missed a run of 1.6 million
by 22 % (storyworld) and 7 % (Shakespeare). Left out: learning rates tuned for each size, several
seeds, and more than one pass over the text, which the law does not cover.
"""

import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
import torch
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from ch01_text import (
    BPETokenizer,
    RandomWindows,
    encode_documents,
    load_documents,
    sequential_windows,
    split_documents,
)
from ch01_text.run import chapter_folder, write_atomically
from ch03_gpt import GPTConfig, GPTModel, Precision, pick_device, pick_precision, preset_config
from ch04_pretraining import TrainOptions, evaluate_loss, make_optimizers, train
from ch04_pretraining.story_corpus import story_documents
from ch07_practice.evaluation.scaling_law import ScalingLaw, fit_law, prediction_range

VOCABULARY = 512
CONTEXT, BATCH = 128, 8  # small batches, so that few tokens still make many steps
# higher than for long runs, because the embeddings must move far in a few hundred steps
LR, MUON_LR = 2e-2, 3e-2
HELD_OUT_TOKENS = 60_000
STORY_TOKENS = 200  # of an average story, to estimate how many stories to write


@dataclass(frozen=True)
class TrainingRun:
    """One training run."""

    width: int
    n_params: int
    n_tokens: int
    loss: float  # nats per held-out token
    seconds: float


@dataclass(frozen=True)
class Texts:
    """Token ids for training and for evaluation."""

    train: np.ndarray
    held_out: np.ndarray
    n_vocab: int


def shape(width: int, n_vocab: int) -> GPTConfig:
    """A small GPT: heads of width 32, one layer per 32 of width, and at least two layers."""
    return replace(
        preset_config("tiny"),
        vocab_size=n_vocab,
        context_length=CONTEXT,
        emb_dim=width,
        n_heads=max(1, width // 32),
        n_layers=max(2, round(width / 32)),
    )


def load_texts(data: str, n_tokens: int, seed: int) -> Texts:
    """About `n_tokens` of a text, or all of it if it is shorter. The vocabulary is small, so that
    even the smallest model is not mostly embeddings.
    """
    if data == "storyworld":
        train_texts = story_documents("train", n_tokens // STORY_TOKENS + 100, seed)
        held_out = story_documents("test", HELD_OUT_TOKENS // STORY_TOKENS + 100, seed)
    else:
        train_texts, held_out = split_documents(load_documents(data))
    tokenizer = BPETokenizer.train([text[:50_000] for text in train_texts[:1000]], VOCABULARY)
    return Texts(
        encode_documents(tokenizer, train_texts),
        encode_documents(tokenizer, held_out)[:HELD_OUT_TOKENS],
        tokenizer.n_vocab,
    )


def train_one(
    texts: Texts, width: int, n_tokens: int, precision: Precision, seed: int
) -> TrainingRun:
    """Train a model of the given width on `n_tokens` tokens and evaluate it."""
    torch.manual_seed(seed)
    model = GPTModel(shape(width, texts.n_vocab)).to(precision.device)
    batches = RandomWindows(
        [texts.train],
        CONTEXT,
        BATCH,
        generator=torch.Generator().manual_seed(seed),
        device=precision.device,
    )
    steps = max(1, round(n_tokens / (BATCH * CONTEXT)))
    progress = train(
        model,
        batches,
        steps=steps,
        precision=precision,
        optimizers=make_optimizers(model, lr=LR, muon_lr=MUON_LR, dtype=precision.dtype),
        options=TrainOptions(
            log_every=steps, description=f"{model.n_parameters():,} parameters, {n_tokens:,} tokens"
        ),
    )
    loss, _ = evaluate_loss(
        model,
        sequential_windows(texts.held_out, CONTEXT, batch_size=64, device=model.device),
        precision,
    )
    return TrainingRun(width, model.n_parameters(), progress.tokens, loss, progress.seconds)


def columns(runs: Sequence[TrainingRun]) -> tuple[list[int], list[int], list[float]]:
    """(parameters, tokens, losses) of the runs."""
    return (
        [run.n_params for run in runs],
        [run.n_tokens for run in runs],
        [run.loss for run in runs],
    )


def _draw_size(
    axes: Axes,
    law: ScalingLaw,
    n_params: int,
    tokens: np.ndarray,
    points: Sequence[TrainingRun],
    scale: int,
    colour,
) -> None:
    """The fitted line of one model size, dotted if it was not in the grid, and its runs. `scale`
    converts tokens to the unit of the x-axis.
    """
    axes.plot(
        tokens * scale,
        law.loss(n_params, tokens),
        color=colour,
        linewidth=1,
        linestyle="-" if points else ":",
        label=f"{n_params:,} parameters",
    )
    xs, losses = [run.n_tokens * scale for run in points], [run.loss for run in points]
    axes.plot(xs, losses, "o", color=colour)


def _draw_target(
    axes: Axes, law: ScalingLaw, target: TrainingRun, span: tuple[float, float], x: float
) -> None:
    """The prediction for the larger run with its range, and the measured loss."""
    predicted = law.loss(target.n_params, target.n_tokens)
    axes.errorbar(
        [x],
        [predicted],
        yerr=[[max(0, predicted - span[0])], [max(0, span[1] - predicted)]],
        color="#D55E00",
        marker="_",
        markersize=14,
        capsize=4,
        label=f"predicted: {predicted:.3f}",
    )
    label = f"measured afterwards: {target.loss:.3f}"
    axes.plot([x], [target.loss], "*", markersize=13, color="black", label=label)


def draw_scaling(
    runs: Sequence[TrainingRun], law: ScalingLaw, target: TrainingRun, span: tuple[float, float]
) -> Figure:
    """Loss against tokens and against compute, one line per model size: points are measured, lines
    are fitted, the bar was predicted and the star measured afterwards.
    """
    figure = Figure(figsize=(11, 4.5), layout="constrained")
    by_tokens, by_compute = figure.subplots(1, 2)
    sizes = sorted({run.n_params for run in runs} | {target.n_params})
    tokens = np.geomspace(min(run.n_tokens for run in runs), 1.3 * target.n_tokens, 60)
    for number, n in enumerate(sizes):
        colour = colormaps["viridis"](number / len(sizes))
        points = [run for run in runs if run.n_params == n]
        for axes, scale in ((by_tokens, 1), (by_compute, 6 * n)):
            _draw_size(axes, law, n, tokens, points, scale, colour)
    _draw_target(by_tokens, law, target, span, target.n_tokens)
    _draw_target(by_compute, law, target, span, 6 * target.n_params * target.n_tokens)
    flops = np.geomspace(6 * sizes[0] * tokens[0], 6 * sizes[-1] * tokens[-1], 60)
    best = [law.loss(*law.best_size(one)) for one in flops]
    by_compute.plot(flops, best, "--", color="#555555", label="best size for the compute")
    for axes, label in ((by_tokens, "tokens"), (by_compute, "training operations (6 N D)")):
        axes.set(xscale="log", xlabel=label, ylabel="held-out loss (nats per token)")
        axes.grid(alpha=0.3)
    by_tokens.xaxis.set_minor_formatter(NullFormatter())
    by_compute.legend(fontsize=7)
    formula = f"L(N, D) = {law.E:.3g} + {law.A:.4g} / N^{law.a:.3f} + {law.B:.4g} / D^{law.b:.3f}"
    figure.suptitle(formula, fontsize=10)
    return figure


def check_grid(
    widths: Sequence[int], budgets: Sequence[int], target_width: int, target_tokens: int
) -> None:
    """ValueError, before any training, if the law cannot be fitted to the grid or the target is not
    larger than the grid.
    """
    for width in (*widths, target_width):
        if width < 16 or (width % 32 and width != 16):
            raise ValueError(f"a width of {width} is not supported; choose 16 or multiples of 32")
    if min(len(set(widths)), len(set(budgets))) < 3:
        raise ValueError(
            f"{len(set(widths))} widths and {len(set(budgets))} budgets do not determine the law; "
            "choose at least 3 of each"
        )
    if min(budgets) < BATCH * CONTEXT:
        raise ValueError(
            f"a budget of {min(budgets)} tokens is less than one step of {BATCH * CONTEXT};"
            " choose more"
        )
    if target_width <= max(widths) or target_tokens <= max(budgets):
        raise ValueError(
            f"the target run, width {target_width} and {target_tokens} tokens, must be larger than"
            f" the whole grid, which reaches width {max(widths)} and {max(budgets)} tokens"
        )


def scaling(
    data: Literal["storyworld", "shakespeare"] = "storyworld",
    widths: tuple[int, ...] = (32, 64, 96),
    budgets: tuple[int, ...] = (400_000, 800_000, 1_600_000, 3_200_000),
    target_width: int = 128,
    target_tokens: int = 4_800_000,
    dtype: Literal["auto", "float32", "bfloat16"] = "auto",
    run: Path = Path("runs/default"),
    seed: int = 1337,
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto",
) -> dict:
    """Train small models, fit the scaling law, predict a larger run, train that, and compare.

    Args:
        data: The training text.
        widths: Widths of the models of the grid; 16 or multiples of 32.
        budgets: Training tokens; every width is trained with each.
        target_width: Width of the larger model, which the fit does not use.
        target_tokens: Training tokens of the larger model.
        dtype: Number format of matrix products; auto takes bfloat16 where the device computes it
            fast.
        run: Folder of the run; results go to RUN/ch07_practice/scaling_DATA.json and .png.
        seed: Seed for weights, batches and stories.
        device: Where to compute; auto prefers a GPU.
    """
    check_grid(widths, budgets, target_width, target_tokens)
    began, precision = time.perf_counter(), pick_precision(pick_device(device), dtype)
    folder = chapter_folder(run, "ch07_practice")
    texts = load_texts(data, target_tokens, seed)
    print(f"{len(texts.train):,} training tokens; {precision}")
    runs = [
        train_one(texts, width, budget, precision, seed) for width in widths for budget in budgets
    ]
    grid = columns(runs)
    law = fit_law(*grid)
    n_target = GPTModel(shape(target_width, texts.n_vocab)).n_parameters()
    predicted = law.loss(n_target, target_tokens)
    span = prediction_range(law, *grid, (n_target, target_tokens))
    print(
        pd.DataFrame(runs)
        .pivot(index="n_params", columns="n_tokens", values="loss")
        .to_string(float_format="{:.3f}".format)
    )
    print(f"L(N, D) = {law.E:.3f} + {law.A:.4g} / N^{law.a:.3f} + {law.B:.4g} / D^{law.b:.3f}")
    print(
        f"predicted for {n_target:,} parameters and {target_tokens:,} tokens: {predicted:.3f} "
        f"({span[0]:.3f}-{span[1]:.3f} with any one run left out)"
    )
    target = train_one(texts, target_width, target_tokens, precision, seed)
    error, best_seen = predicted / target.loss - 1, min(grid[2])
    print(
        f"measured afterwards: {target.loss:.3f}; the prediction is off by {error:+.1%}, the lowest"
        f" loss of the grid by {best_seen / target.loss - 1:+.1%}"
    )
    result = {
        "data": data,
        "law": asdict(law),
        "runs": [asdict(one) for one in runs],
        "target": asdict(target),
        "predicted": predicted,
        "predicted_low": span[0],
        "predicted_high": span[1],
        "error": error,
        "best_of_grid": best_seen,
        "passes": target_tokens / len(texts.train),
        "wall_seconds": time.perf_counter() - began,
    }
    write_atomically(folder / f"scaling_{data}.json", json.dumps(result, indent=2) + "\n")
    draw_scaling(runs, law, target, span).savefig(folder / f"scaling_{data}.png", dpi=110)
    print(f"saved in {folder / f'scaling_{data}.json'} and .png")
    return result
