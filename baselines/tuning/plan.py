"""What was typed -> what is searched; InputError for what cannot be meant. Imports no torch."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, replace

from baselines import recipe
from baselines.comparison.cells import OURS, grouped
from baselines.parser import parse_flags
from common.console import InputError
from engine.recipe import Recipe
from engine.space import Choice, Range, parse_space

K = "num_of_retrieved_items"


@dataclass(frozen=True)
class Plan:
    """A method, the flags that all trials have, and what is tried of others.

    typed: those of --space; left_out: a sentence each of what the method's own space has and these flags rule out.
    """

    method: str
    fixed: tuple[str, ...]
    space: dict[str, Range | Choice]
    typed: frozenset[str]
    left_out: tuple[str, ...] = ()

    @property
    def how(self) -> Recipe:
        return recipe(self.method)

    def defaults(self) -> dict[str, str | float]:
        """The values that the method has without a search, of those that lie in the space."""
        settings, flags = parse_flags(self.method, self.fixed), self.how.flags()
        found = {name: one.holding(settings[name], flags[name]) for name, one in self.space.items()}
        return {name: value for name, value in found.items() if value is not None}

    def only_stored(self, k: int) -> Plan:
        """The same, with no more neighbours an item than the `k` that the data sets hold."""
        tried = self.space.get(K)
        if not isinstance(tried, Range) or tried.high <= k:
            return self
        if K in self.typed:
            raise InputError(f"--space {K}={tried}: the data sets hold {k} neighbours an item; take these at most")
        if tried.low >= k:
            space = {name: one for name, one in self.space.items() if name != K}
            return replace(self, space=space, left_out=(*self.left_out, f"{K}: the data sets hold {k} an item"))
        said = f"{K} above {k}: the data sets hold no more neighbours an item"
        return replace(self, space=self.space | {K: replace(tried, high=k)}, left_out=(*self.left_out, said))


def make_plan(method: str, flags: str, typed_texts: Sequence[str]) -> Plan:
    """What --model_id, --flags and --space say."""
    how, fixed = recipe(method), fixed_flags(method, flags)
    typed = [parse_space(text) for text in typed_texts]
    names = [name for name, _ in typed]
    given = {flag.removeprefix("--") for flag in grouped(fixed)}
    for name in names:
        if names.count(name) > 1:
            raise InputError(f"--space {name}: is there twice")
        if name in given:
            raise InputError(f"--space {name}: --flags says what it is in every trial; leave one of them out")
    own = {name: one for name, one in how.search.items() if name not in given and name not in names}
    if not how.search and not typed:
        raise InputError(
            f"--model_id {method}: no search space stands with this method; say one, as in --space lr=1e-4:1e-2:log"
        )
    space, left_out = {}, []
    for name, one in (*own.items(), *typed):
        try:
            checked = checked_one(method, fixed, name, one)
        except InputError as error:
            if name in names:
                raise InputError(f"--space {name}={one}: {error}") from None
            left_out.append(f"{name}: {error}")
        else:
            space[name] = checked
    if not space:
        raise InputError(f"--flags {flags!r} leaves nothing of the search space of {method}; say one with --space")
    # In one order, however they were typed: what a trial tries depends on it.
    return Plan(method, fixed, dict(sorted(space.items())), frozenset(names), tuple(left_out))


def fixed_flags(method: str, text: str) -> tuple[str, ...]:
    """The words of --flags."""
    try:
        words = tuple(shlex.split(text))
    except ValueError as error:
        raise InputError(f"--flags {text!r}: {error}") from None
    groups = grouped(words)
    if "" in groups:
        raise InputError(f"--flags: {groups[''][0]!r} is no flag of train.py; flags begin with --")
    if ours := [flag for flag in groups if flag.removeprefix("--") in OURS]:
        raise InputError(f"--flags: {ours[0]} is set by tune.py itself; leave it out")
    try:
        parse_flags(method, words)
    except InputError as error:
        raise InputError(f"--flags: {error}") from None
    return words


def checked_one(method: str, fixed: tuple[str, ...], name: str, one: Range | Choice) -> Range | Choice:
    """One flag's part of the space in the flag's type; InputError where the method does not take it beside `fixed`."""
    flag = recipe(method).flags().get(name)
    if flag is None:
        raise InputError(f"{method} has no flag --{name}")
    if name in OURS:
        raise InputError("it is set by tune.py itself")
    try:
        checked = one.checked(flag)
    except ValueError as error:
        raise InputError(f"--{name}: {error}") from None
    for end in checked.ends:
        parse_flags(method, (*fixed, f"--{name}", end))
    return checked
