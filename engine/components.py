"""Principal components of feature vectors, for methods that take columns."""

from __future__ import annotations

import numpy as np

from common.arrays import one_vector
from dataloader.batches import Split, Unlabelled

MOST_FITTED = 20_000  # videos of train that the components are made of
ROWS_AT_ONCE = 4096


def fit_components(train: Split, name: str, count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Of the features `name`: their mean (D,) and the axes (c, D), c at most `count`; of a seeded sample of train."""
    from sklearn.decomposition import PCA

    rows = np.arange(len(train))
    if len(rows) > MOST_FITTED:
        rows = np.sort(np.random.default_rng(seed).choice(len(rows), MOST_FITTED, replace=False))
    vectors = one_vector(train.read(name, rows))  # (n, D)
    found = PCA(min(count, *vectors.shape), svd_solver="randomized", random_state=0).fit(vectors)
    return found.mean_, found.components_


def components_of(split: Split | Unlabelled, name: str, mean: np.ndarray, axes: np.ndarray) -> np.ndarray:
    """(n, c) float32"""
    starts = range(0, len(split), ROWS_AT_ONCE)
    blocks = [(one_vector(split.read(name, slice(s, s + ROWS_AT_ONCE))) - mean) @ axes.T for s in starts]
    return np.concatenate(blocks).astype(np.float32)
