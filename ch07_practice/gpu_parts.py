"""What is measured on a GPU: GPT-2 124M, nanoGPT's characters, `make run`, the tests.

Each function hands every finding to `report` as soon as it has it. Device and sizes are arguments,
so that a CPU can run all of it in small.
"""

import shlex
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch

from ch01_text import RandomWindows, sequential_windows
from ch03_gpt import GPTConfig, GPTModel, flops_per_token, matmul_peak, pick_precision
from ch04_pretraining import evaluate_loss, train
from ch04_pretraining.dataset import load_dataset
from ch04_pretraining.loss import next_token_loss
from ch04_pretraining.optimizer import make_optimizers
from ch04_pretraining.schedule import warmup_cosine
from ch04_pretraining.training import TrainState, train_step
from ch07_practice.contest import wait_for
from ch07_practice.report import find_stages
from ch07_practice.training_bench import GPU_SIZES, text_tokens

ROOT = Path(__file__).parents[1]
# nanoGPT's
CHARACTERS = GPTConfig(66, 256, 384, 6, 6, drop_rate=0.2, bias=False, tie_embeddings=True)
Report = Callable[[dict], None]


def gpt2_speed(
    report: Report,
    device: torch.device,
    config: GPTConfig = GPU_SIZES["gpt2-124m"].config,
    batch_size: int = 32,
    grad_accumulation: int = 16,
    seconds: float = 30.0,
    compiled: Sequence[bool] = (False, True),
) -> None:
    """Tokens a second of updates on half a million tokens in bfloat16, without and with
    torch.compile; MFU is the share of what a large matrix product reaches.
    """
    precision, flops = pick_precision(device, "bfloat16"), 3 * flops_per_token(config)
    tokens, peak = text_tokens(config.vocab_size), matmul_peak(device, precision.dtype)
    for compile_blocks in compiled:
        torch.manual_seed(0)
        model = GPTModel(config).to(device).train()
        if compile_blocks:
            for block in model.trf_blocks:
                block.compile()
        batches = RandomWindows(
            tokens,
            config.context_length,
            batch_size,
            torch.Generator().manual_seed(0),
            device=device,
        )
        step = partial(
            train_step,
            model,
            batches,
            next_token_loss,
            make_optimizers(model, "adamw", lr=6e-4),
            grad_accumulation,
            1.0,
            precision,
        )
        times, began = [], time.perf_counter()
        while len(times) < 3 or time.perf_counter() - began < seconds:
            started = time.perf_counter()
            n_tokens = step()[1]
            wait_for(device)
            times.append(time.perf_counter() - started)
        speed = n_tokens / statistics.median(times[1:])
        report(
            {
                "compiled": compile_blocks,
                "tokens a step": n_tokens,
                "tokens/s": speed,
                "MFU": speed * flops / peak,
                "matrix products, TFLOP/s": peak / 1e12,
                "first step, s": times[0],
                "steps timed": len(times) - 1,
            }
        )


def characters(
    report: Report,
    device: torch.device,
    data: str = "tinyshakespeare",
    config: GPTConfig = CHARACTERS,
    batch_size: int = 64,
    steps: int = 5000,
    every: int = 250,
    target: float = 1.4697,
) -> None:
    """nanoGPT's small Shakespeare with its AdamW, until the validation loss is `target` (the one
    that its README states) or the steps are over; the seconds count from the first step and include
    the validations.
    """
    corpus = load_dataset(data, "char", config.vocab_size, ROOT, seed=0)
    torch.manual_seed(0)
    model = GPTModel(replace(config, vocab_size=corpus.tokenizer.n_vocab)).to(device)
    precision, T = pick_precision(device), config.context_length
    batches = RandomWindows(
        corpus.train, T, batch_size, torch.Generator().manual_seed(0), device=device
    )
    losses, began = [], time.perf_counter()

    def evaluate(progress: TrainState) -> dict:
        if progress.step % every:
            return {}
        windows = sequential_windows(corpus.val, T, batch_size, device)
        losses.append(evaluate_loss(model, windows, precision)[0])
        report(
            {
                "step": progress.step,
                "validation loss": losses[-1],
                "seconds": time.perf_counter() - began,
                "target reached": losses[-1] <= target,
            }
        )
        return {"val_loss": losses[-1]}

    train(
        model,
        batches,
        next_token_loss,
        steps=steps,
        optimizers=make_optimizers(model, "adamw", lr=1e-3),
        schedule=warmup_cosine(warmup=0.02, final=0.1),
        precision=precision,
        evaluate=evaluate,
        should_stop=lambda: bool(losses) and losses[-1] <= target,
        description="characters",
    )


def make_run(report: Report, run: Path, command: Sequence[str] = ("make", "run")) -> None:
    """The main job as a reader starts it, into the folder `run`: a row a stage with its device
    and its seconds.
    """
    began = time.perf_counter()
    done = subprocess.run(
        [*command, f"RUN={run.absolute()}"],
        cwd=ROOT,
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        check=False,
    )
    if done.returncode:
        raise RuntimeError(
            f"{' '.join(command)} ended with {done.returncode}: {done.stderr.strip()[-300:]}"
        )
    for stage in find_stages(run):
        report(
            {
                "stage": stage.title,
                "device": stage.metrics.get("device"),
                "seconds": stage.metrics["wall_seconds"],
            }
        )
    report({"stage": "all, with installation", "seconds": time.perf_counter() - began})


def _pytest(selection: Sequence[str], seconds: float) -> list[str]:
    """What pytest prints; after so many seconds it is interrupted, and sums up what it has run."""
    process = subprocess.Popen(
        [sys.executable, "-m", "pytest", "-q", *selection],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
    )
    try:
        output = process.communicate(timeout=seconds)[0]
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGINT)
        output = process.communicate(timeout=30)[0]
        output += f"(stopped after {seconds:.0f} s)"
    return output.strip().splitlines()


def run_tests(
    report: Report,
    seconds: float,
    selections: Sequence[Sequence[str]] = (("-m", "gpu"), ("-m", "not gpu and not slow")),
) -> None:
    """pytest on each selection, and its last lines; all together in so many seconds."""
    deadline = time.perf_counter() + seconds
    for selection in selections:
        started = time.perf_counter()
        lines = _pytest(selection, max(1.0, deadline - started))
        report(
            {
                "pytest": shlex.join(selection),
                "seconds": time.perf_counter() - started,
                "result": " ".join(lines[-2:]),
                "failed": [line for line in lines if line.startswith("FAILED")],
            }
        )
