"""Adaptive conformal inference: intervals of items in the order of time, wider after misses, narrower after hits.

Gibbs and Candès, Adaptive conformal inference under distribution shift, 2021: after each item whose label has become
known, the share that may be missed is moved by RATE * (promised share - whether it was missed). Here a label becomes
known when it was counted, which may be long after the item was predicted.
"""

from __future__ import annotations

import heapq

import numpy as np

from dataloader.items import Items
from dataloader.store import FeatureStore
from engine.intervals import Intervals

RATE = 0.02  # within what their paper tries, 0.005 to 0.05


def adapted(
    intervals: Intervals, store: FeatureStore, rows: np.ndarray, prediction: np.ndarray, expected: np.ndarray
) -> tuple[dict[str, np.ndarray], int]:
    """lower_80 ... -> (n, label_dim) of the items `rows` (n,), as of Intervals.of; and of how many something was known.

    expected (n, label_dim): the errors expected. An item's interval is made of the labels of items that were counted
    before it was published alone; without dates of counting, of those published before it.
    """
    items, bands = store.items, {}
    since, asked = known_of(items)
    order, told = np.argsort(asked[rows], kind="stable"), 0
    for level in intervals.levels:
        half = np.empty_like(expected)  # (n, label_dim)
        for t in range(expected.shape[1]):
            scores = np.sort(intervals.scores[:, t])[::-1]
            error = np.abs(items.label[rows, t] - prediction[:, t]) / expected[:, t]
            half[:, t], told = quantiles(scores, error, since[rows], asked[rows], order, level)
        bands[f"lower_{level}"], bands[f"upper_{level}"] = prediction - half * expected, prediction + half * expected
    return bands, told


def quantiles(
    scores: np.ndarray, error: np.ndarray, since: np.ndarray, asked: np.ndarray, order: np.ndarray, level: int
) -> tuple[np.ndarray, int]:
    """(n,) how many expected errors wide each half interval is; and how many items had any label to learn from.

    scores: of calibration, the largest first; the first is the widest there is, where the paper would have infinity.
    error (n,): scores of the items, NaN where the label is unknown; since (n,): when each is known.
    """
    target = (100 - level) / 100
    missed, found, waiting, told, learned = target, np.empty(len(error)), [], 0, False
    for place in order:
        while waiting and waiting[0][0] <= asked[place]:
            _, _, miss = heapq.heappop(waiting)
            missed, learned = missed + RATE * (target - miss), True
        told += learned
        # Within 1e-9: as in Intervals.of, floats must not cost a rank.
        k = int(np.clip(missed * (len(scores) + 1) + 1e-9, 1, len(scores)))
        found[place] = scores[k - 1]
        if np.isfinite(error[place]):
            heapq.heappush(waiting, (since[place], place, float(error[place] > found[place])))
    return found, told


def known_of(items: Items) -> tuple[np.ndarray, np.ndarray]:
    """(N,) microseconds: when each label is known, and when each item is predicted; the largest where never."""
    never = np.iinfo(np.int64).max
    time = np.where(np.isnat(items.time), never - 1, items.time.astype(np.int64))
    if "label_time" not in items.origin:
        return np.where(time == never - 1, never, time + 1), time
    counted = np.where(np.isnat(items.label_time), never, items.label_time.astype(np.int64))
    return np.maximum(counted, time), time
