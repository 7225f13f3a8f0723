"""What is known of an item by the labels of others: of its neighbours by each source, and of its creator's videos.

Of an item of split train only what stands in other folds is counted, ten seeded ones, never all but the item itself:
from n videos' mean and the mean of the n - 1 others the item's own label could be told. Of a data set that is split by
time only what was known when the item was published is counted, in train too, and folds are not needed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from tqdm import tqdm

from common.console import PROGRESS_BAR
from dataloader.metadata import Metadata
from dataloader.neighbours import Known, Neighbours
from dataloader.store import FeatureStore

FOLDS = 10
NEAR = 0.7  # a similarity from which a neighbour is near
SHRINKAGE = 2.0  # videos of the mean label of train that a creator's mean is drawn to
DAYS = (7.0, 30.0)  # of the weights that fall with the time between two videos of a creator
LATEST = 5  # videos of a creator next in time
ROWS_AT_ONCE = 1 << 16
PUBLISHED = "published"  # a column made of the items' times
LEAST_NEW = 0.1  # share of train's videos that are taken for those of new creators
CREATOR = "creator"  # the source that needs no search


@dataclass(frozen=True)
class Statistics:
    """names: S, one for each column; values (n, S) float32, NaN where nothing is known."""

    names: list[str]
    values: np.ndarray

    def take(self, chosen: np.ndarray) -> Statistics:
        return Statistics(self.names, self.values[chosen])

    def unknown(self) -> Statistics:
        """As many items of which nothing is known."""
        return Statistics(self.names, np.full_like(self.values, np.nan))


def label_statistics(
    store: FeatureStore,
    sources: Mapping[str, Neighbours],
    rows: np.ndarray,
    *,
    creators: bool,
    k: int,
    temperature: float,
    seed: int,
) -> Statistics:
    """Of the items `rows` (n,) of the store.

    sources: name -> neighbours, of which the first k are counted. creators: count the videos of an item's creator too.
    temperature: of the weights softmax(similarity / temperature). seed: of the folds.
    """
    fold = folds_of_train(store, seed)
    parts = []
    for name, found in sources.items():
        starts = range(0, len(rows), ROWS_AT_ONCE)
        blocks = [of_neighbours(store, found, rows[s : s + ROWS_AT_ONCE], name, k, temperature, fold) for s in starts]
        parts.append(Statistics(blocks[0].names, np.concatenate([block.values for block in blocks])))
    if creators:
        parts.append(of_creators(store, rows, fold))
    names = [name for part in parts for name in part.names]
    values = [part.values for part in parts]
    return Statistics(names, np.concatenate([np.empty((len(rows), 0), np.float32), *values], axis=1))


def newcomers(train: Statistics, valid: Statistics, share: float | None, seed: int | list[int]) -> np.ndarray:
    """(n,) which items of split train are taken for those of new creators: else nearly everyone in train has a history,
    and what to do without one is never learned.

    share: of train. Without it as many as make train like valid, where with creators apart nobody has one, and a tenth
    at least: whoever comes later may be new.
    """
    if share is None:
        column = f"videos of the {CREATOR}"
        if column not in train.names or not len(valid.values) or not len(train.values):
            share = 0.0
        else:
            has, wanted = (np.mean(said.values[:, train.names.index(column)] > 0) for said in (train, valid))
            share = max(LEAST_NEW, 1 - wanted / has) if has else 0.0
    return np.random.default_rng(seed).random(len(train.values)) < share


def folds_of_train(store: FeatureStore, seed: int) -> np.ndarray:
    """(N,) the fold of each item of split train, -1 for all others; where the split is by time -1 for all."""
    fold = np.full(len(store), -1)
    if not store.label.by_time:
        train = store.items.rows("train")
        fold[train] = np.random.default_rng(seed).permutation(len(train)) % FOLDS
    return fold


def of_neighbours(
    store: FeatureStore,
    neighbours: Neighbours,
    rows: np.ndarray,
    source: str,
    k: int,
    temperature: float,
    fold: np.ndarray,
) -> Statistics:
    """Weighted mean, mean and spread of their labels, a column a target; nearest and mean similarity, how many near."""
    ids, similarity = neighbours.ids[rows, :k], neighbours.similarity[rows, :k]  # (n, K)
    own = fold[rows][:, None]  # (n, 1)
    there = (ids >= 0) & ((own < 0) | (fold[ids] != own))
    score = np.where(there, similarity / temperature, -np.inf).astype(np.float64)
    top = score.max(axis=1, keepdims=True)
    weight = np.exp(score - np.where(np.isfinite(top), top, 0))  # (n, K)
    count, total = there.sum(axis=1), weight.sum(axis=1)
    names, columns = [], []
    for target, name in enumerate(store.label.names):
        label = np.where(there, np.nan_to_num(store.items.label[ids, target]), 0)  # (n, K)
        with np.errstate(invalid="ignore", divide="ignore"):
            mean = label.sum(axis=1) / count
            spread = np.sqrt(np.where(there, (label - mean[:, None]) ** 2, 0).sum(axis=1) / count)
            columns += [(weight * label).sum(axis=1) / total, mean, spread]
        names += [f"{name} of {source} neighbours, {what}" for what in ("weighted", "mean", "spread")]
    with np.errstate(invalid="ignore", divide="ignore"):
        close = np.where(there, similarity, 0)
        columns += [np.where(count > 0, np.where(there, similarity, -1).max(axis=1), np.nan), close.sum(axis=1) / count]
    columns += [(there & (similarity >= NEAR)).sum(axis=1), count]
    names += [f"{what} of {source} neighbours" for what in ("nearest", "mean similarity", "near ones", "number")]
    return Statistics(names, np.stack(columns, axis=1).astype(np.float32))


def others_of_creators(
    store: FeatureStore, rows: np.ndarray, fold: np.ndarray
) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """For each of `rows` (n,) that has any: its place, the m rows of its creator's videos, and the days between (m,).

    Of split train alone, of other folds, and of what was known by then.
    """
    items, known = store.items, Known.of(store)
    train, days = items.rows("train"), items.day
    groups = pd.Series(items.user[train]).groupby(items.user[train]).indices
    bank = {user: train[places] for user, places in groups.items() if user}
    for place, row in enumerate(tqdm(rows, "creators", leave=False, unit="item", **PROGRESS_BAR)):
        others = bank.get(items.user[row], train[:0])
        if known is not None:
            others = others[(known.since[others] <= known.asked[row]) & (others != row)]
        elif fold[row] >= 0:
            others = others[fold[others] != fold[row]]
        if len(others):
            yield place, others, np.abs(days[others] - days[row])


def of_creators(store: FeatureStore, rows: np.ndarray, fold: np.ndarray) -> Statistics:
    """Of the labels of a creator's other videos: what is usual, what is usual at this time, and how many there are."""
    items = store.items
    mean = items.label[items.rows("train")].mean(axis=0)  # (label_dim,)
    what = ("shrunken", "mean", "spread", "next in time", *(f"within {d:g} days" for d in DAYS), f"next {LATEST}")
    names = [f"{name} of the {CREATOR}, {one}" for one in what for name in store.label.names]
    values = np.full((len(rows), len(names) + 2), np.nan, np.float32)
    values[:, -2] = 0
    for place, others, gap in others_of_creators(store, rows, fold):
        label = items.label[others]  # (m, label_dim)
        usual = label.mean(axis=0)
        found = [(label.sum(axis=0) + SHRINKAGE * mean) / (len(others) + SHRINKAGE), usual, label.std(axis=0)]
        timed = ~np.isnan(gap)
        if timed.any():
            order = np.argsort(gap[timed], kind="stable")[:LATEST]
            near, label = gap[timed], label[timed]
            found.append(label[order[0]])
            for width in DAYS:
                weight = np.exp(-(near - near[order[0]]) / width)[:, None]  # the nearest has weight 1
                found.append((weight * label).sum(axis=0) / weight.sum())
            found.append(label[order].mean(axis=0))
            values[place, -1] = near[order[0]]
        else:
            found += [np.full(len(mean), np.nan)] * (2 + len(DAYS))
        values[place, :-2] = np.concatenate(found)
        values[place, -2] = len(others)
    return Statistics([*names, f"videos of the {CREATOR}", f"days to the {CREATOR}'s next video"], values)


def with_statistics(metadata: Metadata | None, statistics: Statistics, time: np.ndarray) -> Metadata:
    """Metadata with the statistics, of the same items, as columns of their own; and, where no other time is among them,
    that of publication (n,)."""
    columns = dict(metadata.columns) if metadata is not None else {}
    if not any(values.dtype.kind == "M" for values in columns.values()) and not np.isnat(time).all():
        columns[f"{PUBLISHED} (time)" if PUBLISHED in columns else PUBLISHED] = time
    for name, values in zip(statistics.names, statistics.values.T, strict=True):
        columns[f"{name} (statistic)" if name in columns else name] = values.astype(np.float64)
    return Metadata(columns)


def without_history(statistics: Statistics, chosen: np.ndarray) -> Statistics:
    """The same, as if nothing were known of the creators of the `chosen` (n,) items."""
    values = statistics.values.copy()
    for column, name in enumerate(statistics.names):
        if name == f"videos of the {CREATOR}":
            values[chosen, column] = 0
        elif f" the {CREATOR}" in name:
            values[chosen, column] = np.nan
    return Statistics(statistics.names, values)
