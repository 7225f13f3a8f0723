"""Each of the K videos that an item may learn from, of one source or of several merged, and what is known of the pair.

Of an item of split train only what stands in other folds is a candidate, or where the split is by time what was known
when it was published: the rule of dataloader/statistics.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from dataloader.items import creators as creators_of
from dataloader.neighbours import Neighbours
from dataloader.statistics import folds_of_train, others_of_creators
from dataloader.store import FeatureStore

PAIRS_AT_ONCE = 1 << 21  # of a candidate and a neighbour, compared at once


@dataclass(frozen=True)
class Each:
    """K candidates of each of n items: ids (n, K), rows of the store, -1 pads; similarity (n, K, S) by source.

    A similarity is NaN where its source does not name the candidate. Of all N items of the store: features by modality
    (N, ...), memory-mapped; label (N, label_dim), NaN outside the bank; creator (N,), whole numbers, one of its own
    where it is unknown; day (N,) of publication, NaN where unknown.
    """

    ids: np.ndarray
    similarity: np.ndarray
    features: dict[str, np.ndarray]
    label: np.ndarray
    creator: np.ndarray
    day: np.ndarray

    def take(self, chosen: np.ndarray) -> Each:
        return replace(self, ids=self.ids[chosen], similarity=self.similarity[chosen])


def candidates(
    store: FeatureStore,
    sources: Mapping[str, Neighbours],
    rows: np.ndarray,
    features: dict[str, np.ndarray],
    *,
    creators: bool,
    k: int,
    seed: int,
    new: np.ndarray | None = None,
) -> Each:
    """Of the items `rows` (n,) of the store, from each source in turn its next best until there are k.

    sources: name -> neighbours. creators: an item's creator's other videos are a source too, the next in time first.
    seed: of the folds. new: (N,) items of which no video of their creator is a candidate.
    """
    fold, items = folds_of_train(store, seed), store.items
    creator = creators_of(items.user)
    ids = np.full((len(rows), k), -1, np.int32)
    similarity = np.full((len(rows), k, len(sources)), np.nan, np.float32)
    same = videos_of_creators(store, rows, fold, k) if creators else None
    step = max(1, PAIRS_AT_ONCE // (k * max((found.ids.shape[1] for found in sources.values()), default=k)))
    for start in range(0, len(rows), step):
        block = slice(start, start + step)
        chosen = rows[block]
        lists = [] if same is None else [same[block]]
        for found in sources.values():
            there = found.ids[chosen]
            own = fold[chosen][:, None]
            lists.append(np.where((own < 0) | (fold[there] != own), there, -1))
        if new is not None:
            lists = [np.where(new[chosen][:, None] & (creator[i] == creator[chosen][:, None]), -1, i) for i in lists]
        ids[block] = merged(lists, k)
        for place, found in enumerate(sources.values()):
            named = (ids[block][:, :, None] == found.ids[chosen][:, None]) & (ids[block] >= 0)[:, :, None]  # (n, K, k)
            best = np.where(named, found.similarity[chosen][:, None], -np.inf).max(axis=2)
            similarity[block, :, place] = np.where(np.isfinite(best), best, np.nan)
    in_bank = np.zeros(len(store), bool)
    for found in sources.values():
        in_bank |= found.in_bank(store)
    in_bank |= items.split == "train"
    label = np.where(in_bank[:, None], items.label, np.nan)
    return Each(ids, similarity, features, label, creator, items.day)


def videos_of_creators(store: FeatureStore, rows: np.ndarray, fold: np.ndarray, most: int) -> np.ndarray:
    """(n, most) other videos of each item's creator, the next in time first, -1 pads."""
    found = np.full((len(rows), most), -1, np.int32)
    for place, others, gap in others_of_creators(store, rows, fold):
        order = np.argsort(gap, kind="stable")[:most]  # unknown times come last
        found[place, : len(order)] = others[order]
    return found


def merged(lists: list[np.ndarray], k: int) -> np.ndarray:
    """Lists (n, K_s) of ids, -1 pads, each once: the first of each, then the second of each ...; (n, k), -1 pads."""
    width = max(ids.shape[1] for ids in lists)
    ids = np.full((len(lists[0]), max(width * len(lists), k)), -1, np.int32)
    for place, one in enumerate(lists):
        ids[:, place : one.shape[1] * len(lists) : len(lists)] = one
    order = np.argsort(ids, axis=1, kind="stable")
    ordered = np.take_along_axis(ids, order, axis=1)
    again = np.zeros(ids.shape, bool)
    np.put_along_axis(again, order[:, 1:], ordered[:, 1:] == ordered[:, :-1], axis=1)
    ids[again] = -1
    return np.take_along_axis(ids, np.argsort(ids < 0, axis=1, kind="stable")[:, :k], axis=1)
