"""What was typed for compare.py -> the rows of its table; InputError for what cannot be meant."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from baselines import METHODS
from baselines.comparison.cells import OURS, Row, grouped
from baselines.comparison.trivial import TRIVIAL
from baselines.parser import parse_flags
from common.console import InputError

DEFAULT_REFERENCE = "MMRA"


def plan_rows(
    methods: Sequence[str],
    flags: Sequence[str],
    row_texts: Sequence[str],
    seeds: Sequence[int],
    reference: str | None,
    ablate: bool,
) -> list[Row]:
    """What --methods, --flags, --row, --seeds, --reference and --ablation say; the reference comes first.

    reference: None where it was not typed: MMRA, or nothing where there are no rows but the trivial ones.
    """
    typed = [split_row("--row", text, "=") for text in row_texts]
    extra = dict(split_row("--flags", text, ":") for text in flags)
    if len(extra) < len(flags):
        raise InputError("--flags: each method at most once; put all its flags into one")
    if unknown := [name for name in extra if name not in methods]:
        raise InputError(f"--flags {unknown[0]}: not a row of --methods ({', '.join(methods) or 'none'})")
    rows = [Row(name, name, tuple(extra.get(name, ()))) for name in methods]
    rows += [Row(name, words[0], tuple(words[1:])) for name, words in typed]
    names = [row.name for row in rows]
    if twice := [name for name in names if [*names, *TRIVIAL].count(name) > 1]:
        raise InputError(f"row {twice[0]} is there twice; give one of them another name")
    if len(set(seeds)) < len(seeds):
        raise InputError(f"--seeds {' '.join(map(str, seeds))}: each seed once")
    for row in rows:
        check_row(row)
    if not ablate and (reference in TRIVIAL or (reference is None and not rows)):
        return rows
    reference = reference or DEFAULT_REFERENCE
    if reference not in names:
        raise InputError(f"--reference {reference}: no such row; the rows are {', '.join(names) or 'none'}")
    first = rows[names.index(reference)]
    if ablate and first.method != "MMRA":
        raise InputError(f"--ablation: takes MMRA apart; the reference row {first.name} is {first.method}")
    if ablate and first.settings["no_retrieval"]:
        raise InputError(
            f"--ablation: the reference row {first.name} is without retrieval already; take another --reference"
        )
    return [first, *(row for row in rows if row is not first)]


def split_row(flag: str, text: str, mark: str) -> tuple[str, list[str]]:
    name, found, rest = text.partition(mark)
    try:
        words = shlex.split(rest)
    except ValueError as error:
        raise InputError(f"{flag} {text!r}: {error}") from None
    if not found or not name.strip() or not words:
        expected = '"NAME=METHOD FLAGS"' if flag == "--row" else '"METHOD: FLAGS"'
        raise InputError(f"{flag} {text!r}: expected {expected}")
    return name.strip(), words


def check_row(row: Row) -> None:
    if row.method not in METHODS:
        raise InputError(f"row {row.name}: unknown method {row.method}; known: {', '.join(METHODS)}")
    if "|" in row.name or not row.name.isprintable():
        raise InputError(f"row {row.name!r}: a name without | and in printable letters is needed, for the tables")
    groups = grouped(row.flags)
    if "" in groups:
        raise InputError(f"row {row.name}: {groups[''][0]!r} is no flag of train.py; flags begin with --")
    if given := [flag for flag in groups if flag.lstrip("-") in OURS]:
        raise InputError(
            f"row {row.name}: {given[0]} is set by compare.py itself, the same for every row; leave it out"
        )
    try:
        parse_flags(row.method, row.flags)
    except InputError as error:
        raise InputError(f"row {row.name}: {error}") from None
