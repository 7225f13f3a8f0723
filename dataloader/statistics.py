"""What is known of an item by the labels of others: of its neighbours by each source, and of its creator's videos.

The labels as they are, and what of them is beyond expectation (dataloader/expectation.py). Of an item of split train
only what stands in other folds is counted, ten seeded ones, never all but the item itself: from n videos' mean and the
mean of the n - 1 others the item's own label could be told. Of a data set that is split by time only what was known
when the item was published is counted, in train too, and folds are not needed; what is expected, and what is usual, is
learned of all of train but the item's fold there too, as any method learns of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from tqdm import tqdm

from common.console import PROGRESS_BAR
from dataloader.expectation import FOLDS, drawn_folds
from dataloader.items import creators as creators_of
from dataloader.metadata import Metadata
from dataloader.neighbours import Known, Neighbours
from dataloader.store import FeatureStore

NEAR = 0.7  # a similarity from which a neighbour is near
LEAST_DRAWN, MOST_DRAWN = 0.1, 30.0  # videos of the usual that a creator's mean is drawn to
DAYS = (7.0, 30.0)  # of the weights that fall with the time between two videos of a creator
LATEST = 5  # videos of a creator next in time
ROWS_AT_ONCE = 1 << 16
PUBLISHED = "published"  # a column made of the items' times
LEAST_NEW = 0.1  # share of train's videos of whose creators nothing is known
CREATOR = "creator"  # the source that needs no search
BEYOND = "beyond expectation"


@dataclass(frozen=True)
class Statistics:
    """names: S, one for each column; values (n, S) float32, NaN where nothing is known."""

    names: list[str]
    values: np.ndarray

    def take(self, chosen: np.ndarray) -> Statistics:
        return Statistics(self.names, self.values[chosen])

    @classmethod
    def joined(cls, parts: Sequence[Statistics]) -> Statistics:
        """Of the same items, side by side."""
        names = [name for part in parts for name in part.names]
        return cls(names, np.concatenate([part.values for part in parts], axis=1))

    def of(self, rows: np.ndarray, n: int) -> Statistics:
        """Of n items, of which these are the statistics of `rows`; of the others nothing is known."""
        values = np.full((n, len(self.names)), np.nan, np.float32)
        values[rows] = self.values
        return Statistics(self.names, values)

    def unknown(self) -> Statistics:
        """As many items of which nothing is known."""
        return Statistics(self.names, np.full_like(self.values, np.nan))


@dataclass(frozen=True)
class Said:
    """What others say: T values of each of N items, and their names.

    values (G, N, T) float32: an item is told those of number `told` (N,), which know nothing of its own label. Of each
    number, of split train: what is usual (G, T), and how many videos of it a creator's mean is drawn to, drawn (G, T).
    """

    names: list[str]
    usual: np.ndarray
    drawn: np.ndarray
    values: np.ndarray
    told: np.ndarray

    @classmethod
    def by(cls, store: FeatureStore, beyond: np.ndarray | None, seed: int) -> Said:
        """The labels, and where (G, N, label_dim) are given what of them is beyond expectation. seed: of the folds."""
        items, names, train = store.items, list(store.label.names), store.items.rows("train")
        told = np.zeros(len(store), int)
        told[train] = drawn_folds(len(train), seed) + 1
        shape = (FOLDS + 1, *items.label.shape)
        parts = [np.broadcast_to(part, shape) for part in (items.label[None], beyond) if part is not None]
        names += [f"{name} {BEYOND}" for name in names] if len(parts) > 1 else []
        values = np.concatenate(parts, axis=2).astype(np.float32)
        known = [train[told[train] != place] if place else train for place in range(FOLDS + 1)]
        usual = np.stack([values[place, rows].mean(axis=0) for place, rows in enumerate(known)])
        drawn = [shrinkage(values[place, rows], items.user[rows]) for place, rows in enumerate(known)]
        return cls(names, usual, np.stack(drawn), values, told)


def shrinkage(values: np.ndarray, user: np.ndarray) -> np.ndarray:
    """(T,) how many videos of the usual a creator's mean is drawn to, of values (m, T) of videos and creators (m,).

    The variance among a creator's videos over that among creators, by an analysis of variance.
    """
    value, (number, names) = values[user != ""].astype(np.float64), pd.factorize(user[user != ""])
    if len(names) < 2 or len(number) <= len(names):
        return np.full(values.shape[1], MOST_DRAWN)
    count = np.bincount(number)  # (C,)
    mean = np.stack([np.bincount(number, column) for column in value.T], axis=1) / count[:, None]  # (C, T)
    within = ((value - mean[number]) ** 2).sum(axis=0) / (len(number) - len(names))
    among = (count[:, None] * (mean - value.mean(axis=0)) ** 2).sum(axis=0) / (len(names) - 1)
    size = (len(number) - (count**2).sum() / len(number)) / (len(names) - 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = within / np.maximum((among - within) / size, 0)
    return np.clip(np.nan_to_num(ratio, nan=MOST_DRAWN), LEAST_DRAWN, MOST_DRAWN)


def label_statistics(
    store: FeatureStore,
    sources: Mapping[str, Neighbours],
    rows: np.ndarray,
    *,
    creators: bool,
    k: int,
    temperature: float,
    seed: int,
    beyond: np.ndarray | None = None,
    new: np.ndarray | None = None,
) -> Statistics:
    """Of the items `rows` (n,) of the store.

    sources: name -> neighbours, of which the first k are counted. creators: count the videos of an item's creator too.
    temperature: of the weights softmax(similarity / temperature). seed: of the folds. beyond: what of
    the labels is beyond expectation (dataloader/expectation.py). new: (N,) items of which no video
    of their creator is counted, as if they were of new ones.
    """
    fold, said = folds_of_train(store, seed), Said.by(store, beyond, seed)
    new = np.zeros(len(store), bool) if new is None else new
    parts = []
    for name, found in sources.items():
        starts = range(0, len(rows), ROWS_AT_ONCE)
        given = (name, k, temperature, fold, said, new)
        blocks = [of_neighbours(store, found, rows[start : start + ROWS_AT_ONCE], *given) for start in starts]
        parts.append(Statistics(blocks[0].names, np.concatenate([block.values for block in blocks])))
    if creators:
        parts.append(of_creators(store, rows, fold, said, new))
    return Statistics.joined([Statistics([], np.empty((len(rows), 0), np.float32)), *parts])


def newcomers(store: FeatureStore, share: float | None, seed: int) -> np.ndarray:
    """(N,) which items of split train are taken for those of new creators, so that what to do without a history is
    learned.

    share: of train. Without it as many as make train like valid, where with creators apart nobody has one; where valid
    has no fewer histories, as many as leave a tenth of train without, since whoever comes later may be new.
    """
    items, new = store.items, np.zeros(len(store), bool)
    if share is None:
        fold = folds_of_train(store, seed)
        has, wanted = (known_creators(store, items.rows(split), fold) for split in ("train", "valid"))
        share = max(0.0, 1 - min(wanted, 1 - LEAST_NEW) / has) if has else 0.0
    train = items.rows("train")
    new[train] = np.random.default_rng([seed, 1]).random(len(train)) < share
    return new


def known_creators(store: FeatureStore, rows: np.ndarray, fold: np.ndarray) -> float:
    """Share of `rows` (n,) of whose creator another video is known."""
    return sum(1 for _ in others_of_creators(store, rows, fold)) / max(1, len(rows))


def folds_of_train(store: FeatureStore, seed: int) -> np.ndarray:
    """(N,) the fold of each item of split train, -1 for all others; where the split is by time -1 for all."""
    fold = np.full(len(store), -1)
    if not store.label.by_time:
        train = store.items.rows("train")
        fold[train] = drawn_folds(len(train), seed)
    return fold


def of_neighbours(
    store: FeatureStore,
    neighbours: Neighbours,
    rows: np.ndarray,
    source: str,
    k: int,
    temperature: float,
    fold: np.ndarray,
    said: Said,
    new: np.ndarray,
) -> Statistics:
    """Weighted mean, mean and spread of what they say, a column each; nearest and mean similarity, how many near."""
    ids, similarity = neighbours.ids[rows, :k], neighbours.similarity[rows, :k]  # (n, K)
    own, user = fold[rows][:, None], creators_of(store.items.user)
    there = (ids >= 0) & ((own < 0) | (fold[ids] != own))
    there &= ~(new[rows][:, None] & (user[ids] == user[rows][:, None]))
    score = np.where(there, similarity / temperature, -np.inf).astype(np.float64)
    top = score.max(axis=1, keepdims=True)
    weight = np.exp(score - np.where(np.isfinite(top), top, 0))  # (n, K)
    names, columns = [], []
    for place, name in enumerate(said.names):
        value = said.values[said.told[rows][:, None], ids, place]  # (n, K)
        says = there & np.isfinite(value)  # of a bank beyond train nothing is expected
        value, count = np.where(says, value, 0), says.sum(axis=1)
        with np.errstate(invalid="ignore", divide="ignore"):
            mean = value.sum(axis=1) / count
            spread = np.sqrt(np.where(says, (value - mean[:, None]) ** 2, 0).sum(axis=1) / count)
            columns += [(weight * value).sum(axis=1) / (weight * says).sum(axis=1), mean, spread]
        names += [f"{name} of {source} neighbours, {what}" for what in ("weighted", "mean", "spread")]
    count = there.sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        close = np.where(there, similarity, 0).sum(axis=1) / count
        near = (there & (similarity >= NEAR)).sum(axis=1) / count
    nearest = np.where(count > 0, np.where(there, similarity, -1).max(axis=1), np.nan)
    # As many as were found, own fold or not: what is tested has no fold, and train must look like it.
    columns += [nearest, close, near, (ids >= 0).sum(axis=1)]
    names += [f"{what} of {source} neighbours" for what in ("nearest", "mean similarity", "share of near", "number")]
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


def of_creators(store: FeatureStore, rows: np.ndarray, fold: np.ndarray, said: Said, new: np.ndarray) -> Statistics:
    """Of what a creator's other videos say: what is usual, what is usual at this time, and how many there are."""
    what = ("shrunken", "mean", "spread", "next in time", *(f"within {d:g} days" for d in DAYS), f"next {LATEST}")
    names = [f"{name} of the {CREATOR}, {one}" for one in what for name in said.names]
    values = np.full((len(rows), len(names) + 2), np.nan, np.float32)
    values[:, -2] = 0
    for place, others, gap in others_of_creators(store, rows, fold):
        if new[rows[place]]:
            continue
        number = said.told[rows[place]]
        told, drawn = said.values[number, others].astype(np.float64), said.drawn[number]  # (m, T), (T,)
        usual = told.mean(axis=0)
        shrunken = (told.sum(axis=0) + drawn * said.usual[number]) / (len(others) + drawn)
        found = [shrunken, usual, told.std(axis=0)]
        timed = ~np.isnan(gap)
        if timed.any():
            order = np.argsort(gap[timed], kind="stable")[:LATEST]
            near, told = gap[timed], told[timed]
            found.append(told[order[0]])
            for width in DAYS:
                weight = np.exp(-(near - near[order[0]]) / width)[:, None]  # the nearest has weight 1
                found.append((weight * told).sum(axis=0) / weight.sum())
            found.append(told[order].mean(axis=0))
            values[place, -1] = near[order[0]]
        else:
            found += [np.full(len(usual), np.nan)] * (2 + len(DAYS))
        values[place, :-2] = np.concatenate(found)
        values[place, -2] = len(others)
    return Statistics([*names, f"videos of the {CREATOR}", f"days to the {CREATOR}'s next video"], values)


def with_time(metadata: Metadata | None, time: np.ndarray) -> Metadata | None:
    """Metadata, and where no other time is among them, that of publication (n,); None where nothing is known."""
    columns = dict(metadata.columns) if metadata is not None else {}
    if not any(values.dtype.kind == "M" for values in columns.values()) and not np.isnat(time).all():
        columns[f"{PUBLISHED} (time)" if PUBLISHED in columns else PUBLISHED] = time
    return Metadata(columns) if columns else None


def with_statistics(metadata: Metadata | None, statistics: Statistics) -> Metadata:
    """Metadata with the statistics, of the same items, as columns of their own."""
    columns = dict(metadata.columns) if metadata is not None else {}
    for name, values in zip(statistics.names, statistics.values.T, strict=True):
        columns[f"{name} (statistic)" if name in columns else name] = values.astype(np.float64)
    return Metadata(columns)
