"""How long a command line takes to answer, in seconds of CPU time: its help, and a flag that it does not know.

Against the limit, and against Python itself with numpy, measured in the same run; retriever.py answers without numpy.
"""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from pathlib import Path

from common.console import InputError, Parser, run_script, whole_number

ROOT = Path(__file__).resolve().parent.parent
LIMIT = 1.2  # seconds
SCRIPTS, WORDS = ("train.py", "test.py", "retriever.py"), ("--help", "--no_such_flag")


def build_parser() -> Parser:
    parser = Parser(prog="python -m benchmarks.start", description=__doc__)
    measured = parser.add_argument_group("what is measured")
    measured.add_argument("--repeats", type=whole_number(1), default=5, help="of each; the least is printed")
    return parser


def main(args) -> None:
    floor = least(["-c", "import numpy"], args.repeats)
    print(f"{'python with numpy':<32} {floor:.2f} s")
    for command in itertools.product(SCRIPTS, WORDS):
        seconds = least(command, args.repeats)
        asked = f"python {' '.join(command)}"
        print(f"{asked:<32} {seconds:.2f} s of at most {LIMIT}, {seconds / floor:.1f} times python with numpy")


def least(words: list[str] | tuple[str, ...], repeats: int) -> float:
    return min(cpu_seconds([sys.executable, *words]) for _ in range(repeats))


def cpu_seconds(command: list[str]) -> float:
    before = os.times()
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    if done.returncode != (2 if "--no_such_flag" in command else 0):
        raise InputError(f"{' '.join(command)} ended with exit code {done.returncode}")
    after = os.times()
    return after.children_user + after.children_system - before.children_user - before.children_system


if __name__ == "__main__":
    run_script(build_parser(), main)
