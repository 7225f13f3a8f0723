"""Commands of the project in processes of their own, which a kill ends as a whole.

A process is forked from this one, which has loaded what takes seconds to load: a trial then takes about one. Nothing
may be computed in this process, for what has threads cannot be forked.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import runpy
import signal
import sys
import time
import traceback
from dataclasses import dataclass
from pathlib import Path

from common.console import InputError

ROOT = Path(__file__).resolve().parents[2]
LOADED = (
    "torch",
    "pandas",
    "pyarrow.parquet",
    "scipy.stats",
    "sklearn.decomposition",
    "transformers",
    "matplotlib",
    "av",
)
PATIENCE = 120.0  # seconds, after which a command hangs
SET_CHILD_SUBREAPER = 36  # of <linux/prctl.h>


def load() -> None:
    """What every command would load, once."""
    for module in LOADED:
        __import__(module)


@dataclass(frozen=True)
class Ended:
    """How a command ended: code None where it hung; killed, and by whom it was killed, otherwise."""

    code: int | None
    killed: bool
    stdout: str
    stderr: str
    seconds: float


class Running:
    """`python <words>` in `place`, begun; `files` is where its output goes."""

    def __init__(self, words: list[str], place: Path, files: Path):
        self.begun, self.files = time.monotonic(), files
        sys.stdout.flush()
        sys.stderr.flush()
        self.pid = os.fork()
        if not self.pid:
            _become(words, place, files)

    def kill_after(self, seconds: float) -> Ended:
        return self.end(self.begun + seconds)

    def end(self, kill_at: float | None = None) -> Ended:
        """Wait, and kill it with all that it started where it is still there at `kill_at`, or hangs."""
        limit = self.begun + PATIENCE if kill_at is None else kill_at
        code, killed = self._wait(limit), False
        if code is None:
            killed = True
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)
            self._wait(float("inf"))
            kill_orphans()
        said = [Path(f"{self.files}.{name}").read_text("utf-8", "replace") for name in ("out", "err")]
        return Ended(code, killed and kill_at is not None, *said, time.monotonic() - self.begun)

    def _wait(self, until: float) -> int | None:
        while True:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                return os.waitstatus_to_exitcode(status)
            if time.monotonic() > until:
                return None
            time.sleep(0.002)


def adopt() -> None:
    """Become the parent of whatever a killed command has started in sessions of its own, which would outlive it."""
    if ctypes.CDLL(None).prctl(SET_CHILD_SUBREAPER, 1, 0, 0, 0):
        raise InputError("this system does not let a process adopt orphans (Linux does)")


def kill_orphans() -> None:
    """What is left of a killed command, and what that has started; nothing else is running by then."""
    mine = Path(f"/proc/self/task/{os.getpid()}/children")
    while children := mine.read_text().split():
        for child in map(int, children):
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)


def _become(words: list[str], place: Path, files: Path) -> None:
    """In the child: be the command."""
    code = 1
    try:
        os.setsid()
        for number, name in ((1, "out"), (2, "err")):
            os.dup2(os.open(f"{files}.{name}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644), number)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.chdir(place)
        sys.argv = words
        sys.path[:0] = [str((ROOT / words[0]).parent), str(ROOT)]
        runpy.run_path(str(ROOT / words[0]), run_name="__main__")
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
    except BaseException:
        traceback.print_exc()
    finally:
        with contextlib.suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)
