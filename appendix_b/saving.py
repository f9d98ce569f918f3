"""One file per trained model: NumPy's .npz archive with the arrays, and the settings as JSON.

Loading executes no code (`allow_pickle=False`). Saving replaces the file as a whole or not at all.
"""

import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

SETTINGS = "settings.json"


def save_arrays(path: str | Path, arrays: dict[str, np.ndarray], settings: dict) -> None:
    """Write named `arrays` and `settings` (JSON values) to `path`."""
    if SETTINGS in arrays:
        raise ValueError(f"no array may be called {SETTINGS!r}; the settings have this name")
    from ch01_text.saving import replacing  # imports PyTorch, which the engine does not need

    with replacing(path) as new, new.open("wb") as file:
        content: dict[str, Any] = arrays | {SETTINGS: np.array(json.dumps(settings))}
        np.savez(file, **content)


def load_arrays(path: str | Path) -> tuple[dict[str, np.ndarray], dict]:
    """Read what `save_arrays` wrote; FileNotFoundError or ValueError if it is missing or
    damaged.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no saved model {path}; train one first")
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        return arrays, json.loads(str(arrays.pop(SETTINGS)))
    except (zipfile.BadZipFile, EOFError, KeyError, ValueError) as error:
        raise ValueError(
            f"{path} is damaged or not a model of this appendix ({error}); train it again"
        ) from error
