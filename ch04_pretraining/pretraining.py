"""A whole pretraining run, from settings to a folder with checkpoint, metrics and plots.

`main.py` calls it for the command line; later chapters call it when they need a model.
"""

import sys
import time
from dataclasses import replace
from pathlib import Path

import torch

from ch01_text.run import chapter_folder, write_metrics
from ch03_gpt import GPTModel, Precision, pick_device, pick_precision, preset_config
from ch04_pretraining.checkpoint import find_checkpoint, read_training_state, unsharded_copy
from ch04_pretraining.config import PretrainConfig, fill_in
from ch04_pretraining.dataset import load_dataset
from ch04_pretraining.hf_weights import from_pretrained, tokenizer_of
from ch04_pretraining.loss import next_token_loss
from ch04_pretraining.parallel import init_distributed, is_rank_zero, rank_zero_first
from ch04_pretraining.plots import draw_dashboard, draw_losses, draw_samples
from ch04_pretraining.trainer import Trainer

CHAPTER = "ch04_pretraining"


def print_summary(metrics: dict, folder: Path) -> None:
    """A short table of the results, and the last sample."""
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


def draw_plots(trainer: Trainer) -> None:
    """losses.png, dashboard.png and samples.png."""
    log, folder, dataset = trainer.state.log, trainer.folder, trainer.dataset
    note = "" if dataset.loss_fn is next_token_loss else " (the training loss is weighted)"
    title = f"pretraining on {dataset.name}{note}"
    draw_losses(log, title=title).savefig(folder / "losses.png", dpi=120)
    draw_dashboard(log).savefig(folder / "dashboard.png", dpi=110)
    draw_samples(log).savefig(folder / "samples.png", dpi=110)


def make_trainer(
    config: PretrainConfig, precision: Precision, run: Path, checkpoint: Path | None
) -> Trainer:
    """Load the data, build the model or load its weights, and make a `Trainer` of them, which
    resumes from `checkpoint` if that is given.
    """
    assert config.data and config.tokenizer and config.preset  # filled in
    saved = read_training_state(checkpoint) if checkpoint else None
    if saved:
        config.check_resumable(saved["settings"])
    torch.manual_seed(config.seed)
    fresh = preset_config(config.preset)
    weights = str(checkpoint) if checkpoint else config.init
    model = from_pretrained(weights) if weights else None
    with rank_zero_first():
        dataset = load_dataset(
            config.data,
            config.tokenizer,
            fresh.vocab_size,
            run,
            config.seed,
            tokenizer_of(weights) if weights else None,
        )
    model = model or GPTModel(replace(fresh, vocab_size=dataset.tokenizer.n_vocab))
    model.to(precision.device)
    if config.compile:
        for block in model.trf_blocks:
            block.compile()
    trainer = Trainer(config, dataset, model, precision, run / CHAPTER)
    if saved:
        trainer.resume(saved)
    return trainer


def pretrain(
    config: PretrainConfig, *, run: str | Path, device: str = "auto", resume: bool = False
) -> dict:
    """Train as `config`, filled in, says; write checkpoint, metrics and plots to
    `run`/ch04_pretraining; return the metrics.

    `resume` continues from the checkpoint there. ValueError or OSError says what is wrong with
    settings or data before anything is written.
    """
    began, run = time.perf_counter(), Path(run)
    with init_distributed(config.strategy, pick_device(device)) as where:
        precision = pick_precision(where, config.dtype)
        checkpoint = find_checkpoint(run / CHAPTER / "checkpoint") if resume else None
        if resume and checkpoint is None:
            raise FileNotFoundError(
                f"there is nothing to resume in {run / CHAPTER}; start without --resume"
            )
        trainer = make_trainer(config, precision, run, checkpoint)
        folder = chapter_folder(run, CHAPTER)
        (folder / "metrics.json").unlink(missing_ok=True)  # from an earlier run
        print(
            f"{trainer.model.n_parameters():,} parameters, {trainer.dataset.n_train:,} tokens to"
            f" learn from; {precision}\n{trainer.plan()}"
        )
        trainer.train()
        model = unsharded_copy(trainer.model)
        metrics = trainer.summary(model) | trainer.dataset.final_metrics(model, precision)
        metrics["wall_seconds"] = time.perf_counter() - began
        if is_rank_zero():
            write_metrics(folder, metrics)
            draw_plots(trainer)
        print_summary(metrics, folder)
    return metrics


def ensure_pretrained(run: str | Path, config: PretrainConfig = PretrainConfig()) -> Path:
    """The checkpoint of a run; if there is none yet, pretrain a model first, as `config` says."""
    folder = Path(run) / CHAPTER / "checkpoint"
    checkpoint = find_checkpoint(folder)
    if checkpoint is None:
        print(f"there is no model in {run} yet: chapter 4 pretrains one first", file=sys.stderr)
        pretrain(fill_in(config), run=run)
        checkpoint = find_checkpoint(folder)
        assert checkpoint is not None
    return checkpoint
