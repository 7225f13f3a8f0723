"""Small data sets with a signal in them, for the tests that train and retrieve."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from dataloader.items import Items
from dataloader.neighbours import Neighbours
from dataloader.store import FeatureStore
from retriever import search

SIZES = {"train": 60, "valid": 20, "test": 20, "predict": 4}


def make_store(
    folder: Path,
    *,
    frames: int = 3,
    visual_dim: int = 5,
    textual_dim: int = 7,
    label_dim: int = 1,
    dtype: str = "float32",
    family: str = "MicroLens",
    sizes: dict[str, int] = SIZES,
    k: int | None = 6,
    bank: tuple[str, ...] = ("train",),
    label=None,
) -> FeatureStore:
    """A data set whose labels depend on its features; with `k`, neighbours too. `label` may change (N, L) labels."""
    rng = np.random.default_rng(0)
    split = np.repeat(list(sizes), list(sizes.values())).astype(object)
    n = len(split)
    split = split[rng.permutation(n)]
    visual = rng.standard_normal((n, frames, visual_dim))
    textual = rng.standard_normal((n, textual_dim))
    labels = 5 + textual[:, :label_dim] + visual[:, :, 0].mean(axis=1, keepdims=True)
    if label is not None:
        labels = label(labels, split)
    labels[split == "predict"] = np.nan
    ids = np.array([f"v{i:03d}" for i in range(n)], object)
    items = Items(ids, ids + " a title", np.exp2(labels) - 1, labels, split)
    names = [f"target{t}" for t in range(label_dim)]
    described = {"names": names, "transform": "log2", "offset": 1}
    store = FeatureStore.create(folder, items, family=family, label=described)
    for name, array in (("visual", visual), ("textual", textual), ("retrieval", textual)):
        with store.add_array(name, array.shape, dtype) as out:
            out[:] = array
    if k is not None:
        rows = np.flatnonzero(np.isin(split, bank))
        found = search(store.retrieval, rows, k)
        Neighbours(*found, k, "+".join(bank), "tests", store.fingerprint).write(store)
    return store
