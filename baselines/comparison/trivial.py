"""The trivial rows of a comparison: simple predictions that a method must beat to be of any use.

Computed on the same store and split. What is chosen (K, temperature, alpha, shrinkage) is chosen by the squared error
on split valid alone.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
from sklearn.linear_model import Ridge
from sklearn.preprocessing import StandardScaler
from tqdm import tqdm

from dataloader.encoding import Encoding
from dataloader.neighbours import Neighbours
from dataloader.store import FeatureStore
from dataloader.yardsticks import (
    TEMPERATURES,
    Predict,
    choose_weighing,
    in_words,
    mean_of_train,
    neighbour_labels,
    squared_error,
    weighed_labels,
)
from engine.metrics import measure

ALPHAS = (1.0, 10.0, 100.0, 1e3, 1e4, 1e5)
ROWS_AT_ONCE = 512
SHRINKAGES = (0.0, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)


@dataclass(frozen=True)
class Trivial:
    prediction: np.ndarray  # (n, label_dim), of split test
    valid: dict[str, float]  # metrics of split valid
    chosen: str  # what was chosen on valid
    seconds: float


# name -> what computes it, where the data set has what it takes
TRIVIAL: dict[str, Callable[[FeatureStore, Neighbours | None], tuple[Predict, str]]] = {
    "mean of train": lambda store, _: mean_of_train(store),
    "the creator's other videos": lambda store, _: creator_means(store),
    "neighbours' labels, uniform": lambda store, neighbours: neighbour_labels(store, neighbours, (None,)),
    "neighbours' labels, softmax": lambda store, neighbours: neighbour_labels(store, neighbours, TEMPERATURES),
    "ridge on the features": lambda store, _: ridge(store, None),
    "ridge on the features and neighbours' labels": lambda store, neighbours: ridge(store, neighbours),
    "ridge on the features and metadata": lambda store, _: ridge(store, None, metadata=True),
    "ridge on the features, metadata and neighbours' labels": lambda store, neighbours: ridge(
        store, neighbours, metadata=True
    ),
}


def trivial_rows(store: FeatureStore, neighbours: Neighbours | None) -> dict[str, Trivial]:
    """Name -> row; without `neighbours` the rows of their labels are left out, without creators theirs."""
    left_out = [name for name in TRIVIAL if neighbours is None and "neighbours'" in name]
    left_out += [name for name in TRIVIAL if "user" not in store.items.origin and "creator's" in name]
    left_out += [name for name in TRIVIAL if not store.arrays and "features" in name and "metadata" not in name]
    left_out += [name for name in TRIVIAL if store.metadata is None and "metadata" in name]
    names, found = [name for name in TRIVIAL if name not in left_out], {}
    for name in tqdm(names, "trivial rows", unit="row", disable=None, leave=False):
        start = time.perf_counter()
        predict, chosen = TRIVIAL[name](store, neighbours)
        prediction, valid = predict(store.rows("test")), store.rows("valid")
        measured = measure(predict(valid), store.items.label[valid], store.label)
        found[name] = Trivial(prediction, measured, chosen, time.perf_counter() - start)
    return found


def creator_means(store: FeatureStore) -> tuple[Predict, str]:
    """The mean label of a creator's n videos in train, drawn to the mean of train as by m further videos of that label.

    m is chosen on valid. A creator without a video in train, or one who is not known, is given the mean of train.
    """
    items, train = store.items, store.rows("train")
    mean = items.label[train].mean(axis=0)  # (label_dim,)
    rows = train[items.user[train] != ""]
    number, names = pd.factorize(items.user[rows])
    names = pd.Index(names)
    count = np.bincount(number, minlength=len(names))[:, None]  # (C, 1)
    total = np.zeros((len(names), items.label_dim))
    np.add.at(total, number, items.label[rows])

    def predict(rows: np.ndarray, shrinkage: float) -> np.ndarray:
        found = np.tile(mean, (len(rows), 1))
        of = names.get_indexer(items.user[rows])  # -1: not in train
        known = of >= 0
        found[known] = (total[of[known]] + shrinkage * mean) / (count[of[known]] + shrinkage)
        return found

    valid, test = store.rows("valid"), store.rows("test")
    there = test[names.get_indexer(items.user[test]) >= 0]
    known = f"{len(there)} of {len(test)} videos are of creators in train"
    if not (names.get_indexer(items.user[valid]) >= 0).any():
        return lambda rows: predict(rows, 1.0), f"shrinkage 1, as no creator of valid is in train; {known}"
    errors = [squared_error(predict(valid, shrinkage), items.label[valid]) for shrinkage in SHRINKAGES]
    best = SHRINKAGES[int(np.argmin(errors))]
    if len(there):
        known += f", with nMSE {measure(predict(there, best), items.label[there], store.label)['nMSE']:.3f} on these"
    return lambda rows: predict(rows, best), f"shrinkage {best:g}; {known}"


def ridge(store: FeatureStore, neighbours: Neighbours | None, *, metadata: bool = False) -> tuple[Predict, str]:
    """Linear regression on all features side by side, flattened, standardised by split train.

    With `neighbours` on their labels too, weighed as predicts split valid best; with metadata, as networks get them.
    """
    encoded = np.empty((len(store), 0), np.float32)  # (N, Dm)
    if metadata:
        encoding = Encoding.fit(store.metadata.take(store.rows("train")))
        encoded = encoding.transform(store.metadata, store.folder)
    weighing = None if neighbours is None else choose_weighing(store, neighbours, TEMPERATURES)

    def inputs(rows: np.ndarray) -> np.ndarray:
        label = None if weighing is None else weighed_labels(store, neighbours, rows, *weighing)
        return (
            np.concatenate([features(store, rows, label), encoded[rows]], axis=1)
            if metadata
            else features(store, rows, label)
        )

    train, valid = store.rows("train"), store.rows("valid")
    x, y, scaler = inputs(train), store.items.label[train], StandardScaler(copy=False)
    for start in range(0, len(x), ROWS_AT_ONCE):
        # In blocks, because fitting all of x at once would make two copies of it.
        scaler.partial_fit(x[start : start + ROWS_AT_ONCE])
    x = scaler.transform(x)
    x_valid = scaler.transform(inputs(valid))
    errors, models = [], []
    for alpha in _progress(ALPHAS):
        # Without a copy: Ridge centres x in place, which changes nothing, as the scaler has centred it already.
        models.append(Ridge(alpha=alpha, copy_X=False).fit(x, y))
        errors.append(squared_error(predict(models[-1], x_valid), store.items.label[valid]))
    best = int(np.argmin(errors))
    chosen = f"alpha {ALPHAS[best]:g}" + ("" if weighing is None else f"; labels: {in_words(neighbours, *weighing)}")
    return lambda rows: predict(models[best], scaler.transform(inputs(rows))), chosen


def features(store: FeatureStore, rows: np.ndarray, label: np.ndarray | None) -> np.ndarray:
    """(n, D) float32, each modality flattened, read in blocks, so held once; beside them neighbours' `label`."""
    widths = {name: int(np.prod(store.features[name].shape[1:])) for name in store.arrays}
    total = sum(widths.values())
    out = np.empty((len(rows), total + (0 if label is None else label.shape[1])), np.float32)
    for start in range(0, len(rows), ROWS_AT_ONCE):
        block, chosen, column = out[start : start + ROWS_AT_ONCE], rows[start : start + ROWS_AT_ONCE], 0
        for name, width in widths.items():
            block[:, column : column + width] = store.features[name][chosen].reshape(len(chosen), width)
            column += width
    if label is not None:
        out[:, total:] = label
    return out


def predict(model: Ridge, x: np.ndarray) -> np.ndarray:
    """(n, label_dim)"""
    return model.predict(x).reshape(len(x), -1).astype(np.float64)


def _progress(values) -> Iterator:
    return tqdm(values, "ridge", unit="alpha", disable=None, leave=False)
