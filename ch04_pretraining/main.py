"""Chapter 4: pretrain a GPT on a text, watch it learn, and save it."""

import math
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Literal

import torch

from ch01_text.run import chapter_folder, command_line, write_metrics
from ch03_gpt import GPTModel, Precision, pick_device, pick_precision, preset_config
from ch04_pretraining.checkpoint import find_checkpoint, read_training_state, unsharded_copy
from ch04_pretraining.corpus import load_corpus
from ch04_pretraining.experiment import Experiment
from ch04_pretraining.hf_weights import from_pretrained, tokenizer_of
from ch04_pretraining.parallel import first_process_first, is_first_process, processes
from ch04_pretraining.plots import draw_dashboard, draw_losses, draw_samples
from ch04_pretraining.questions import measure_understanding
from ch04_pretraining.recipes import BUDGETS, Recipe, choose_recipe

CHAPTER = "ch04_pretraining"


def check_settings(saved: dict, wanted: dict) -> None:
    """Refuse to continue a run with settings under which it was not begun."""
    for name, value in wanted.items():
        if name not in BUDGETS and saved.get(name) != value:
            raise ValueError(
                f"the checkpoint was begun with {name}={saved.get(name)}, not {value}; "
                "resume with the same settings, or start anew without --resume"
            )


def print_summary(metrics: dict, folder: Path) -> None:
    """A short table of what was reached, and the last sample."""
    held_out = metrics["copied_8grams_held_out"]
    rows = {
        "parameters": f"{metrics['n_params']:,}",
        "held-out loss": f"{metrics['val_loss']:.3f} nats per token",
        "bits per byte": f"{metrics['val_bits_per_byte']:.3f}",
        "copied 8-grams": (
            f"{metrics['copied_8grams']:.1%} of what it writes"
            + ("" if held_out is None else f" ({held_out:.1%} of the held-out text)")
        ),
        "training": (
            f"{metrics['steps']:,} steps, {metrics['tokens']:,} tokens, {metrics['seconds']:.1f} s"
            f" (ended by its {metrics['ended_by']}; {metrics['wall_seconds']:.0f} s with data,"
            " validation and samples)"
        ),
        "speed": (
            f"{metrics['tokens_per_s']:,.0f} tokens/s, {metrics['mfu']:.0%} of the matrix-product"
            " peak"
        ),
        "saved in": f"{folder / 'checkpoint'} (lowest validation loss: {folder / 'best'})",
    }
    for name, value in rows.items():
        print(f"{name:<16}{value}")
    print(f"\nsample after {metrics['steps']} steps:\n{metrics['samples'][-1]['text']}")


def draw_plots(log: list[dict], data: str, folder: Path) -> None:
    """losses.png, dashboard.png and samples.png."""
    note = " (the training loss counts answers more)" if data == "storyworld" else ""
    draw_losses(log, title=f"pretraining on {data}{note}").savefig(folder / "losses.png", dpi=120)
    draw_dashboard(log).savefig(folder / "dashboard.png", dpi=110)
    draw_samples(log).savefig(folder / "samples.png", dpi=110)


def pretrain(
    recipe: Recipe,
    settings: dict,
    precision: Precision,
    *,
    compile: bool,
    resume: bool,
    tensorboard: bool,
    strategy: str,
    run: Path,
) -> dict:
    """What each process does; returns the metrics."""
    began = time.perf_counter()
    checkpoint = find_checkpoint(Path(run) / CHAPTER / "checkpoint") if resume else None
    if resume and checkpoint is None:
        raise FileNotFoundError(
            f"there is nothing to resume in {Path(run) / CHAPTER}; start without --resume"
        )
    state = read_training_state(checkpoint) if checkpoint else None
    if state:
        check_settings(state["settings"], settings)
    torch.manual_seed(settings["seed"])
    fresh = preset_config(recipe.preset)
    weights = str(checkpoint) if checkpoint else settings["init"]
    model = from_pretrained(weights) if weights else None
    with first_process_first():
        corpus = load_corpus(
            recipe.data,
            recipe.tokenizer,
            fresh.vocab_size,
            run,
            settings["seed"],
            tokenizer_of(weights) if weights else None,
        )
    model = (model or GPTModel(replace(fresh, vocab_size=corpus.tokenizer.n_vocab))).to(
        precision.device
    )
    if compile:
        for block in model.trf_blocks:
            block.compile()

    experiment = Experiment(
        Path(run) / CHAPTER, corpus, model, precision, recipe, settings, strategy
    )
    if state:
        experiment.resume(state)
    folder = chapter_folder(run, CHAPTER)
    (folder / "metrics.json").unlink(missing_ok=True)  # of an earlier run
    print(
        f"{model.n_parameters():,} parameters, {corpus.n_train:,} tokens to learn from; {precision}"
    )
    print(experiment.plan())
    experiment.train(tensorboard)
    model = unsharded_copy(model)
    metrics = experiment.summary(model)
    if recipe.data == "storyworld":
        print("asking questions about unseen stories")
        understanding = measure_understanding(model, corpus.tokenizer, precision)
        metrics["questions"] = understanding.to_dict("records")
        print(understanding.to_string(index=False, float_format="{:.1%}".format) + "\n")
    metrics["wall_seconds"] = time.perf_counter() - began
    if is_first_process():
        write_metrics(folder, metrics)
        draw_plots(experiment.progress.log, recipe.data, folder)
    print_summary(metrics, folder)
    return metrics


def main(
    data: str | None = None,
    recipe: str | None = None,
    tokenizer: str | None = None,
    preset: str | None = None,
    tokens: int | None = None,
    steps: int | None = None,
    seconds: float | None = None,
    batch_size: int | None = None,
    grad_accumulation: int | None = None,
    optimizer: Literal["muon", "adamw"] | None = None,
    lr: float | None = None,
    schedule: Literal["trapezoid", "cosine"] | None = None,
    dtype: Literal["auto", "float32", "bfloat16"] = "auto",
    compile: bool = False,
    resume: bool = False,
    init: str | None = None,
    strategy: Literal["single", "ddp", "fsdp"] = "single",
    tensorboard: bool = False,
    run: Path = Path("runs/default"),
    seed: int = 1337,
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto",
) -> dict:
    """Pretrain a GPT on a text and save it as the checkpoint that the later chapters use.

    Args:
        data: storyworld (the default), shakespeare, tinyshakespeare, the-verdict, a UTF-8 file, or
            a JSONL or parquet file or a folder of any of these, which may be larger than memory.
        recipe: Settings for what is not given here, by name: storyworld, shakespeare, chars-500k,
            chars-2m, chars-4m; by default what suits the text.
        tokenizer: bpe (chapter 1's for this text, else trained), char, gpt2, or a folder; --init
            brings its own.
        preset: Size and shape of the model.
        tokens: Stop after learning from this many tokens; by default the recipe's number (500,000;
            storyworld 2,500,000). The model is then the same on every machine. Of several budgets
            the first one ends the run.
        steps: Stop after this many updates.
        seconds: Stop after this much training time; what is learned then depends on the machine.
        batch_size: Windows in a batch, of all processes together.
        grad_accumulation: Batches in an update.
        optimizer: muon (with AdamW for embeddings and vectors), or adamw for everything.
        lr: Peak learning rate of AdamW; Muon's changes in proportion.
        schedule: How the learning rate falls: trapezoid (in a straight line, after a plateau) or
            cosine.
        dtype: Number format of matrix products; auto takes bfloat16 where the device is good at it.
        compile: Compile the blocks with torch.compile; on two CPU cores it gained next to nothing
            (speed.md).
        resume: Continue from the run folder's checkpoint.
        init: Start from these weights: a checkpoint folder, gpt2 to gpt2-xl, a Hub repository or
            its folder.
        strategy: How the processes that torchrun started share the work: ddp (whole copies) or fsdp
            (parts).
        tensorboard: Write the log for TensorBoard, too, to RUN/ch04_pretraining/tensorboard.
        run: Folder of the run; results go to RUN/ch04_pretraining.
        seed: Of weights, batches and stories.
        device: Where to compute; auto prefers a GPU.
    """
    for name, value in (
        ("tokens", tokens),
        ("steps", steps),
        ("seconds", seconds),
        ("batch-size", batch_size),
        ("lr", lr),
        ("grad-accumulation", grad_accumulation),
    ):
        if value is not None and not 0 < value < math.inf:
            raise ValueError(f"--{name} must be a positive number, not {value}")
    chosen = choose_recipe(
        recipe,
        data,
        tokenizer=tokenizer,
        preset=preset,
        tokens=tokens,
        steps=steps,
        seconds=seconds,
        batch_size=batch_size,
        grad_accumulation=grad_accumulation,
        optimizer=optimizer,
        lr=lr,
        schedule=schedule,
    )
    if strategy != "single" and chosen.seconds is not None:
        raise ValueError(
            "several processes can only stop together after a number of --tokens or --steps, not"
            " after --seconds"
        )
    settings = asdict(chosen) | {"dtype": dtype, "init": init, "seed": seed}
    with processes(strategy, pick_device(device)) as device:
        return pretrain(
            chosen,
            settings,
            pick_precision(device, dtype),
            compile=compile,
            resume=resume,
            tensorboard=tensorboard,
            strategy=strategy,
            run=run,
        )


if __name__ == "__main__":
    command_line(main)
