"""Split: one split of a data set as a method sees it; Batch: a slice of it as tensors.

Unlabelled: a split's features without its labels, for methods that learn from the items they will be tested on.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from common.console import InputError
from dataloader.neighbours import Neighbours, Retrieved, aggregate
from dataloader.store import FeatureStore


@dataclass(frozen=True)
class Batch:
    """Float32 tensors of B items; what neighbours contribute is already aggregated."""

    visual: Tensor  # (B, F, Dv)
    textual: Tensor  # (B, Dt)
    retrieved_visual: Tensor | None  # (B, F, Dv)
    retrieved_textual: Tensor | None  # (B, Dt)
    retrieved_label: Tensor | None  # (B, label_dim)
    label: Tensor | None  # (B, label_dim)
    rows: Tensor  # (B,) rows of the store


class _Items:
    """What Split and Unlabelled share: n items' features by batches."""

    visual: np.ndarray  # (N, frames stored, Dv)
    textual: np.ndarray  # (N, Dt)
    rows: np.ndarray  # (n,)
    frames: np.ndarray  # (F,) of those stored
    retrieved: Retrieved | None
    label: np.ndarray | None  # (n, label_dim)

    def __len__(self) -> int:
        return len(self.rows)

    def features(self, chosen: np.ndarray | slice) -> tuple[np.ndarray, np.ndarray]:
        """Of the `chosen` of the n items, as stored: visual (B, F, Dv), textual (B, Dt)."""
        rows = self.rows[chosen]
        every_frame = len(self.frames) == self.visual.shape[1]
        visual = self.visual[rows] if every_frame else self.visual[rows[:, None], self.frames]  # (B, F, Dv)
        return visual, self.textual[rows]

    def batches(self, batch_size: int, device: torch.device, shuffle: torch.Generator | None = None) -> Iterator[Batch]:
        """All items once, in order, or in an order drawn from `shuffle`; the last batch may be smaller."""
        n = len(self)
        order = np.arange(n) if shuffle is None else torch.randperm(n, generator=shuffle).numpy()
        label = self.label if self.label is not None and np.isfinite(self.label).all() else None
        for start in range(0, n, batch_size):
            chosen = order[start : start + batch_size]
            retrieved = [None] * 3
            if self.retrieved is not None:
                r = self.retrieved
                retrieved = [_tensor(array[chosen], device) for array in (r.visual, r.textual, r.label)]
            yield Batch(
                *(_tensor(array, device) for array in self.features(chosen)),
                *retrieved,
                label=None if label is None else _tensor(label[chosen], device),
                rows=torch.from_numpy(self.rows[chosen]),
            )


@dataclass(frozen=True)
class Unlabelled(_Items):
    """n items' features and no way to their labels: neither the store nor its table is in reach."""

    visual: np.ndarray
    textual: np.ndarray
    rows: np.ndarray
    frames: np.ndarray
    retrieved = label = None


@dataclass(frozen=True)
class Split(_Items):
    """n items of a store: `rows` (n,), the `frames` used of each, and what they retrieved, if anything."""

    store: FeatureStore
    rows: np.ndarray
    frames: np.ndarray
    retrieved: Retrieved | None

    @property
    def visual(self) -> np.ndarray:
        return self.store.visual

    @property
    def textual(self) -> np.ndarray:
        return self.store.textual

    @property
    def label(self) -> np.ndarray:
        """(n, label_dim) float64; NaN where an item has none."""
        return self.store.items.label[self.rows]

    def unlabelled(self) -> Unlabelled:
        return Unlabelled(self.visual, self.textual, self.rows, self.frames)


def open_split(
    store: FeatureStore,
    split: str,
    *,
    frame_num: int | None = None,
    neighbours: Neighbours | None = None,
    num_of_retrieved_items: int = 10,
    similarity_temperature: float = 1.0,
) -> Split:
    """`split` of `store` with what it retrieved, aggregated from `neighbours`; with nothing where these are None."""
    rows, frames = store.rows(split), choose_frames(store.visual.shape[1], frame_num)
    retrieved = None
    if neighbours is not None:
        retrieved = aggregate(store, neighbours, rows, num_of_retrieved_items, similarity_temperature, frames)
    return Split(store, rows, frames, retrieved)


def choose_frames(stored: int, frame_num: int | None) -> np.ndarray:
    """Which frames of `stored` are used: all, or `frame_num`, spaced as the protocol spaces frames in a video."""
    if frame_num is None:
        return np.arange(stored)
    if frame_num > stored:
        raise InputError(f"--frame_num {frame_num}: the data set stores {stored} frames a video; give at most {stored}")
    return np.linspace(0, stored - 1, frame_num).astype(int)


def _tensor(array: np.ndarray, device: torch.device) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(array)).to(device).float()
