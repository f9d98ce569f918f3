"""The command line and the run folder, the same for every chapter.

A chapter's `main(...)` is an ordinary function; `command_line(main)` makes flags of its keyword
arguments and turns bad input into one line and a non-zero exit code. What a chapter makes goes to
`<run>/<chapter>/`, so that the next chapter finds it there.
"""

import io
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

from ch01_text.saving import replacing


def command_line(main: Callable[..., dict] | dict[str, Callable[..., dict]]) -> None:
    """Run `main` with flags made from its signature and docstring; a dict offers one subcommand a
    key.

    Bad input (ValueError, OSError) ends in one line and exit code 1, Ctrl-C in exit code 130. A
    character that the console or pipe cannot show is printed as "?".
    """
    import tyro

    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # Python does the like for stderr on its own
    try:
        if callable(main):
            tyro.cli(main)
        else:
            tyro.extras.subcommand_cli_from_dict(main)
    except (ValueError, OSError) as error:
        from_system = isinstance(error, OSError) and error.filename and error.strerror
        words = f"{error.filename}: {error.strerror}" if from_system else str(error)
        sys.exit("error: " + " ".join(words.split()))
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)


def chapter_folder(run: str | Path, chapter: str) -> Path:
    """Create `<run>/<chapter>` and return it; raise OSError with a remedy where that is
    impossible.
    """
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
