"""Chapter 4: pretrain a GPT on a text, watch it learn, and save it."""

import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch

from ch01_text import RandomWindows, gpt2_tokenizer, load_tokenizer
from ch01_text.run import chapter_folder, command_line, write_metrics
from ch03_gpt import (
    GPTModel,
    pick_device,
    pick_precision,
    preset_config,
)
from ch04_pretraining.checkpoint import (
    find_checkpoint,
    read_training_state,
    restore_training_state,
)
from ch04_pretraining.corpus import load_corpus
from ch04_pretraining.experiment import Experiment
from ch04_pretraining.optimizer import make_optimizers
from ch04_pretraining.plots import draw_losses
from ch04_pretraining.pretrained import from_pretrained
from ch04_pretraining.questions import measure_understanding
from ch04_pretraining.training import Progress

CHAPTER = "ch04_pretraining"


@dataclass(frozen=True)
class Recipe:
    """What suits a text where the command line does not say otherwise."""

    preset: str
    batch_size: int
    seconds: float
    prompt: str = ""  # samples begin with it; empty: with the end-of-text token


RECIPES = {"storyworld": Recipe("story", 16, 300), "shakespeare": Recipe("small", 16, 60, "ROMEO:\n")}
DEFAULT_RECIPE = Recipe("small", 16, 60)


def tokenizer_of(weights: str):
    """The tokenizer that belongs to existing weights: the one saved beside them, or GPT-2's."""
    if (Path(weights) / "tokenizer.json").is_file():
        return load_tokenizer(weights)
    return gpt2_tokenizer()


def check_settings(saved: dict, wanted: dict) -> None:
    """Refuse to continue a run with settings under which it was not begun."""
    for name, value in wanted.items():
        if name not in ("steps", "seconds") and saved.get(name) != value:
            raise ValueError(f"the checkpoint was begun with {name}={saved.get(name)}, not {value}; "
                             "resume with the same settings, or start anew without --resume")


def print_summary(metrics: dict, folder: Path) -> None:
    """A short table of what was reached, and the last sample."""
    rows = {"parameters": f"{metrics['n_params']:,}", "held-out loss": f"{metrics['val_loss']:.3f} nats per token",
            "bits per byte": f"{metrics['val_bits_per_byte']:.3f}",
            "training": f"{metrics['steps']:,} steps, {metrics['tokens']:,} tokens, {metrics['seconds']:.0f} s",
            "speed": f"{metrics['tokens_per_s']:,.0f} tokens/s, {metrics['mfu']:.0%} of the matrix-product peak",
            "saved in": str(folder / "checkpoint")}
    for name, value in rows.items():
        print(f"{name:<16}{value}")
    print(f"\nsample after {metrics['steps']} steps:\n{metrics['samples'][-1]['text']}")


def main(data: str = "storyworld", tokenizer: str = "bpe", preset: str | None = None, steps: int | None = None,
         seconds: float | None = None, batch_size: int | None = None, grad_accumulation: int = 1,
         optimizer: Literal["muon", "adamw"] = "muon", lr: float = 3e-3,
         schedule: Literal["trapezoid", "cosine"] = "trapezoid",
         dtype: Literal["auto", "float32", "bfloat16"] = "auto", compile: bool = False, resume: bool = False,
         init: str | None = None, run: Path = Path("runs/default"), seed: int = 1337,
         device: Literal["auto", "cpu", "cuda", "mps"] = "auto") -> dict:
    """Pretrain a GPT on a text and save it as the checkpoint that the later chapters use.

    Args:
        data: storyworld, shakespeare, tinyshakespeare, the-verdict, or a UTF-8 file or folder.
        tokenizer: bpe (chapter 1's for this text, else trained), char, gpt2, or a folder; --init brings its own.
        preset: Size and shape of the model; by default what suits the text.
        steps: Stop after so many updates.
        seconds: Stop after so much training time; by default 60, or 300 for storyworld.
        batch_size: Windows in a batch; by default what suits the text.
        grad_accumulation: Batches in an update.
        optimizer: muon (with AdamW for embeddings and vectors), or adamw for everything.
        lr: Peak learning rate of AdamW.
        schedule: How the learning rate falls: in a straight line after a plateau, or along a cosine.
        dtype: Number format of matrix products; auto takes bfloat16 where the device is good at it.
        compile: Compile the model with torch.compile.
        resume: Continue from the run folder's checkpoint.
        init: Start from these weights: a checkpoint folder, gpt2 to gpt2-xl, a Hub repository or its folder.
        run: Folder of the run; results go to RUN/ch04_pretraining.
        seed: Of weights, batches and stories.
        device: Where to compute; auto prefers a GPU.
    """
    began = time.perf_counter()
    for name, value in (("steps", steps), ("seconds", seconds), ("batch-size", batch_size), ("lr", lr),
                        ("grad-accumulation", grad_accumulation)):
        if value is not None and value <= 0:
            raise ValueError(f"--{name} must be positive, not {value}")
    precision = pick_precision(pick_device(device), dtype)
    recipe = RECIPES.get(data, DEFAULT_RECIPE)
    recipe = replace(recipe, preset=preset or recipe.preset, batch_size=batch_size or recipe.batch_size)
    seconds = seconds if steps or seconds else recipe.seconds
    settings = {"data": data, "tokenizer": tokenizer, "preset": recipe.preset, "batch_size": recipe.batch_size,
                "grad_accumulation": grad_accumulation, "optimizer": optimizer, "lr": lr, "schedule": schedule,
                "dtype": dtype, "init": init, "seed": seed, "steps": steps, "seconds": seconds}
    checkpoint = find_checkpoint(Path(run) / CHAPTER / "checkpoint") if resume else None
    if resume and checkpoint is None:
        raise FileNotFoundError(f"there is nothing to resume in {Path(run) / CHAPTER}; start without --resume")

    if checkpoint:
        state = read_training_state(checkpoint)
        check_settings(state["settings"], settings)
    torch.manual_seed(seed)
    fresh = preset_config(recipe.preset)
    weights = str(checkpoint) if checkpoint else init
    model = from_pretrained(weights) if weights else None
    corpus = load_corpus(data, tokenizer, fresh.vocab_size, run, seed, tokenizer_of(weights) if weights else None)
    model = model or GPTModel(replace(fresh, vocab_size=corpus.tokenizer.n_vocab))
    model = model.to(precision.device)
    optimizers = make_optimizers(model, optimizer, lr=lr)
    batches = RandomWindows(corpus.train, model.config.context_length, recipe.batch_size, starts=corpus.starts,
                            generator=torch.Generator().manual_seed(seed), device=precision.device)
    progress = Progress()
    if checkpoint:
        progress = restore_training_state(state, optimizers, batches)

    folder = chapter_folder(run, CHAPTER)
    (folder / "metrics.json").unlink(missing_ok=True)  # of an earlier run
    experiment = Experiment(folder, corpus, model, optimizers, batches, precision, recipe.prompt, settings)
    print(f"{model.n_parameters():,} parameters, {len(corpus.train):,} tokens to learn from; {precision}")
    experiment.train(progress, compile, grad_accumulation)
    metrics = experiment.summary(progress)
    if data == "storyworld":
        print("asking questions about unseen stories")
        understanding = measure_understanding(model, corpus.tokenizer, precision)
        metrics["questions"] = understanding.to_dict("records")
        print(understanding.to_string(index=False, float_format="{:.1%}".format) + "\n")
    metrics["wall_seconds"] = time.perf_counter() - began
    write_metrics(folder, metrics)
    note = " (the training loss counts answers more)" if data == "storyworld" else ""
    draw_losses(progress.log, title=f"pretraining on {data}{note}").savefig(folder / "losses.png", dpi=120)
    print_summary(metrics, folder)
    return metrics


if __name__ == "__main__":
    command_line(main)
