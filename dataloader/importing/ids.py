"""Ids of items: those that a table without ids is given."""

from __future__ import annotations

import hashlib
import json

import numpy as np


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
