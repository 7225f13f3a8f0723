"""One writer at a time: a folder's lock, held by a process and by the scripts it starts, released when they end."""

from __future__ import annotations

import errno
import json
import os
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from common.console import InputError

FILE = ".lock"
HANDED = "MMRA_LOCKS"  # environment variable: open files by which the process that started this one locks folders


@contextmanager
def locked(folder: Path, name: str = FILE) -> Iterator[None]:
    """Hold the folder's lock during the block; InputError, which says who holds it, where another process does.

    What this process holds already, or the one that started it by `handed_on`, is not locked again. The system
    releases the lock when all that hold it have ended, however they do: a lock that stays behind holds nothing.
    name: of the file that is locked.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / name).open("a+b", buffering=0) as file:
        here = _which(file.fileno())
        if here in _held:
            yield
            return
        if not _taken(file.fileno(), folder):
            raise InputError(f"{folder}: {_holder(folder / name)}; wait until that has ended")
        file.truncate(0)
        said = {"command": " ".join(map(_short, sys.argv)), "process": os.getpid(), "machine": socket.gethostname()}
        with suppress(OSError):  # on a full disk the lock holds without it
            file.write(json.dumps(said | {"since": time.strftime("%Y-%m-%d %H:%M:%S")}).encode())
        _held[here] = file.fileno()
        try:
            yield
        finally:
            # Closed and not unlocked: a script that was started with it, and still runs, keeps the folder locked.
            del _held[here]
            file.truncate(0)


def handed_on(environment: dict[str, str] | None = None) -> dict[str, Any]:
    """Arguments for `subprocess`: the script is started with the locks of this process, which it holds as well.

    environment: variables of the script besides.
    """
    variables = os.environ | (environment or {})
    if not _held or os.name != "posix":
        return {"env": variables}
    files = tuple(_held.values())
    return {"env": variables | {HANDED: " ".join(map(str, files))}, "pass_fds": files}


def _taken(file: int, folder: Path) -> bool:
    from filelock import lock_descriptor  # here, as what only reads does without it

    try:
        return lock_descriptor(file, blocking=False)
    except OSError as error:
        if error.errno not in (errno.ENOSYS, errno.ENOLCK, errno.ENOTSUP):
            raise
        print(f"warning: {folder}: its file system knows no locks; see that nothing else writes here", file=sys.stderr)
        return True


def _holder(path: Path) -> str:
    """Who holds a lock, in words: what its holder wrote into it."""
    try:
        said = json.loads(path.read_bytes())
        who = f"`{said['command']}` (process {said['process']} on {said['machine']}, since {said['since']})"
    except (
        OSError,
        ValueError,
        KeyError,
        TypeError,
        RecursionError,
    ):  # it is being written, or cannot be read by whoever asks
        who = "another command"
    return f"{who}, or what it started, is writing here"


def _short(word: str) -> str:
    return word if len(word) <= 200 else f"{word[:200]}..."


def _which(file: int) -> tuple[int, int]:
    """The same for all ways to open one file."""
    stat = os.fstat(file)
    return stat.st_dev, stat.st_ino


def _received() -> dict[tuple[int, int], int]:
    """What handed_on gave to this process."""
    held = {}
    for word in os.environ.pop(HANDED, "").split():
        try:
            held[_which(int(word))] = int(word)
            os.set_inheritable(int(word), False)
        except (OSError, ValueError):
            continue
    return held


_held: dict[tuple[int, int], int] = _received()
