"""The project's own scripts as child processes: their output kept, their failures as reasons, ended by Ctrl-C."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import TypeVar

from common.lock import handed_on
from common.room import naming
from dataloader.checks import checked

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 20  # seconds that children have to end by themselves
POLL = 0.5  # seconds; Ray's way to interrupt a task does not end a wait of the system's
Work, Result = TypeVar("Work"), TypeVar("Result")


class Failed(Exception):
    """A child of this script ended badly; the message is its reason, `code` its exit code where it had one."""

    def __init__(self, reason: str, code: int | None = None):
        super().__init__(reason)
        self.code = code


class Children:
    """Scripts of this project as processes of their own, which Ctrl-C does not reach but by `stop`."""

    def __init__(self, threads: int | None):
        self.threads = threads
        self.running: set[subprocess.Popen] = set()
        self.guard, self.stopped = threading.Lock(), False

    def run(self, words: list[str], output: Path) -> float:
        """Run `python <words>`, what it prints appended to `output`; its seconds, or Failed with its reason."""
        start = time.perf_counter()
        with naming(output), output.open("ab") as file:
            file.write(f"$ python {shlex.join(words)}\n".encode())
            file.flush()
            begin = file.tell()
            code = self._wait(words, file)
        if code:
            raise Failed(_reason(words[0], code, output, begin), code)
        return time.perf_counter() - start

    def _wait(self, words: list[str], file) -> int:
        names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
        threads = {} if self.threads is None else dict.fromkeys(names, str(self.threads))
        # As long as a child lives, should this process be killed, nobody else works in the places that it has locked.
        options = {"stdout": file, "stderr": file, "stdin": subprocess.DEVNULL, **handed_on(threads | checked())}
        with self.guard:
            if self.stopped:
                raise Failed("interrupted")
            child = subprocess.Popen(
                [sys.executable, str(ROOT / words[0]), *words[1:]], start_new_session=True, **options
            )
            self.running.add(child)
        try:
            return child.wait()
        finally:  # an interrupted wait leaves a child that `stop` has to end
            if child.poll() is not None:
                self.running.discard(child)

    def stop(self) -> None:
        """Ctrl-C to every child; who has not ended after PATIENCE is killed."""
        with self.guard:
            self.stopped = True
            running = list(self.running)
        for child in running:
            child.send_signal(signal.SIGINT)
        deadline = time.monotonic() + PATIENCE
        for child in running:
            try:
                child.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                child.kill()


def side_by_side(
    do: Callable[[Work], Result], works: Iterable[Work], jobs: int, children: Children
) -> Iterator[tuple[Work, Result]]:
    """Each work with what `do` gives for it, as they end, `jobs` at a time; `do` waits for `children` and never raises.

    What ends the iteration early, Ctrl-C too, ends the children.
    """
    with ThreadPoolExecutor(jobs) as pool:
        waiting: dict[Future, Work] = {pool.submit(do, work): work for work in works}
        try:
            while waiting:
                for future in wait(waiting, timeout=POLL, return_when="FIRST_COMPLETED").done:
                    yield waiting.pop(future), future.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            children.stop()
            raise


def threads_each(jobs: int) -> int | None:
    """Of so many children at a time; None, as many as it takes by itself, of one alone."""
    return None if jobs == 1 else max(1, available_threads() // jobs)


def available_threads() -> int:
    typed = os.environ.get("OMP_NUM_THREADS", "")
    if typed.isdigit() and int(typed):
        return int(typed)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _reason(script: str, code: int, output: Path, begin: int) -> str:
    """The last line that a failed child printed: the project's scripts say there what was wrong."""
    with output.open("rb") as file:
        file.seek(begin)
        lines = [line.strip() for line in file.read().decode("utf-8", "replace").splitlines() if line.strip()]
    said = lines[-1] if lines else "it said nothing"
    if code < 0:
        return f"{script} was ended by signal {-code} (9: out of memory?); last it said: {said} ({output})"
    return f"{said} (exit code {code}, {output})"
