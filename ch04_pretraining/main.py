"""Chapter 4: pretrain a GPT on a text, watch it learn, and save it."""

from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import arg

from ch01_text.run import command_line
from ch04_pretraining.config import PretrainConfig, fill_in
from ch04_pretraining.pretraining import pretrain


def main(
    config: Annotated[PretrainConfig, arg(name="")] = PretrainConfig(),
    *,
    resume: bool = False,
    run: Path = Path("runs/default"),
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto",
    recipe: str | None = None,
) -> dict:
    """Pretrain a GPT on a text and save it as the checkpoint that the later chapters use.

    A setting whose default is None comes from the recipe that suits the text.

    Args:
        resume: Continue from the run folder's checkpoint.
        run: Folder of the run; results go to RUN/ch04_pretraining.
        device: Where to compute; auto prefers a GPU.
        recipe: Settings by name for what is not given here: storyworld, shakespeare, chars-500k,
            chars-2m, chars-4m; by default what suits the text.
    """
    return pretrain(fill_in(config, recipe), run=run, device=device, resume=resume)


if __name__ == "__main__":
    command_line(main)
