"""Split: one split of a data set as a method sees it; Batch: a slice of it as tensors."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from dataloader.console import InputError
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


@dataclass(frozen=True)
class Split:
    """n items of a store: `rows` (n,), the `frames` used of each, and what they retrieved, if anything."""

    store: FeatureStore
    rows: np.ndarray
    frames: np.ndarray
    retrieved: Retrieved | None

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def label(self) -> np.ndarray:
        """(n, label_dim) float64; NaN where an item has none."""
        return self.store.items.label[self.rows]

    def batches(self, batch_size: int, device: torch.device, shuffle: torch.Generator | None = None) -> Iterator[Batch]:
        """All items once, in order, or in an order drawn from `shuffle`; the last batch may be smaller."""
        n = len(self)
        order = np.arange(n) if shuffle is None else torch.randperm(n, generator=shuffle).numpy()
        every_frame = len(self.frames) == self.store.visual.shape[1]
        label = self.label if np.isfinite(self.label).all() else None
        for start in range(0, n, batch_size):
            chosen = order[start : start + batch_size]
            rows = self.rows[chosen]
            visual = self.store.visual[rows]  # (B, frames stored, Dv)
            own = (visual if every_frame else visual[:, self.frames], self.store.textual[rows])
            retrieved = [None] * 3
            if self.retrieved is not None:
                r = self.retrieved
                retrieved = [_tensor(array[chosen], device) for array in (r.visual, r.textual, r.label)]
            yield Batch(
                *(_tensor(array, device) for array in own),
                *retrieved,
                label=None if label is None else _tensor(label[chosen], device),
                rows=torch.from_numpy(rows),
            )


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
