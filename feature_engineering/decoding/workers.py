"""Worker processes for what may crash or hang: decoders. The job goes on, with a reason in place of the result."""

from __future__ import annotations

import collections
import concurrent.futures
import errno
import multiprocessing
import os
import signal
import sys
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import av
import pebble

LONGEST_FOLDER = 70  # bytes; a socket's address has 104 or 108, and Python's own names take up to 32 of them


@dataclass(frozen=True)
class Failure:
    """In place of the result of a task that gave none."""

    reason: str


def in_workers(
    function: Callable,
    tasks: Iterable[tuple],
    workers: int,
    timeout: float,
    ahead: int = 4,
    initializer=None,
    initargs=(),
) -> Iterator[Any]:
    """`function(*task)` of every task, in the order of the tasks, or a Failure.

    A task that takes longer than `timeout` seconds is ended with its process, and so is one whose process dies; both
    cost nothing but that task. Results wait until they are taken, `ahead` of them beside those in work, so memory is
    bounded. The processes end with this generator (close it), and with the process that made them.
    """
    # The server listens on a file in the folder for temporary files, whose whole path a socket's address must hold.
    short = len(os.fsencode(tempfile.gettempdir())) <= LONGEST_FOLDER
    start = "forkserver" if short and "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
    context = multiprocessing.get_context(start)
    if start == "forkserver":
        # The server imports once what the workers need. Each worker, and each in place of one that died, is then a
        # fork of it, which is quick.
        context.set_forkserver_preload([name for name in sys.modules if name.startswith("feature_engineering.")])
    pool = pebble.ProcessPool(
        max_workers=workers, initializer=_begin, initargs=(initializer, initargs), context=context
    )
    waiting: collections.deque = collections.deque()
    try:
        for task in tasks:
            waiting.append(pool.schedule(attempt, args=(function, task), timeout=timeout))
            if len(waiting) > workers + ahead:
                yield _result(waiting.popleft(), timeout)
        while waiting:
            yield _result(waiting.popleft(), timeout)
        pool.close()
    finally:
        pool.stop()
        pool.join()


def _result(future, timeout: float) -> Any:
    try:
        return future.result()
    except concurrent.futures.TimeoutError:
        return Failure(f"gave nothing within {timeout:g} s")
    except pebble.ProcessExpired as error:
        return Failure(f"the decoder crashed (exit code {error.exitcode})")


def _begin(initializer, initargs) -> None:
    """In a new worker: end when the parent ends, however it does."""
    parent = multiprocessing.parent_process()

    def follow() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches every process, and the parent ends this one.
    av.logging.set_level(None)
    if initializer:
        initializer(*initargs)


def attempt(function: Callable, task: tuple) -> Any:
    """`function(*task)`, or a Failure that says why there is none."""
    try:
        return function(*task)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS):
            raise  # The disk is at fault and not this file, so the next file would fail too.
        return Failure(_reason(error))
    except Exception as error:
        # Damaged and hostile files make the libraries raise exceptions that have no narrower class in common.
        return Failure(_reason(error))


def _reason(error: Exception) -> str:
    reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return " ".join(reason.split())[:200]
