"""What every command-line script shares: one-line errors with exit code 2, and a parser that says what a flag does."""

from __future__ import annotations

from common.ends import INTERRUPTED, drop_output, interrupted, launched, open_streams, say, usual_interrupts

import argparse
import errno
import re
import sys
import textwrap
from collections.abc import Callable
from typing import Any

MAX_LISTED = 5
STEP = "MMRA_STEP"  # environment variable: this command is a step of another, which says itself what comes next
PROGRESS_BAR = {"disable": None, "dynamic_ncols": True}  # no bar where stderr is not a terminal


class InputError(ValueError):
    """What the user gave (a file, a flag, a data set) cannot be used; the message is one sentence for that user.

    lacks: what is missing, for a command line to add the command that makes it: a floor below does not know it.
    """

    def __init__(self, message: str, lacks: Any = None):
        super().__init__(message)
        self.lacks = lacks


class _Unset(list):
    """Stands for a flag that was not typed; a list, as repeatable flags append to what is there."""


class _Help(argparse.ArgumentDefaultsHelpFormatter):
    """Defaults behind every flag that has one; paragraphs of a description stay apart, as do lines of a list of flags.

    Such a line begins with -- and has two blanks between the flag and what it does.
    """

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        filled = []
        for paragraph in text.strip().split("\n\n"):
            for part in re.split(r"\n(?=--.+  )", paragraph):
                words = " ".join(re.sub(r"^(--.+?)  +", r"\1: ", part).split())
                hanging = indent + "    " * part.startswith("--")
                filled.append(textwrap.fill(words, width, initial_indent=indent, subsequent_indent=hanging))
            filled.append("")
        return "\n".join(filled[:-1])

    def _get_help_string(self, action: argparse.Action) -> str:
        if action.required:
            return f"{action.help or ''} (required)"
        if action.default is None:  # what holds without the flag is in its help
            return action.help or ""
        if isinstance(action.default, list | tuple):
            words = " ".join(map(str, action.default)).replace("%", "%%")
            return f"{action.help or ''} (default: {words or 'none'})"
        return super()._get_help_string(action)


class Parser(argparse.ArgumentParser):
    """argparse with defaults in `--help`, no abbreviated flags, and one line on stderr for a bad flag."""

    help_flags = "--help"

    def __init__(self, **kwargs):
        super().__init__(formatter_class=_Help, allow_abbrev=False, **kwargs)

    def parse_args(self, args=None, namespace=None):
        """As ever, and `typed`: the flags that stood on the command line, without the defaults."""
        unset, actions = _Unset(), [action for action in self._actions if action.dest != "help"]
        parsed = super().parse_args(args, argparse.Namespace(**{action.dest: unset for action in actions}))
        parsed.typed = {flag: value for flag, value in vars(parsed).items() if value is not unset}
        for action in actions:
            if getattr(parsed, action.dest) is unset:
                default = action.default
                setattr(parsed, action.dest, self._get_value(action, default) if isinstance(default, str) else default)
        return parsed

    def error(self, message: str):
        say(f"{self.prog}: error: {message} (see {self.prog} {self.help_flags})")
        self.exit(2)


def run_script(
    parser: argparse.ArgumentParser,
    main: Callable[[argparse.Namespace], None],
    remedy: Callable[[Any], str] | None = None,
    together: bool = False,
) -> None:
    """Run `main` on the parsed flags; bad input ends in one line on stderr and exit code 2, Ctrl-C in 130.

    remedy: what an InputError lacks -> what to type. together: torchrun may start several of it, which share the work;
    of other scripts each would do all of it, in the same files. Tracebacks are left to bugs: only InputError and the
    operating system's refusals are turned into a line.
    """
    open_streams()
    try:
        usual_interrupts()
        code = 0
        try:
            args = parser.parse_args()
            if launched() and not together:
                raise InputError("torchrun started several of it, which would all do the same; start it by python")
            main(args)
        except SystemExit as end:
            code = end.code
        sys.stdout.flush()  # here, where an error can still be told of
        sys.exit(code)
    except (InputError, OSError) as error:
        if isinstance(error, BrokenPipeError):  # `script | head`: nobody reads on, which is no error
            drop_output()
            sys.exit(141)  # as a shell reports a program that a closed pipe ended
        sys.exit(_fail(parser.prog, error, remedy))
    except KeyboardInterrupt:
        interrupted(parser.prog)
        sys.exit(INTERRUPTED)


def _fail(prog: str, error: Exception, remedy: Callable[[Any], str] | None) -> int:
    message = str(error)
    if isinstance(error, OSError) and error.filename is not None:
        message = f"{error.filename}: {error.strerror}; check the path, its permissions and the space left on its disk"
    elif isinstance(error, OSError) and error.errno == errno.ENOSPC:  # files are named by whoever writes them
        drop_output()
        message = f"no room for what is printed, or for a file: {error.strerror}"
    elif remedy and getattr(error, "lacks", None):
        message += f"; {remedy(error.lacks)}"
    say(f"{prog}: error: {' '.join(message.split())}")
    return 2


def in_one_line(error: Exception | str, most: int = 200) -> str:
    """What a library says of a file, as a part of a sentence: on one line, no longer than `most`.

    torch advises to load what it refuses with `weights_only=False`, which would run code that the file holds.
    """
    said = " ".join(str(error).split())
    if "weights_only" in said or "weights only" in said.lower():
        return "it holds other things than tensors and plain values"
    return said[:most] or type(error).__name__


def in_words(value: Any) -> str:
    """A flag's value as it would be typed."""
    return " ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def listed(values, most: int = MAX_LISTED) -> str:
    """The first few values, and how many more there are: `a, b, c and 12 more`."""
    values = [str(v) for v in values]
    more = len(values) - most
    return ", ".join(values[:most]) + (f" and {more} more" if more > 0 else "")


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
