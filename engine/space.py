"""What a search may try of a flag: `1e-4:1e-2:log`, `4:8` or `Adam|AdamW`, as typed. Imports no torch."""

from __future__ import annotations

import argparse
import math
from dataclasses import dataclass
from typing import Any

from common.console import InputError
from common.settings import Flag


@dataclass(frozen=True)
class Range:
    """Numbers from `low` to `high`, both included; of a flag that takes whole numbers, whole ones."""

    low: float
    high: float
    log: bool = False  # as many tries between 1 and 10 as between 10 and 100

    def __str__(self) -> str:
        return f"{self.low}:{self.high}{':log' * self.log}"

    @property
    def ends(self) -> tuple[str, ...]:
        return word(self.low), word(self.high)

    def holding(self, value: Any, flag: Flag) -> float | None:
        """`value`, a setting, as it is tried; None where it lies outside."""
        there = isinstance(value, int | float) and self.low <= value <= self.high
        return flag.kind(value) if there else None

    def checked(self, flag: Flag) -> Range:
        """The same in the flag's type; ValueError where the flag has no such numbers."""
        if flag.kind not in (int, float):
            raise ValueError("takes no numbers; write the values to choose from, as in Adam|AdamW")
        if not all(math.isfinite(end) for end in (self.low, self.high)):
            raise ValueError("its ends must be finite")
        if flag.kind is int and not (float(self.low).is_integer() and float(self.high).is_integer()):
            raise ValueError("takes whole numbers")
        found = Range(flag.kind(self.low), flag.kind(self.high), self.log)
        if found.low >= found.high:
            raise ValueError("the first number must be smaller than the second")
        if found.log and found.low <= 0:
            raise ValueError("with :log both numbers must be above 0")
        accepted(found.ends, flag)
        return found


@dataclass(frozen=True)
class Choice:
    """One of `values`, words or numbers, as they would be typed."""

    values: tuple[str | int | float, ...]

    def __str__(self) -> str:
        return "|".join(self.ends)

    @property
    def ends(self) -> tuple[str, ...]:
        """All of them."""
        return tuple(map(word, self.values))

    def holding(self, value: Any, flag: Flag) -> str | None:
        """`value`, a setting, as it is tried; None where it is none of these."""
        return next((one for one in self.ends if flag.parse(one) == value), None)

    def checked(self, flag: Flag) -> Choice:
        """The same as words; ValueError where the flag does not take one of them."""
        if len(set(self.ends)) < max(2, len(self.ends)):
            raise ValueError("at least two different values are needed, each once")
        accepted(self.ends, flag)
        return Choice(self.ends)


def word(value: str | int | float) -> str:
    """A value as it is typed, numbers to four digits: what is tried is what a reader can type again."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def accepted(words: tuple[str, ...], flag: Flag) -> None:
    """ValueError where the flag would refuse one of the words."""
    if isinstance(flag.default, bool):
        raise ValueError("is a switch, of which a search tries nothing; search with it and without it")
    if flag.nargs:
        raise ValueError("takes several values, of which a search tries nothing")
    for one in words:
        try:
            flag.parse(one)
        except (argparse.ArgumentTypeError, ValueError) as error:
            raise ValueError(str(error)) from None
        if flag.choices is not None and one not in flag.choices:
            raise ValueError(f"{one!r} is none of {', '.join(flag.choices)}")


def parse_space(text: str) -> tuple[str, Range | Choice]:
    """`lr=1e-4:1e-2:log` -> the flag's name and what may be tried; InputError where it is no such text."""
    name, equals, rest = text.partition("=")
    name, parts = name.strip().removeprefix("--"), rest.strip().split(":")
    expected = "expected as in lr=1e-4:1e-2:log, depth=4:8 or optim=Adam|AdamW"
    if not equals or not name:
        raise InputError(f"--space {text!r}: {expected}")
    if "|" in rest:
        return name, Choice(tuple(one.strip() for one in rest.split("|")))
    if len(parts) not in (2, 3) or parts[2:] not in ([], ["log"]):
        raise InputError(f"--space {text!r}: {expected}")
    try:
        return name, Range(float(parts[0]), float(parts[1]), len(parts) == 3)
    except ValueError:
        raise InputError(f"--space {text!r}: {expected}") from None
