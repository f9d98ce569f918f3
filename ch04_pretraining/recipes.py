"""Named sets of training settings: what suits a text where the command line does not say otherwise."""

from dataclasses import dataclass, replace
from typing import Literal


@dataclass(frozen=True)
class Recipe:
    data: str
    tokenizer: str = "bpe"
    preset: str = "small"
    steps: int | None = None
    seconds: float | None = 60
    batch_size: int = 16
    grad_accumulation: int = 1
    optimizer: Literal["muon", "adamw"] = "muon"
    lr: float = 3e-3  # AdamW's peak
    muon_lr: float = 2e-2  # Muon's peak
    schedule: Literal["trapezoid", "cosine"] = "trapezoid"
    prompt: str = ""  # samples begin with it; empty: with the end-of-text token

    @property
    def lesson_batches(self) -> int:
        """So many batches are of a corpus's easier texts alone, if it has some: 300, or fewer in a short run."""
        return min(300, self.steps // 7 if self.steps else int(self.seconds))


# Seconds leave room for ten validations, samples and checkpoints; the rest was chosen by the ablations in speed.md.
_CHARACTERS = Recipe("tinyshakespeare", tokenizer="char", lr=5e-3, muon_lr=5e-2, prompt="ROMEO:\n")

RECIPES: dict[str, Recipe] = {
    "storyworld": Recipe("storyworld", preset="story", seconds=300, muon_lr=1.5e-2),
    "shakespeare": Recipe("shakespeare", prompt="ROMEO:\n"),
    "chars-15s": replace(_CHARACTERS, preset="chars-15s", seconds=12),
    "chars-1min": replace(_CHARACTERS, preset="chars-1min", seconds=54),
    "chars-5min": replace(_CHARACTERS, preset="chars-5min", seconds=290),
}


def choose_recipe(name: str | None, data: str | None, **given) -> Recipe:
    """The recipe called `name`, or that of the text `data` (default: storyworld), with what is `given` (not None)
    in the place of its own. Muon's rate follows `lr` in proportion. ValueError lists the names.
    """
    if name is not None and name not in RECIPES:
        raise ValueError(f"unknown recipe {name!r}; choose one of {', '.join(RECIPES)}")
    recipe = RECIPES.get(name or data or "storyworld") or Recipe(data)
    given = {key: value for key, value in given.items() if value is not None}
    if "steps" in given and "seconds" not in given:
        given["seconds"] = None
    if "lr" in given:
        given["muon_lr"] = recipe.muon_lr * given["lr"] / recipe.lr
    return replace(recipe, data=data or recipe.data, **given)
