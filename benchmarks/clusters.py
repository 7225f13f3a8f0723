"""Data sets of any size whose vectors lie as those of real titles do, written in blocks.

Fitted to the 8,488 titles of the Vine videos that are not empty, as all-MiniLM-L6-v2 gives them. The cosine of a title
to its nearest, 10th and 50th (a tenth, half and nine tenths of the titles have less):

          nearest            10th               50th               all: mean, deviation
real      .47  .62  .95      .37  .47  .65      .31  .39  .52      .15  .09
these     .43  .62  .89      .34  .48  .66      .28  .39  .53      .15  .12
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from dataloader.description import Label
from dataloader.importing.splits import published_split
from dataloader.items import Items
from dataloader.store import FeatureStore

ROWS_AT_ONCE = 8192
A_CLUSTER = 34  # items, on average
SIZES = 0.7  # deviation of the logarithm of the clusters' sizes
COMMON = 0.39  # length of the mean
BETWEEN, WITHIN = 0.25, 0.65  # variance of the centres about it, and of items about them
FALL_BETWEEN, FALL_WITHIN = (5, 1.2), (10, 0.8)  # variance of the i-th direction: (i + first) to the minus second
WIDTHS = 0.5  # deviation of the logarithm of the clusters' variances
CLOSE_ONES, CLOSENESS = 0.12, 0.2  # share of items much nearer to their centre, and how much
LABEL_BETWEEN, LABEL_WITHIN = 2.0, 1.5  # deviations of the label: of the clusters and within them


class Clusters:
    """Where the clusters of `items` vectors lie, how wide they are, and what labels they have."""

    def __init__(self, items: int, width: int, seed: int = 0):
        rng = np.random.default_rng(seed)
        count = max(1, items // A_CLUSTER)
        share = np.exp(rng.normal(0, SIZES, count))
        self.of = rng.choice(count, items, p=share / share.sum())  # (N,)
        self.centres = rng.standard_normal((count, width), dtype=np.float32) * deviations(width, BETWEEN, FALL_BETWEEN)
        self.centres[:, 0] += COMMON
        self.within = deviations(width, WITHIN, FALL_WITHIN)
        self.wide = np.exp(rng.normal(0, WIDTHS / 2, count)).astype(np.float32)
        self.label = rng.normal(0, LABEL_BETWEEN, count)

    def block(self, start: int, stop: int, seed: int) -> np.ndarray:
        """(b, D) float32 of length 1, the same for the same seed and start."""
        rng, of = np.random.default_rng((seed, start)), self.of[start:stop]
        near = np.where(rng.random(len(of)) < CLOSE_ONES, CLOSENESS, 1).astype(np.float32)
        noise = rng.standard_normal((len(of), len(self.within)), dtype=np.float32) * self.within
        vectors = self.centres[of] + noise * (self.wide[of] * near)[:, None]
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def deviations(width: int, variance: float, fall: tuple[float, float]) -> np.ndarray:
    powers = (np.arange(1, width + 1) + fall[0]) ** -fall[1]
    return np.sqrt(variance * powers / powers.sum()).astype(np.float32)


def clustered_store(folder: Path, items: int, width: int, frames: int = 1) -> FeatureStore:
    """Features retrieval (N, D), and, unless frames is 0, textual (N, D) and visual (N, F, D), float16.

    The label is the cluster's and noise, so that neighbours and features say something of it.
    """
    clusters, rng = Clusters(items, width), np.random.default_rng(1)
    label = (6 + clusters.label[clusters.of] + rng.normal(0, LABEL_WITHIN, items))[:, None]  # (N, 1)
    ids = np.array([str(i) for i in range(items)], object)
    table = Items(ids, np.full(items, "", object), np.full((items, 1), np.nan), label, published_split(items))
    store = FeatureStore.create(folder, table, family="MicroLens", label=Label(("popularity",)))
    shapes = {"retrieval": (items, width)}
    if frames:
        shapes |= {"textual": (items, width), "visual": (items, frames, width)}
    for name, shape in shapes.items():
        with store.add_array(name, shape, "float16") as out:
            for start in range(0, items, ROWS_AT_ONCE):
                stop = min(items, start + ROWS_AT_ONCE)
                if len(shape) == 2:  # the text is what is retrieved by
                    out[start:stop] = clusters.block(start, stop, 0)
                for frame in range(shape[1] if len(shape) == 3 else 0):
                    out[start:stop, frame] = clusters.block(start, stop, 1 + frame)
    return store
