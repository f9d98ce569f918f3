"""The command line and the run folder, the same for every chapter.

A chapter's `main(...)` is an ordinary function; `command_line(main)` makes flags of its parameters
and turns bad input into one line and a non-zero exit code. A chapter writes its results to
`<run>/<chapter>/`, where the next chapter finds them.
"""

import inspect
import io
import json
import math
import os
import sys
from collections.abc import Callable, Iterable
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from ch01_text.saving import replacing

if TYPE_CHECKING:
    from tyro.constructors import ConstructorRegistry, StructConstructorSpec


def command_line(main: Callable[..., dict] | dict[str, Callable[..., dict]]) -> None:
    """Parse the command line and call `main`; a dict offers one subcommand per key.

    Flags, their types and defaults come from the signature of `main`, their help from its
    docstring. A stage with more than a few settings keeps them in one frozen dataclass, the
    parameter `config`: the comment above a field is its flag's help, and `__post_init__` checks the
    values. Keyword-only fields form a second group, "more options", in --help.

        @dataclass(frozen=True)
        class TrainConfig:
            # What to learn from: shakespeare, or a UTF-8 file.
            data: str = "shakespeare"
            # Number of updates; by default what suits the text.
            steps: int | None = None

            _: KW_ONLY  # the everyday flags stand above, the others below

            # Sequences per batch.
            batch_size: int = 16

            def __post_init__(self):
                check_positive(self, "steps", "batch_size")

        def main(
            config: Annotated[TrainConfig, arg(name="")] = TrainConfig(),  # arg: from tyro.conf
            *,
            run: Path = Path("runs/default"),
        ) -> dict: ...

    The command line is then `--data --steps --batch-size --run`, and a call from Python
    `main(TrainConfig(steps=3), run=folder)`. `arg(name="")` drops the prefix "config."; without it
    a second dataclass keeps its own, as in `--dpo.beta`.

    Bad input (ValueError, OSError) ends in one line and exit code 1, Ctrl-C in exit code 130. A
    character that the console or pipe cannot show is printed as "?".
    """
    import tyro

    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # Python does this for stderr by default
    try:
        no_none = (tyro.conf.DisallowNone,)  # a flag that is left out is None; nobody types it
        if isinstance(main, dict):
            registry = _two_groups(main.values())
            tyro.extras.subcommand_cli_from_dict(main, config=no_none, registry=registry)
        else:
            tyro.cli(main, config=no_none, registry=_two_groups([main]))
    except (ValueError, OSError) as error:
        words = str(error)
        if isinstance(error, OSError) and error.filename and error.strerror:
            words = f"{error.filename}: {error.strerror}"
        sys.exit("error: " + " ".join(words.split()))
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)


def _two_groups(mains: Iterable[Callable]) -> "ConstructorRegistry":
    """tyro's rules for the functions' parameters `config`: keyword-only fields in a group of their
    own.
    """
    from tyro.constructors import ConstructorRegistry, StructConstructorSpec

    specs: dict[Any, StructConstructorSpec] = {}
    for main in mains:
        if config := inspect.signature(main).parameters.get("config"):
            specs |= _two_specs(config.default)
    registry = ConstructorRegistry()
    registry.struct_rule(lambda info: specs.get(info.type))
    return registry


def _two_specs(default: Any) -> dict[Any, "StructConstructorSpec"]:
    """How tyro is to build the dataclass of `default`, and a group of its keyword-only fields.

    tyro makes a group of each nested structure, so the keyword-only fields pretend to be one.
    """
    from tyro.conf import OmitArgPrefixes
    from tyro.constructors import (
        ConstructorRegistry,
        StructConstructorSpec,
        StructFieldSpec,
        StructTypeInfo,
    )

    class More:
        """Settings that are seldom changed."""

    config = type(default)
    spec = ConstructorRegistry.get_struct_spec(StructTypeInfo.make(config, default, False))
    assert isinstance(spec, StructConstructorSpec)  # the default is an instance of its class
    seldom = {field.name for field in fields(default) if field.kw_only}
    in_own_group: Any = Annotated[More, OmitArgPrefixes]
    more = StructFieldSpec("more", in_own_group, More())
    return {
        config: StructConstructorSpec(
            lambda more, **everyday: config(**everyday, **more),
            (*(field for field in spec.fields if field.name not in seldom), more),
        ),
        More: StructConstructorSpec(
            dict, tuple(field for field in spec.fields if field.name in seldom)
        ),
    }


def check_positive(config: object, *names: str) -> None:
    """ValueError, in the words of the command line, if a field is no positive number; None is fine.

    For the `__post_init__` of a config.
    """
    for name in names:
        value = getattr(config, name)
        if value is not None and not 0 < value < math.inf:
            flag = "--" + name.replace("_", "-")
            raise ValueError(f"{flag} must be a positive number, not {value}")


def chapter_folder(run: str | Path, chapter: str) -> Path:
    """Create `<run>/<chapter>` and return it; OSError with a remedy if that is impossible."""
    folder = Path(run) / chapter
    try:
        folder.mkdir(parents=True, exist_ok=True)
        writable = os.access(folder, os.W_OK)
    except OSError as error:
        raise OSError(
            f"cannot create the run folder {folder} ({error.strerror}); choose another with --run"
        ) from error
    if not writable:
        raise PermissionError(
            f"cannot write into the run folder {folder}; choose another with --run"
        )
    return folder


def write_atomically(path: str | Path, text: str) -> None:
    """Write `text` (UTF-8) to `path`, whole or not at all; the same bytes on every system."""
    with replacing(path) as new:
        new.write_text(text, encoding="utf-8", newline="\n")


def write_metrics(folder: Path, metrics: dict) -> dict:
    """Save `metrics` (plain numbers, strings, lists, dicts) as `metrics.json` and return it."""
    write_atomically(folder / "metrics.json", json.dumps(metrics, indent=2, allow_nan=False) + "\n")
    return metrics
