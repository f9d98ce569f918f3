"""One file for a trained model: NumPy's .npz with its arrays, and its settings as JSON inside.

Loading executes nothing (`allow_pickle=False`); a file is replaced whole or not at all.
"""

import json
import zipfile
from pathlib import Path

import numpy as np

SETTINGS = "settings.json"


def save_arrays(path: str | Path, arrays: dict[str, np.ndarray], settings: dict) -> None:
    """Write `arrays` by name and `settings` (what JSON can hold) to `path`."""
    if SETTINGS in arrays:
        raise ValueError(f"no array may be called {SETTINGS!r}: the settings stand under this name")
    from ch01_text.saving import replacing  # loads PyTorch, which the engine does without

    with replacing(path) as new, new.open("wb") as file:
        np.savez(file, **arrays, **{SETTINGS: np.array(json.dumps(settings))})


def load_arrays(path: str | Path) -> tuple[dict[str, np.ndarray], dict]:
    """Read what `save_arrays` wrote; FileNotFoundError or ValueError where it is missing or
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
            f"{path} is damaged or no model of ours ({error}); train it again"
        ) from error
