"""Split: one split of a data set as a method sees it; Batch: a slice of it as tensors.

Unlabelled: a split's features without its labels, for methods that learn from the items they will be tested on.
Nothing that a method learns from reaches it but through these, and none of them knows a label of what is tested.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace

import numpy as np
import torch
from torch import Tensor

from common import distributed
from common.console import InputError
from dataloader.aggregation import Aggregated, aggregate
from dataloader.candidates import Each
from dataloader.description import Label
from dataloader.metadata import Metadata
from dataloader.neighbours import Neighbours
from dataloader.statistics import Statistics
from dataloader.store import FeatureStore


@dataclass(frozen=True)
class NeighbourBatch:
    """What the neighbours of B items give: summed ("aggregated"), or of each of the K ("each").

    Each: features are those of the U videos that any of the B items names, and `place` says which are whose, so that a
    video that many name is computed once. A pad has label, similarity and days 0, and any place.
    """

    features: dict[str, Tensor]  # (B, F, Dv), (B, D); each: (U, F, Dv), (U, D)
    label: Tensor  # (B, label_dim); each: (B, K, label_dim)
    place: Tensor | None = None  # each: (B, K), of the U videos
    there: Tensor | None = None  # each: (B, K) bool, False for a pad
    similarity: Tensor | None = None  # each: (B, K, S) by source, NaN where a source does not name the video
    same_creator: Tensor | None = None  # each: (B, K) bool
    days: Tensor | None = None  # each: (B, K) from the neighbour's publication to the item's, NaN where unknown

    def of(self, rows: slice) -> NeighbourBatch:
        """Each: what some of the B items have; the features are all there."""
        own = {one.name: getattr(self, one.name)[rows] for one in fields(self) if one.name != "features"}
        return replace(self, **own)


@dataclass(frozen=True)
class Batch:
    """Float32 tensors of B items; label is None where one of the split has none."""

    features: dict[str, Tensor]  # by modality: visual (B, F, Dv), textual (B, Dt) ...
    neighbours: NeighbourBatch | None
    label: Tensor | None  # (B, label_dim)
    rows: Tensor  # (B,) rows of the store


class _Items:
    """What Split and Unlabelled share: n items' features by batches."""

    features: dict[str, np.ndarray]  # (N, ...) of all items of the store
    rows: np.ndarray  # (n,)
    frames: np.ndarray | None  # (F,) of those stored; None: there are no visual features
    neighbours: Aggregated | Each | None
    label: np.ndarray | None  # (n, label_dim)

    def __len__(self) -> int:
        return len(self.rows)

    def read(self, name: str, chosen: np.ndarray | slice) -> np.ndarray:
        """The features `name` of the `chosen` of the n items, as stored: (B, F, Dv) or (B, D)."""
        return self._pick(name, self.features[name], self.rows[chosen])

    def _pick(self, name: str, array: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """The `rows` (...) of an array (N, ...), and of visual features the frames that are used."""
        if name != "visual" or len(self.frames) == array.shape[1]:
            return array[rows]
        return array[rows[..., None], self.frames]

    def batches(
        self, batch_size: int, device: torch.device, shuffle: torch.Generator | None = None, together: bool = False
    ) -> Iterator[Batch]:
        """All items once, in order, or in an order drawn from `shuffle`; the last batch may be smaller.

        together: of each batch this process's part alone, as the others take theirs.
        """
        n = len(self)
        order = np.arange(n) if shuffle is None else torch.randperm(n, generator=shuffle).numpy()
        label = self.label if self.label is not None and np.isfinite(self.label).all() else None
        for start in range(0, n, batch_size):
            chosen = order[start : start + batch_size]
            if together:  # a network is given no empty batch; what is there in its place weighs nothing
                own = chosen[distributed.part(len(chosen))]
                chosen = own if len(own) else chosen[:1]
            yield Batch(
                {name: _tensor(self.read(name, chosen), device) for name in self.features},
                self._neighbours(chosen, device),
                label=None if label is None else _tensor(label[chosen], device),
                rows=torch.from_numpy(self.rows[chosen]),
            )

    def _neighbours(self, chosen: np.ndarray, device: torch.device) -> NeighbourBatch | None:
        found = self.neighbours
        if found is None:
            return None
        if isinstance(found, Aggregated):
            features = {name: _tensor(array[chosen], device) for name, array in found.features.items()}
            return NeighbourBatch(features, _tensor(found.label[chosen], device))
        ids, rows = found.ids[chosen], self.rows[chosen][:, None]  # (B, K), (B, 1)
        there = ids >= 0
        ids = np.maximum(ids, 0)
        videos, place = np.unique(ids, return_inverse=True)  # (U,)
        same = there & (found.creator[ids] == found.creator[rows])

        def padded(values: np.ndarray) -> Tensor:  # (B, K, ...), zeros for pads
            return _tensor(np.where(there.reshape(*there.shape, *[1] * (values.ndim - 2)), values, 0), device)

        return NeighbourBatch(
            {name: _tensor(self._pick(name, array, videos), device) for name, array in found.features.items()},
            padded(found.label[ids]),
            torch.from_numpy(place.reshape(ids.shape)).to(device),
            torch.from_numpy(there).to(device),
            padded(found.similarity[chosen]),
            torch.from_numpy(same).to(device),
            padded(found.day[rows] - found.day[ids]),
        )


@dataclass(frozen=True)
class Unlabelled(_Items):
    """n items' features, and what else is known of them, and no way to their labels.

    Neither the store nor its table is in reach; what the statistics count are labels of the bank alone.
    """

    features: dict[str, np.ndarray]
    rows: np.ndarray
    frames: np.ndarray | None
    time: np.ndarray  # (n,) datetime64[us], NaT where unknown
    text: np.ndarray  # (n,) str
    metadata: Metadata | None = None
    statistics: Statistics | None = None
    fingerprint: str = ""
    neighbours = label = None


@dataclass(frozen=True)
class Split(_Items):
    """n items, their features by modality, labels, creators, times, texts, neighbours, if any of these is known."""

    features: dict[str, np.ndarray]
    rows: np.ndarray
    frames: np.ndarray | None
    neighbours: Aggregated | Each | None
    label: np.ndarray  # (n, label_dim) float64; NaN where an item has none
    target: Label  # what the label is
    user: np.ndarray  # (n,) str, "" where unknown
    time: np.ndarray  # (n,) datetime64[us], NaT where unknown
    text: np.ndarray  # (n,) str, "" where there is none
    metadata: Metadata | None = None  # of the n items, for a method that takes its columns as they are
    statistics: Statistics | None = None  # of the n items, for a method that takes neighbours as such
    fingerprint: str = ""  # of the data set

    def unlabelled(self) -> Unlabelled:
        own = (self.time, self.text, self.metadata, self.statistics, self.fingerprint)
        return Unlabelled(self.features, self.rows, self.frames, *own)

    def sample(self, chosen: np.ndarray) -> Split:
        """Of the `chosen` of the n items alone."""
        found = self.neighbours
        if found is not None:
            found = found.take(chosen)
        own = {name: getattr(self, name)[chosen] for name in ("rows", "label", "user", "time", "text")}
        metadata = self.metadata and self.metadata.take(chosen)
        statistics = self.statistics and self.statistics.take(chosen)
        return replace(self, neighbours=found, metadata=metadata, statistics=statistics, **own)


def open_split(
    store: FeatureStore,
    split: str,
    *,
    features: dict[str, np.ndarray] | None = None,
    metadata: Metadata | None = None,
    frame_num: int | None = None,
    neighbours: Neighbours | None = None,
    num_of_retrieved_items: int = 10,
    similarity_temperature: float = 1.0,
) -> Split:
    """`split` of `store` with `features`, arrays (N, ...) of all its items (all it has, if not given), and `metadata`.

    neighbours: whom they retrieve, summed by softmax(similarity / similarity_temperature); nothing where it is None.
    """
    features = {name: store.features[name] for name in store.arrays} if features is None else features
    rows, items = store.rows(split), store.items
    frames = choose_frames(features["visual"].shape[1], frame_num) if "visual" in features else None
    found = None
    if neighbours is not None:
        weighing = (num_of_retrieved_items, similarity_temperature)
        found = aggregate(store, neighbours, rows, *weighing, frames, features)
    own = (items.label[rows], store.label, items.user[rows], items.time[rows], items.text[rows])
    described = {"metadata": metadata and metadata.take(rows), "fingerprint": store.fingerprint}
    return Split(features, rows, frames, found, *own, **described)


def choose_frames(stored: int, frame_num: int | None) -> np.ndarray:
    """Which frames of `stored` are used: all, or `frame_num`, spaced as the protocol spaces frames in a video."""
    if frame_num is None:
        return np.arange(stored)
    if frame_num > stored:
        raise InputError(f"--frame_num {frame_num}: the data set stores {stored} frames a video; give at most {stored}")
    return np.linspace(0, stored - 1, frame_num).astype(int)


def _tensor(array: np.ndarray, device: torch.device) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(array)).to(device).float()
