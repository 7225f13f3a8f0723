"""Files written beside their place and renamed into it, so that a reader never sees half a file."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from common import manifest
from common.archives import check_array
from common.console import InputError
from common.room import naming, writing


@contextlib.contextmanager
def written_beside(path: Path, size: int = 0) -> Iterator[Path]:
    """Yield a path beside `path` to write to; rename it into place when the block ends well, else remove it.

    InputError where the disk has no room. size: bytes that it takes, where that is known before.
    """
    make_folder(path.parent)
    partial = path.with_name(path.name + ".partial")
    partial.unlink(missing_ok=True)  # of a killed process; it may be a second name of a file that is in use elsewhere
    try:
        with writing(path, partial, size):
            yield partial
            put_in_place(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def put_in_place(partial: Path, path: Path) -> None:
    """Rename a file that is complete to `path`, beside it, and note it in the folder's manifest.

    Content, note and name are on the disk in this order, before this returns: a power cut leaves what was there before
    or the whole file, and never a later file without an earlier one.
    """
    with partial.open("rb") as file:
        os.fsync(file.fileno())
    manifest.note(path, partial)
    partial.replace(path)
    sync_folder(path.parent)


def make_folder(folder: Path) -> None:
    """With those above it; their names are on the disk when this returns."""
    if not folder.is_dir():
        make_folder(folder.parent)
        folder.mkdir(exist_ok=True)
        sync_folder(folder.parent)


def sync_folder(folder: Path) -> None:
    """Bring the names in a folder to the disk, where the system can: without it a power cut may take a rename back."""
    if not hasattr(os, "O_DIRECTORY"):
        return
    opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(opened)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # this file system does so by itself, or cannot
            raise
    finally:
        os.close(opened)


def require_writable(folder: Path) -> None:
    """InputError where nothing could be written into `folder`, or made on the way to it: before hours of work."""
    place = folder
    while not place.exists() and place != place.parent:
        place = place.parent
    if not place.is_dir() or not os.access(place, os.W_OK | os.X_OK):
        why = "not writable" if place.is_dir() else "not a folder"
        raise InputError(f"{folder}: nothing can be written there, as {place} is {why}; name another place")


def write_json(path: Path, content: dict) -> None:
    text = (json.dumps(without_nan(content), indent=2, ensure_ascii=False) + "\n").encode()
    with written_beside(path, len(text)) as partial:
        partial.write_bytes(text)


def without_nan(content):
    """The same content with null for NaN and infinity, which JSON does not know."""
    if isinstance(content, dict):
        return {key: without_nan(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [without_nan(value) for value in content]
    return None if isinstance(content, float) and not np.isfinite(content) else content


def read_json(path: Path) -> dict:
    with naming(path):
        content = path.read_bytes()
    try:
        content = json.loads(content.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: not a JSON file ({error})") from None
    if not isinstance(content, dict):
        raise InputError(f"{path}: a JSON object was expected, found {type(content).__name__}")
    return content


def whole_lines(path: Path) -> list[str]:
    """The lines of a file of JSON lines, none where there is no file; one cut short by a kill does not count.

    Only a line feed ends a line: JSON may hold what str.splitlines takes for an end (U+2028).
    """
    with naming(path):
        content = path.read_bytes().decode("utf-8", "replace") if path.exists() else ""
    return content.split("\n")[:-1]


def open_array(path: Path) -> np.ndarray:
    """Open a .npy file, memory-mapped, without unpickling anything; InputError where it is truncated or no array."""
    try:
        check_array(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what Python 2 wrote
            return np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except (ValueError, EOFError, OSError) as error:
        raise InputError(f"{path}: truncated or not a .npy array of numbers ({error}); write it anew") from None
