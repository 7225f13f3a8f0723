"""MethodParser: the flags of a script depend on the method, which is read from the command line first."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any

from baselines import METHODS, recipe
from common.console import InputError, Parser

UNKNOWN = "unrecognized arguments: "


class MethodParser(Parser):
    """A parser for one method, which hands a command line of another method to that method's parser.

    build: (model_id, preset) -> a parser. named: words -> the (model_id, preset) that they name, and the run with its
    recipe and what it was trained with, where they name one. What it parses has it as `opened`.
    """

    def __init__(self, build: Callable, named: Callable, model_id: str, preset: str | None, **kwargs):
        super().__init__(**kwargs)
        self._build, self._named, self._chosen = build, named, (model_id, preset)

    def parse_args(self, args=None, namespace=None):
        words = sys.argv[1:] if args is None else list(args)
        chosen, opened = self._named(words)
        parser = self if chosen == self._chosen else self._build(*chosen)
        parsed = super(MethodParser, parser).parse_args(words, namespace)
        parsed.opened = opened
        return parsed

    def error(self, message: str):
        """Says whose flag it is that this method has not."""
        if message.startswith(UNKNOWN):
            flag = message.removeprefix(UNKNOWN).split()[0].split("=")[0]
            owners = [name for name in METHODS if flag.removeprefix("--") in recipe(name).flags()]
            if owners and flag.startswith("--"):
                message = f"{flag} is not a flag of {self._chosen[0]}, but of {', '.join(owners)}"
        super().error(message)


class _Refusing(Parser):
    def error(self, message: str):
        raise InputError(message)


def parse_flags(model_id: str, words: Sequence[str]) -> dict[str, Any]:
    """The settings of the method that train.py makes of `words`; InputError for what it would refuse in them."""
    preset = preparse(list(words), "preset", parser=_Refusing)["preset"]
    parser = _Refusing(add_help=False)
    for flags in recipe(model_id).groups(preset).values():
        for name, flag in flags.items():
            flag.add(parser, name)
    settings = vars(parser.parse_args(list(words)))
    recipe(model_id).check(settings, settings.pop("typed"))
    return settings


def preparse(words: list[str], *flags: str, parser: type[Parser] = Parser) -> dict[str, str | None]:
    """The values of `flags` among `words`, whatever else stands there; None where a flag is not given."""
    first = parser(add_help=False)
    for flag in flags:
        first.add_argument(f"--{flag}", default=None)
    return vars(first.parse_known_args(words)[0])
