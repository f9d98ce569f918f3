"""The settings of a pretraining run, and named recipes for those that are left open.

One dataclass serves the command line, the recipes, the checkpoint, which remembers the settings,
and `--resume`, which compares them.
"""

import os
from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass, fields, replace
from typing import Literal

from ch01_text.run import check_positive
from ch04_pretraining.parallel import Strategy

BUDGETS = ("tokens", "steps", "seconds")
# what may differ when a run is resumed: its length, and how the work is done
FREE_ON_RESUME = (*BUDGETS, "compile", "strategy", "tensorboard")


@dataclass(frozen=True)
class PretrainConfig:
    """What one run learns from and how. None means "what suits the text": see `fill_in`."""

    # What to learn from: storyworld (the default), shakespeare, tinyshakespeare, the-verdict, a
    # UTF-8 file, or a JSONL or parquet file or a folder of any of these, which may be larger than
    # memory.
    data: str | None = None
    # bpe (chapter 1's if it was trained on this text, otherwise a new one), char, gpt2, or a folder
    # with a tokenizer.json; --init brings its own.
    tokenizer: str | None = None
    # Size and shape of the model, by the name of a preset.
    preset: str | None = None
    # Stop after learning from this many tokens; by default the recipe's number (500,000; storyworld
    # 2,500,000). The first budget that is used up ends the run.
    tokens: int | None = None
    # Stop after this many updates.
    steps: int | None = None
    # Stop after this much training time. The result then depends on the machine.
    seconds: float | None = None
    # Start from these weights: a checkpoint folder, gpt2 to gpt2-xl, or a Hugging Face repository
    # or its folder.
    init: str | None = None
    # Seed of weights, batches and stories.
    seed: int = 1337

    _: KW_ONLY  # the everyday flags stand above, the others below

    # muon (with AdamW for embeddings and vectors), or adamw for everything.
    optimizer: Literal["muon", "adamw"] | None = None
    # Peak learning rate of AdamW. Muon's changes in proportion unless it is given, too.
    lr: float | None = None
    # Peak learning rate of Muon.
    muon_lr: float | None = None
    # How the learning rate falls: wsd (warm-up, stable, decay: a straight line after a plateau) or
    # cosine.
    schedule: Literal["wsd", "cosine"] | None = None
    # Sequences per batch, over all processes.
    batch_size: int | None = None
    # Batches per update. More and smaller batches give the same update with less memory.
    grad_accumulation: int | None = None
    # Number format of matrix products; auto takes bfloat16 where the device is good at it.
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    # Compile the blocks with torch.compile; on two CPU cores it gained next to nothing.
    compile: bool = False
    # How the processes that torchrun started share the work: ddp (each has a whole model) or fsdp
    # (each has a part of it).
    strategy: Strategy = "single"
    # Samples begin with this text; by default with the end-of-text token.
    prompt: str | None = None
    # Write the log for TensorBoard, too, to RUN/ch04_pretraining/tensorboard.
    tensorboard: bool = False

    def __post_init__(self):
        check_positive(self, *BUDGETS, "lr", "muon_lr", "batch_size", "grad_accumulation")
        for name in ("data", "tokenizer", "init"):
            if (value := getattr(self, name)) is not None:
                object.__setattr__(self, name, os.fspath(value))  # a Path becomes a string
        if self.strategy != "single" and self.seconds is not None:
            raise ValueError(
                "several processes can only stop together after a number of --tokens or --steps,"
                " not after --seconds"
            )

    def planned_steps(self, tokens_per_step: int) -> int | None:
        """Steps that `tokens` and `steps` allow, at least one; None if time alone ends the run."""
        limits = [self.steps] if self.steps else []
        if self.tokens:
            limits.append(max(1, round(self.tokens / tokens_per_step)))
        return min(limits, default=None)

    def check_resumable(self, saved: Mapping) -> None:
        """ValueError if a checkpoint with the settings `saved` cannot go on with these."""
        for field in fields(self):
            was, now = saved.get(field.name), getattr(self, field.name)
            if field.name not in FREE_ON_RESUME and was != now:
                raise ValueError(
                    f"the checkpoint was begun with {field.name}={was}, not {now}; "
                    "resume with the same settings, or start anew without --resume"
                )


# The rates and shapes were chosen by short runs that changed one setting at a time.
_ANY_TEXT = PretrainConfig(
    tokenizer="bpe",
    preset="small",
    tokens=500_000,
    optimizer="muon",
    lr=3e-3,
    muon_lr=2e-2,
    schedule="wsd",
    batch_size=8,
    grad_accumulation=1,
    prompt="",
)
_CHARACTERS = replace(
    _ANY_TEXT,
    data="tinyshakespeare",
    tokenizer="char",
    lr=5e-3,
    muon_lr=5e-2,
    batch_size=16,
    prompt="ROMEO:\n",
)

RECIPES: dict[str, PretrainConfig] = {
    "storyworld": replace(
        _ANY_TEXT, data="storyworld", preset="story", tokens=2_100_000, lr=5e-3, muon_lr=1.5e-2
    ),
    "shakespeare": replace(_ANY_TEXT, data="shakespeare", prompt="ROMEO:\n"),
    "chars-500k": replace(_CHARACTERS, preset="chars-3x128"),
    "chars-2m": replace(_CHARACTERS, preset="chars-4x128", tokens=2_000_000),
    "chars-4m": replace(_CHARACTERS, preset="chars-4x256", tokens=4_000_000),
}


def fill_in(config: PretrainConfig, recipe: str | None = None) -> PretrainConfig:
    """Take what `config` leaves open (None) from the recipe of that name, or from the one that
    suits its text (without a text: storyworld).

    A budget replaces all of the recipe's budgets. Without a rate of its own, Muon's follows `lr` in
    proportion. ValueError lists the recipes if there is none of that name.
    """
    if recipe is not None and recipe not in RECIPES:
        raise ValueError(f"unknown recipe {recipe!r}; choose one of {', '.join(RECIPES)}")
    base = RECIPES.get(recipe or config.data or "storyworld", _ANY_TEXT)
    given = {
        field.name: value
        for field in fields(config)
        if (value := getattr(config, field.name)) is not None
    }
    if any(budget in given for budget in BUDGETS):
        given = dict.fromkeys(BUDGETS) | given
    if "lr" in given and "muon_lr" not in given:
        given["muon_lr"] = base.muon_lr * given["lr"] / base.lr
    return replace(base, **given)
