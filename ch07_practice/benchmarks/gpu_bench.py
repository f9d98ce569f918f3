"""What a data-centre GPU does in a few minutes: GPT-2 124M's training speed, and the time nanoGPT's
small Shakespeare model takes to reach its published loss.

Each part runs in a process of its own, with a time limit, and its results are saved at once; a part
that fails says why, and the next one begins. Device and sizes are arguments, so that a CPU can run
all of it in small.
"""

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch

from ch01_text import RandomWindows, sequential_windows
from ch03_gpt import GPTConfig, GPTModel, flops_per_token, matmul_peak, pick_precision
from ch04_pretraining import TrainOptions, evaluate_loss, train
from ch04_pretraining.dataset import load_dataset
from ch04_pretraining.loss import next_token_loss
from ch04_pretraining.optimizer import make_optimizers
from ch04_pretraining.schedule import warmup_cosine
from ch04_pretraining.training import TrainState, train_step
from ch07_practice.benchmarks.benchmark_runner import Rows, run_in_process, synchronize
from ch07_practice.benchmarks.machine import instruction_set
from ch07_practice.benchmarks.training_bench import GPU_SIZES, text_tokens

# nanoGPT's configuration for characters of Shakespeare
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
    """Training speed with half a million tokens per step in bfloat16, without and with
    torch.compile. MFU is relative to the speed of a large matrix product on the same device.
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
            precision,
            TrainOptions(grad_accumulation=grad_accumulation),
        )
        times: list[float] = []
        began = time.perf_counter()
        while len(times) < 3 or time.perf_counter() - began < seconds:
            started = time.perf_counter()
            n_tokens = step()[1]
            synchronize(device)
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
    """Train nanoGPT's small Shakespeare model with its AdamW until the validation loss reaches
    `target`, which nanoGPT's README reports, or `steps` are done. The time counts from the first
    step and includes the validations.
    """
    corpus = load_dataset(data, "char", config.vocab_size, Path(), seed=0)
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
        precision=precision,
        options=TrainOptions(
            schedule=warmup_cosine(warmup=0.02, final=0.1),
            evaluate=evaluate,
            should_stop=lambda: bool(losses) and losses[-1] <= target,
            description="characters",
        ),
    )


@dataclass(frozen=True)
class Part:
    name: str
    seconds: float  # time limit; a part may also use what earlier parts left over
    work: Callable[..., None]
    arguments: tuple


def parts(device: torch.device) -> list[Part]:
    """Both parts, at most five minutes together."""
    return [
        Part("gpt2-124m", 150, gpt2_speed, (device,)),
        Part("characters", 150, characters, (device,)),
    ]


def run_parts(
    all_parts: Sequence[Part], device: torch.device, save: Callable[[Rows], None]
) -> Rows:
    """One row per part: its time, how it ended, and its results. `save` receives all rows so far
    whenever there is something new.
    """
    rows: Rows = []
    deadline = time.perf_counter()
    for number, part in enumerate(all_parts, 1):
        deadline += part.seconds
        began = time.perf_counter()
        results: list[dict] = []
        print(
            f"{part.name} ({number} of {len(all_parts)}): at most {deadline - began:.0f} seconds, "
            f"then at most {sum(later.seconds for later in all_parts[number:]):.0f}"
        )
        rows.append(
            {"part": part.name, "instruction set": instruction_set(device), "results": results}
        )
        try:
            for one in run_in_process(
                part.name, part.work, *part.arguments, seconds=deadline - began
            ):
                results.append(one)
                print("  " + ", ".join(f"{name} {_short(value)}" for name, value in one.items()))
                save(rows)
            outcome = "finished"
        except (ValueError, OSError, RuntimeError) as error:
            outcome = str(error)
        seconds = time.perf_counter() - began
        rows[-1] |= {"outcome": outcome, "seconds": seconds}
        print(f"{part.name}: {outcome}, {seconds:.0f} s\n")
        save(rows)
    return rows


def _short(value) -> str:
    return f"{value:,.4g}" if isinstance(value, float) else str(value)
