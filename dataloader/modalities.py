"""The kinds of features by name. A data set holds any of them, and others under names of their own."""

from __future__ import annotations

import argparse
import re

# name -> axes of its array: visual (N, F, Dv), textual (N, Dt), audio (N, Da); any other name has two or three
MODALITIES = {"visual": 3, "textual": 2, "audio": 2}
RETRIEVAL = "retrieval"  # (N, R): what the retriever compares, and no method takes
TAKEN = {"items", "dataset", "neighbours", "metadata", "captions", "captured", "skipped"}  # files of a data set


def is_name(text: str) -> bool:
    """Whether features can have this name, which becomes that of a file."""
    return bool(re.fullmatch(r"[a-z][a-z0-9_]{0,39}", text)) and text not in TAKEN


def modality(text: str) -> str:
    """An argparse type: a name that features can have."""
    if not is_name(text):
        raise argparse.ArgumentTypeError(
            f"{text!r} names no features: lower-case letters, digits and _ are allowed, and not the name of another "
            "file of a data set"
        )
    return text


def axes(name: str) -> tuple[int, ...]:
    """How many axes the array of features `name` may have."""
    if name == RETRIEVAL:
        return (2,)
    return (MODALITIES[name],) if name in MODALITIES else (2, 3)


def in_order(names) -> list[str]:
    """Known names first, in the order of the table, then the others by name, retrieval last."""
    known = [*MODALITIES, RETRIEVAL]
    return sorted(names, key=lambda n: (n == RETRIEVAL, known.index(n) if n in known else len(known), n))


def shape_in_words(name: str) -> str:
    flat, framed = "(items, dimension)", "(items, frames, dimension)"
    return " or ".join(flat if n == 2 else framed for n in reversed(axes(name)))
