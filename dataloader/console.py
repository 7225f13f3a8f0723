"""What every command-line script shares: one-line errors with exit code 2, and a parser that says what a flag does."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path

MAX_LISTED = 5
PROGRESS_BAR = {"disable": None, "dynamic_ncols": True}  # no bar where stderr is not a terminal


class InputError(ValueError):
    """What the user gave (a file, a flag, a data set) cannot be used; the message is one sentence for that user."""


class _Unset(list):
    """Stands for a flag that was not typed; a list, as repeatable flags append to what is there."""


class Parser(argparse.ArgumentParser):
    """argparse with defaults in `--help`, no abbreviated flags, and one line on stderr for a bad flag."""

    help_flags = "--help"

    def __init__(self, **kwargs):
        super().__init__(formatter_class=argparse.ArgumentDefaultsHelpFormatter, allow_abbrev=False, **kwargs)

    def parse_args(self, args=None, namespace=None):
        """As ever, and `typed`: the flags that stood on the command line, without the defaults."""
        parsed = super().parse_args(args, namespace)
        unset = _Unset()
        bare = super().parse_args(args, argparse.Namespace(**dict.fromkeys(vars(parsed), unset)))
        parsed.typed = {flag: value for flag, value in vars(bare).items() if value is not unset}
        return parsed

    def error(self, message: str):
        self.exit(2, f"{self.prog}: error: {message} (see {self.prog} {self.help_flags})\n")


def run_script(parser: argparse.ArgumentParser, main: Callable[[argparse.Namespace], None]) -> None:
    """Run `main` on the parsed flags; bad input ends in one line on stderr and exit code 2, Ctrl-C in 130.

    Tracebacks are left to bugs: only InputError and the operating system's refusals are turned into a line.
    """
    try:
        main(parser.parse_args())
    except (InputError, OSError) as error:
        if isinstance(error, BrokenPipeError):  # `script | head`: nobody reads on, which is no error
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(141)  # as a shell reports a program that a closed pipe ended
        sys.exit(_fail(parser.prog, error))
    except KeyboardInterrupt:
        print(f"\n{parser.prog}: interrupted", file=sys.stderr)
        sys.exit(130)


def _fail(prog: str, error: Exception) -> int:
    message = str(error)
    if isinstance(error, OSError) and error.filename is not None:
        message = f"{error.filename}: {error.strerror}; check the path, its permissions and the space left on its disk"
    print(f"{prog}: error: {' '.join(message.split())}", file=sys.stderr)
    return 2


def listed(values) -> str:
    """The first few values, and how many more there are: `a, b, c and 12 more`."""
    values = [str(v) for v in values]
    more = len(values) - MAX_LISTED
    return ", ".join(values[:MAX_LISTED]) + (f" and {more} more" if more > 0 else "")


def add_dataset_flags(parser: argparse.ArgumentParser, default_id: str | None = "MicroLens-100k") -> None:
    """`--dataset_path` and `--dataset_id`, the published names; `default_id` None makes the id required."""
    parser.add_argument("--dataset_path", default="data", help="folder that holds the data sets")
    required = {"required": True} if default_id is None else {"default": default_id}
    parser.add_argument("--dataset_id", help="name of the data set: a folder in --dataset_path", **required)


def dataset_folder(args: argparse.Namespace) -> Path:
    return folder_of(args.dataset_path, args.dataset_id)


def folder_of(dataset_path: str, dataset_id: str) -> Path:
    """`--dataset_path` and `--dataset_id` -> the data set's folder."""
    if dataset_id in ("", ".", "..") or Path(dataset_id).name != dataset_id:
        raise InputError(
            f"--dataset_id {dataset_id!r}: the name of a folder in --dataset_path is expected, without slashes"
        )
    return Path(dataset_path) / dataset_id


def whole_number(least: int, most: int = 2**63 - 1) -> Callable[[str], int]:
    """An argparse type: an integer from `least` to `most`."""

    def parse(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number") from None
        if value < least:
            raise argparse.ArgumentTypeError(f"{value} is too small: at least {least} is needed")
        if value > most:
            raise argparse.ArgumentTypeError(f"{value} is too large: at most {most}")
        return value

    return parse


def number(least: float, above: bool = False, most: float = float("inf")) -> Callable[[str], float]:
    """An argparse type: a finite number from `least` (greater than it, with `above`) to `most`."""

    def parse(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r} is not a number") from None
        if not (least < value < float("inf") or (value == least and not above)):
            raise argparse.ArgumentTypeError(f"{text}: must be {'above' if above else 'at least'} {least:g} and finite")
        if value > most:
            raise argparse.ArgumentTypeError(f"{text}: must be at most {most:g}")
        return value

    return parse
