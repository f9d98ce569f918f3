"""Files and folders that are replaced whole or not at all, on every operating system.

The new one is written beside the old one, flushed to disk, and then renamed, so that a crash at any
moment leaves one of the two whole. Windows sets the limits: it opens no folder, flushes no file
that was opened for reading only, renames nothing onto a folder, and renames nothing that another
program has open.
"""

import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

# seconds between attempts; virus scanners let go of a file soon
PATIENCE = (0.05, 0.1, 0.2, 0.4, 0.8)


@contextmanager
def replacing(path: str | os.PathLike) -> Iterator[Path]:
    """Yield `path` + ".tmp", where a file or folder is to be made. If that succeeds it takes the
    place of `path`, otherwise it is removed.

    OSError where `path` cannot be replaced; what stood there before is whole then (see
    `find_whole`).
    """
    path = Path(path)
    new = path.with_name(path.name + ".tmp")
    _remove(new)
    try:
        yield new
        for file in new.rglob("*"):
            _flush(file)
        _flush(new)
        _swap(new, path)
    finally:
        _remove(new)


def find_whole(folder: str | os.PathLike) -> Path | None:
    """Return `folder` if it exists, or else the one that a crash between two renames left beside
    it, or None.
    """
    folder = Path(folder)
    places = (folder, folder.with_name(folder.name + ".old"))
    return next((place for place in places if place.is_dir()), None)


def _swap(new: Path, path: Path) -> None:
    """Put `new` in the place of `path`. Between the two renames an old folder stands as `.old`."""
    old = path.with_name(path.name + ".old")
    if path.is_dir():
        _remove(old)  # never before: after a crash it may be the only one
        _rename(path, old)
    is_folder = new.is_dir()
    _rename(new, path)
    _flush(path.parent)
    if is_folder:
        _remove(old)


def _rename(source: Path, target: Path) -> None:
    """Rename a file or folder; waits a little for other programs that have it open."""
    for seconds in PATIENCE:
        with suppress(PermissionError):
            os.replace(source, target)
            return
        time.sleep(seconds)
    try:
        os.replace(source, target)
    except PermissionError as error:
        raise PermissionError(
            f"{source} cannot be renamed to {target.name} ({error.strerror}); close the programs "
            "that have it or its files open, and see that its folder is writable"
        ) from error


def _flush(path: Path) -> None:
    """Have the disk hold a file, or a folder's list of names, before anything that follows."""
    if path.is_dir():
        # Windows: its file system keeps the names without being asked
        with suppress(PermissionError):
            _fsync(path, os.O_RDONLY)
    else:
        _fsync(path, os.O_RDWR)


def _fsync(path: Path, flags: int) -> None:
    descriptor = os.open(path, flags)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink()
