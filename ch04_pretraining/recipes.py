"""Named sets of training settings: what suits a text where the command line does not say
otherwise.
"""

from dataclasses import dataclass, replace
from typing import Literal

BUDGETS = ("tokens", "steps", "seconds")


@dataclass(frozen=True)
class Recipe:
    data: str
    tokenizer: str = "bpe"
    preset: str = "small"
    tokens: int | None = 500_000  # to learn from; the first budget that is used up ends the run
    steps: int | None = None  # updates
    seconds: float | None = None  # of training; what is learned in them depends on the machine
    batch_size: int = 8
    grad_accumulation: int = 1
    optimizer: Literal["muon", "adamw"] = "muon"
    lr: float = 3e-3  # AdamW's peak
    muon_lr: float = 2e-2  # Muon's peak
    schedule: Literal["trapezoid", "cosine"] = "trapezoid"
    prompt: str = ""  # samples begin with it; empty: with the end-of-text token

    def planned_steps(self, tokens_per_step: int) -> int | None:
        """Steps that `tokens` and `steps` allow, at least one; None if time alone ends the run."""
        limits = [self.steps] if self.steps else []
        if self.tokens:
            limits.append(max(1, round(self.tokens / tokens_per_step)))
        return min(limits, default=None)

    def lesson_batches(self, steps: int | None) -> int:
        """How many of `steps` batches are of a corpus's easier texts alone, if it has any: 300,
        or a seventh.
        """
        return min(300, steps // 7 if steps else int(self.seconds))


# The rates and shapes were chosen by the ablations in speed.md.
_CHARACTERS = Recipe(
    "tinyshakespeare", tokenizer="char", batch_size=16, lr=5e-3, muon_lr=5e-2, prompt="ROMEO:\n"
)

RECIPES: dict[str, Recipe] = {
    "storyworld": Recipe(
        "storyworld", preset="story", tokens=2_500_000, batch_size=16, muon_lr=1.5e-2
    ),
    "shakespeare": Recipe("shakespeare", prompt="ROMEO:\n"),
    "chars-500k": replace(_CHARACTERS, preset="chars-3x128", tokens=500_000),
    "chars-2m": replace(_CHARACTERS, preset="chars-4x128", tokens=2_000_000),
    "chars-4m": replace(_CHARACTERS, preset="chars-4x256", tokens=4_000_000),
}


def choose_recipe(name: str | None, data: str | None, **given) -> Recipe:
    """The recipe called `name`, or that of the text `data` (default: storyworld), with what is
    `given` (not None) in the place of its own: a budget replaces all of the recipe's budgets, and
    Muon's rate follows `lr` in proportion. ValueError lists the names.
    """
    if name is not None and name not in RECIPES:
        raise ValueError(f"unknown recipe {name!r}; choose one of {', '.join(RECIPES)}")
    recipe = RECIPES.get(name or data or "storyworld") or Recipe(data)
    given = {key: value for key, value in given.items() if value is not None}
    if any(budget in given for budget in BUDGETS):
        given = dict.fromkeys(BUDGETS) | given
    if "lr" in given:
        given["muon_lr"] = recipe.muon_lr * given["lr"] / recipe.lr
    return replace(recipe, data=data or recipe.data, **given)
