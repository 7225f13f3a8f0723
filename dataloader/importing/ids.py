"""Ids of items and creators: read with every digit, or refused; and those that a table without ids is given."""

from __future__ import annotations

import hashlib
import json
import math
import re
from typing import Any

import numpy as np

from common.console import listed
from dataloader.importing.faults import Faults
from dataloader.importing.numbers import INVISIBLE
from dataloader.importing.tables import as_text

KEPT_DIGITS = 15  # of a number in a spreadsheet; more may be wrong in a float too
POWER_OF_TEN = re.compile(r"-?\d(?:[.,]\d+)?[eE]\+\d+")
LONG_FLOAT = re.compile(rf"-?\d{{{KEPT_DIGITS + 1},}}[.,]0*")
SHORT_FLOAT = re.compile(rf"(-?\d{{1,{KEPT_DIGITS}}})\.0+")
ROUNDED = re.compile(rf"-?\d{{{KEPT_DIGITS}}}0{{2,}}")
FEWEST_ROUNDED = 3  # long ids that all end in zeros; one may do so by chance


def as_ids(values: list, column: str, faults: Faults) -> np.ndarray:
    """(N,) str, "" where there is none: without surrounding blanks and invisible characters, else as written.

    Ids that a spreadsheet or a float has rounded are a problem of the column. 123.0 in every row is 123, and said.
    """
    texts = as_text([_whole(value) for value in values], column, faults.problems)
    ids = np.array([text.translate(INVISIBLE).strip() for text in texts], object)
    known = [text for text in ids if text]
    lost = [text for text in known if POWER_OF_TEN.fullmatch(text) or LONG_FLOAT.fullmatch(text)]
    if not lost:
        long = [text for text in known if len(text.lstrip("-")) > KEPT_DIGITS and text.lstrip("-").isdigit()]
        lost = long if len(long) >= FEWEST_ROUNDED and all(map(ROUNDED.fullmatch, long)) else []
    if lost:
        faults.problems.append(
            f"column {column}: {len(lost)} ids have lost digits ({listed(lost)}), as spreadsheets and floats keep "
            f"{KEPT_DIGITS}; export them anew as text: a spreadsheet imports such a column with the type Text, pandas "
            "reads it with dtype=str"
        )
    elif known and all(map(SHORT_FLOAT.fullmatch, known)):
        faults.notes.append(f"column {column}: ids such as {known[0]} are read as {SHORT_FLOAT.fullmatch(known[0])[1]}")
        ids = np.array([SHORT_FLOAT.sub(r"\1", text) for text in ids], object)
    return ids


def _whole(value: Any) -> Any:
    """A float that is a whole number as the text that shows whether it may have lost digits."""
    if isinstance(value, float) and math.isfinite(value) and value.is_integer():
        return f"{value:.1f}"
    return value


def made_ids(text: np.ndarray, user: np.ndarray, time: np.ndarray, *, numbered: bool) -> np.ndarray:
    """(N,) str, an id for each row from what it says of who published what and when.

    Never from counts or other metadata, which change, nor from its place: rows may be appended. numbered: the second
    and later rows of the same text, user and time get -2, -3 ... behind it, as they are items of their own.
    """
    seen: dict[str, int] = {}
    ids = np.empty(len(text), object)
    for row, origin in enumerate(zip(text, user, time.astype(str), strict=True)):
        key = hashlib.sha256(json.dumps([str(part) for part in origin]).encode()).hexdigest()[:16]
        seen[key] = seen.get(key, 0) + 1
        ids[row] = f"{key}-{seen[key]}" if numbered and seen[key] > 1 else key
    return ids
