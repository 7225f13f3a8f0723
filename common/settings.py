"""Settings: dataclasses whose fields are flags, each with its default, its help and its check. Imports no torch.

The parser of a script is made from them, config.json holds their values, and a published flag is a field's name.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Collection, Mapping
from dataclasses import MISSING, dataclass, field, fields, replace
from typing import Any, TypeVar

Made = TypeVar("Made")


@dataclass(frozen=True)
class Flag:
    """A command-line flag. A bool as default makes it a switch; `parse` is an argparse type.

    kind: the type that config.json has of it. nargs, metavar: as argparse takes them. A flag whose default is MISSING
    is required. either: of those flags of a settings class that have this, a command line takes one at most.
    """

    help: str
    parse: Callable[[str], Any] = str
    default: Any = None
    choices: tuple[str, ...] | None = None
    kind: type = str
    nargs: str | None = None
    metavar: str | None = None
    either: bool = False

    def add(self, group, name: str) -> None:
        if isinstance(self.default, bool):
            group.add_argument(f"--{name}", action="store_true", help=self.help)
            return
        how = {"type": self.parse, "choices": self.choices, "help": self.help}
        default = list(self.default) if self.nargs and isinstance(self.default, tuple) else self.default
        how |= {"required": True} if default is MISSING else {"default": default}
        group.add_argument(f"--{name}", nargs=self.nargs, metavar=self.metavar, **how)

    def accepts(self, value: object) -> bool:
        """Whether config.json may hold `value` for this flag."""
        if self.default is None and value is None:
            return True
        if type(value) is not self.kind or (self.choices is not None and value not in self.choices):
            return False
        if self.kind is bool:
            return True
        words = [str(value)] if self.kind is not list else value if self.nargs else ["+".join(map(str, value))]
        try:
            for word in words:
                self.parse(word)
        except (argparse.ArgumentTypeError, ValueError, TypeError):
            return False
        return True


def setting(
    default: Any,
    help: str,
    parse: Callable[[str], Any] = str,
    choices: tuple[str, ...] | None = None,
    *,
    typed: Any = None,
    kind: type | None = None,
    nargs: str | None = None,
    metavar: str | None = None,
    either: bool = False,
) -> Any:
    """A field of a settings class; with dataclasses.MISSING as default it must be given, by a script if not by a user.

    typed: its default as it would be typed, where that is parsed to something else. kind: the type in config.json,
    where the default (None, a tuple) does not say it: a whole number for None.
    """
    kind = kind or {type(None): int, tuple: list, type(MISSING): str}.get(type(default), type(default))
    flag = Flag(help, parse, default if typed is None else typed, choices, kind, nargs, metavar, either)
    return field(default=default, metadata={"flag": flag})


def flags_of(settings: type) -> dict[str, Flag]:
    """A settings class -> its flags by name; a field without a flag is not for the command line."""
    return {one.name: one.metadata["flag"] for one in fields(settings) if "flag" in one.metadata}


def add_flags(group, settings: type, *, without: Collection[str] = (), **defaults: Any) -> None:
    """Add the flags of a settings class to a parser or to a group of one; `defaults`: those that are others here.

    without: those that the parser has of its own, with another meaning besides.
    """
    flags = {name: flag for name, flag in flags_of(settings).items() if name not in without}
    either = group.add_mutually_exclusive_group() if any(flag.either for flag in flags.values()) else group
    for name, flag in flags.items():
        replace(flag, default=defaults.get(name, flag.default)).add(either if flag.either else group, name)


def made(settings: type[Made], values: Mapping[str, Any]) -> Made:
    """The settings that parsed flags, or a run's config.json, say; what `values` lacks keeps its default."""
    return settings(**{one.name: values[one.name] for one in fields(settings) if one.name in values})
