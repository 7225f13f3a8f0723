"""Features as one vector an item, and their principal components, for methods that cannot take hundreds of columns."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

MOST_FITTED = 20_000  # items that the components are made of
ROWS_AT_ONCE = 4096

Read = Callable[[np.ndarray | slice], np.ndarray]  # some of n items -> their features (b, F, D) or (b, D)


def one_vector(features: np.ndarray) -> np.ndarray:
    """(n, F, D), of which the mean over the frames is taken, or (n, D) -> (n, D) float32."""
    features = np.asarray(features, np.float32)
    return features.mean(axis=1) if features.ndim == 3 else features


@dataclass(frozen=True)
class Components:
    """mean (D,), axes (c, D)"""

    mean: np.ndarray
    axes: np.ndarray

    @classmethod
    def fit(cls, read: Read, n: int, count: int, seed: int) -> Components:
        """At most `count`, of n items."""
        from sklearn.decomposition import PCA

        rows = np.arange(n)
        if n > MOST_FITTED:
            rows = np.sort(np.random.default_rng(seed).choice(n, MOST_FITTED, replace=False))
        vectors = finite(one_vector(read(rows)))  # (n, D)
        found = PCA(min(count, *vectors.shape), svd_solver="randomized", random_state=0).fit(vectors)
        return cls(found.mean_, found.components_)

    def project(self, read: Read, n: int) -> np.ndarray:
        """(n, c) float32"""
        starts = range(0, n, ROWS_AT_ONCE)
        blocks = [
            (finite(one_vector(read(slice(s, min(n, s + ROWS_AT_ONCE))))) - self.mean) @ self.axes.T for s in starts
        ]
        return np.concatenate([np.empty((0, len(self.axes))), *blocks]).astype(np.float32)


def finite(vectors: np.ndarray) -> np.ndarray:
    """What is no number counts as 0: it is refused, with the file's name, where features are checked, after this."""
    return np.nan_to_num(vectors, posinf=0, neginf=0)
