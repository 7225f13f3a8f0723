"""Several rows of one video, read at different times: which of them becomes the item."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np

KEEP = ("first", "last", "max")


def settle(
    keys: Sequence[Hashable], keep: str, rows: np.ndarray, count: np.ndarray, time: np.ndarray
) -> dict[int, int]:
    """Row that is left out -> the row of the same key that is kept in its place.

    keys: (N,), None for a row that is like no other. rows: those of them that are looked at. first, last: by the time
    of counting (N,), where all rows of a video have one, else by their order. max: the largest count (N,); where
    several have it, the first of these.
    """
    groups: dict[Hashable, list[int]] = {}
    for row in map(int, rows):
        if keys[row] is not None:
            groups.setdefault(keys[row], []).append(row)
    left_out = {}
    for group in groups.values():
        if len(group) == 1:
            continue
        if keep == "max":
            kept = max(group, key=lambda row: (-np.inf if np.isnan(count[row]) else count[row], -row))
        else:
            timed = not np.isnat(time[group]).any()
            order = sorted(group, key=lambda row: (time[row] if timed else 0, row))
            kept = order[0 if keep == "first" else -1]
        left_out |= {row: kept for row in group if row != kept}
    return left_out
