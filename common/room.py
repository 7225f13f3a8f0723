"""Room on the disk, and errors of the operating system: each ends in one line that names the file."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from common.console import InputError

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
FULL_IN_WORDS = tuple(map(os.strerror, FULL))  # as libraries pass them on
PROBE = 1 << 16  # bytes


@contextlib.contextmanager
def naming(path: Path | str) -> Iterator[None]:
    """An OSError of the block that names no file, as those of reading and writing do, becomes an InputError that names
    `path`."""
    try:
        yield
    except OSError as error:
        if error.filename is not None or isinstance(error, BrokenPipeError):
            raise
        if error.errno in FULL:
            raise no_room(path, error.strerror) from None
        raise InputError(f"{path}: {error.strerror or error}") from None


@contextlib.contextmanager
def writing(path: Path, partial: Path, size: int = 0) -> Iterator[None]:
    """The block writes `path`, under the name `partial`; where the disk has no room for it that is one InputError.

    size: bytes that it takes, where that is known: they are asked for before the block begins, as some libraries say
    nothing of the disk in their errors.
    """
    try:
        if size:
            with partial.open("wb") as file:
                _allocate(file.fileno(), size)
            os.truncate(partial, 0)
        yield
    except InputError:
        raise
    except Exception as error:  # safetensors, torch, CatBoost and LightGBM have errors of their own
        said = isinstance(error, OSError) and error.errno is not None  # numpy has OSErrors that do not say which
        full = os.strerror(error.errno) * (error.errno in FULL) if said else _full(partial, error)
        if full:
            partial.unlink(missing_ok=True)  # gives back the room of what was begun
            raise no_room(path, full, size) from None
        with naming(path):
            raise


def no_room(path: Path | str, why: str, size: int = 0) -> InputError:
    """size: bytes that it takes; 0: not known. why: what the operating system says."""
    path = Path(path)
    try:
        free = in_bytes(shutil.disk_usage(path if path.is_dir() else path.parent).free)
    except OSError:
        free = "less"
    needed = f"it takes {in_bytes(size)}, {free} are free" if size else f"it takes more than the {free} that are free"
    return InputError(f"{path}: no room on the disk: {needed} ({why})")


def in_bytes(size: int) -> str:
    return f"{size / 1e6:,.1f} MB" if size >= 1e6 else f"{size / 1e3:,.1f} kB"


def _allocate(descriptor: int, size: int) -> None:
    """OSError of FULL where there is no room for so many bytes."""
    try:
        os.posix_fallocate(descriptor, 0, size)
    except AttributeError:  # not on this system
        pass
    except OSError as error:
        if error.errno in FULL:  # any other is of file systems that cannot do it
            raise


def is_full(folder: Path, said: str) -> bool:
    """Whether what failed with these words lacked room: they say so, or nothing more can be written in `folder`."""
    probe = folder / "probe.partial"
    try:
        return bool(_full(probe, Exception(said)))
    finally:
        probe.unlink(missing_ok=True)


def _full(partial: Path, error: Exception) -> str:
    """Why nothing more can be written to `partial`, if a library failed at that; "" where it can."""
    said = next((words for words in FULL_IN_WORDS if words in str(error)), "")
    try:
        with partial.open("ab") as file:
            _allocate(file.fileno(), file.tell() + PROBE)
    except OSError as found:
        return found.strerror if found.errno in FULL else said
    return said
