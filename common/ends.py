"""How a command line ends before it can say so itself: Ctrl-C while it imports, and streams that are closed or full.

Imported with the first module of `common`, and so imports next to nothing itself.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))  # noqa: PTH100, PTH120 pathlib takes long to import
INTERRUPTED = 130  # as a shell reports a program that Ctrl-C ended


def launched() -> bool:
    """Whether torchrun started this process beside others."""
    return "TORCHELASTIC_RUN_ID" in os.environ and int(os.environ.get("WORLD_SIZE", 1)) > 1


def say(line: str) -> None:
    """How a command ends, on stderr; of the processes that torchrun started on a machine the first one says it.

    torchrun's own report then gives this line as what failed.
    """
    report = os.environ.get("TORCHELASTIC_ERROR_FILE")
    if report:
        path = os.path.join(os.path.dirname(os.path.dirname(report)), "said")  # noqa: PTH118, PTH120
        words, silent = line.strip(), False
        with contextlib.suppress(OSError):
            try:
                with open(path, "x", encoding="utf-8") as file:  # noqa: PTH123
                    file.write(words)
            except FileExistsError:
                silent = True
                with open(path, encoding="utf-8") as file:  # noqa: PTH123
                    words = file.read()
            content = {"message": words, "extraInfo": {"py_callstack": words, "timestamp": int(time.time())}}
            with open(report, "w", encoding="utf-8") as file:  # noqa: PTH123
                json.dump({"message": content}, file)
        if silent:
            return
    print(line, file=sys.stderr, flush=True)


def interrupted(prog: str) -> None:
    say(f"\n{prog}: interrupted")


def quiet_interrupts() -> None:
    """Until `usual_interrupts`, Ctrl-C ends a command line of this project at once; other programs are left alone.

    An exception would not do: some libraries make an ImportError of it while they are imported.
    """
    script = getattr(sys.modules.get("__main__"), "__file__", None)
    if not script or not is_command_line(script) or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        return

    def end(*_) -> None:
        interrupted(os.path.basename(script))  # noqa: PTH119
        os._exit(INTERRUPTED)

    signal.signal(signal.SIGINT, end)


def is_command_line(script: str) -> bool:
    """Whether it is one of this project, which will call `run_script`."""
    if not os.path.abspath(script).startswith(ROOT + os.sep):  # noqa: PTH100
        return False
    try:
        with open(script, "rb") as file:  # noqa: PTH123
            return b"run_script(" in file.read()
    except OSError:
        return False


def usual_interrupts() -> None:
    """Ctrl-C raises KeyboardInterrupt again."""
    if getattr(signal.getsignal(signal.SIGINT), "__module__", None) == __name__:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def open_streams() -> None:
    """A standard stream that is closed leads nowhere: else the next file that is opened takes its number, and is
    written into by whoever writes to the stream."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free, which is this one
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, "r" if name == "stdin" else "w", closefd=False))  # noqa: SIM115


def drop_output() -> None:
    """What is still to be printed is not: nobody reads it, or there is no room for it."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
