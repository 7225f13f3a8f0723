"""Which items of split valid calibrate intervals of predictions, and so are seen by nothing that learns or chooses."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

import numpy as np

from common.console import InputError
from dataloader.batches import Split
from dataloader.neighbours import Neighbours, sources_of
from dataloader.store import FeatureStore

CALIBRATION = "calibration"  # their name, as that of a split
LEAST = 19  # items, with which an interval of 95 % is finite: as large as the largest error of them
ENOUGH = 40  # with fewer the coverage may be far from what is promised


def calibrates(item_id: Sequence[str], user: Sequence[str]) -> np.ndarray:
    """(n,) which items are for calibration: about half, by the SHA-256 of the creator's name, else of the item's id.

    All videos of a creator fare alike, so they go together. Nothing but the name decides, so that the same items are
    held back by every method and every seed, and stay held back when a data set is made anew with more items.
    """
    names = (f"creator {name}" if name else f"item {item}" for item, name in zip(item_id, user, strict=True))
    first = [hashlib.sha256(name.encode("utf-8", "surrogatepass")).digest()[0] for name in names]
    return np.array(first, int) < 128


def divided(store: FeatureStore, splits: Mapping[str, Split]) -> dict[str, Split]:
    """The same, with split valid in two: valid, which chooses, and calibration."""
    found = dict(splits)
    if (valid := found.get("valid")) is not None:
        held = calibrates(store.items.item_id[valid.rows], valid.user)
        found |= {"valid": valid.sample(np.flatnonzero(~held)), CALIBRATION: valid.sample(np.flatnonzero(held))}
    return found


def why_none(store: FeatureStore) -> str | None:
    """Why no items of split valid are held back, in words; None where they are."""
    for source in sources_of(store):
        try:
            bank = Neighbours.read(store, source).bank
        except InputError:  # where a method wants them, it says so itself
            continue
        if bank != "train":
            return f"the neighbours' bank is {bank}, so the labels of split valid are learned from"
    items, rows = store.items, store.items.rows("valid")
    held = calibrates(items.item_id[rows], items.user[rows])
    if min(held.sum(), (~held).sum()) < LEAST:
        return f"split valid has {len(rows)} items, too few to hold {LEAST} of them back, and keep as many"
    return None
