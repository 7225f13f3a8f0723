"""Rows that keep everyone honest: no method deserves its name that does not beat these.

Computed on the same store and split. What is chosen (K, temperature, alpha) is chosen by the squared error on split
valid alone.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from sklearn.linear_model import Ridge
from sklearn.preprocessing import StandardScaler
from tqdm import tqdm

from dataloader.neighbours import Neighbours
from dataloader.store import FeatureStore

TEMPERATURES = (1.0, 0.5, 0.3, 0.2, 0.15, 0.1, 0.07, 0.05, 0.03, 0.02)
ALPHAS = (1.0, 10.0, 100.0, 1e3, 1e4, 1e5)
ROWS_AT_ONCE = 512


@dataclass(frozen=True)
class Trivial:
    prediction: np.ndarray  # (n, label_dim), of split test
    chosen: str  # what was chosen on valid
    seconds: float


# name -> what computes it
TRIVIAL: dict[str, Callable[[FeatureStore, Neighbours | None], tuple[np.ndarray, str]]] = {
    "mean of train": lambda store, _: mean_of_train(store),
    "neighbours' labels, uniform": lambda store, neighbours: neighbour_labels(store, neighbours, (None,)),
    "neighbours' labels, softmax": lambda store, neighbours: neighbour_labels(store, neighbours, TEMPERATURES),
    "ridge on the features": lambda store, _: ridge(store),
}


def trivial_rows(store: FeatureStore, neighbours: Neighbours | None) -> dict[str, Trivial]:
    """Name -> row; without `neighbours` their two rows are left out."""
    names = [name for name in TRIVIAL if neighbours is not None or not name.startswith("neighbours'")]
    found = {}
    for name in tqdm(names, "trivial rows", unit="row", disable=None, leave=False):
        start = time.perf_counter()
        prediction, chosen = TRIVIAL[name](store, neighbours)
        found[name] = Trivial(prediction, chosen, time.perf_counter() - start)
    return found


def mean_of_train(store: FeatureStore) -> tuple[np.ndarray, str]:
    mean = store.items.label[store.rows("train")].mean(axis=0)  # (label_dim,)
    return np.tile(mean, (len(store.rows("test")), 1)), "nothing to choose"


def neighbour_labels(
    store: FeatureStore, neighbours: Neighbours, temperatures: tuple[float | None, ...]
) -> tuple[np.ndarray, str]:
    """Mean of the first K neighbours' labels, weighed by softmax(similarity / temperature), or alike for None.

    K from 1 to what the store holds. An item without neighbours is given the mean of train.
    """
    settings = [(k, temperature) for temperature in temperatures for k in range(1, neighbours.k + 1)]
    valid, test = store.rows("valid"), store.rows("test")
    truth = store.items.label[valid]
    errors = [squared_error(weighed_labels(store, neighbours, valid, *setting), truth) for setting in settings]
    k, temperature = settings[int(np.argmin(errors))]
    chosen = f"K = {k}" if temperature is None else f"K = {k}, temperature {temperature:g}"
    return weighed_labels(store, neighbours, test, k, temperature), f"{chosen} (of {neighbours.k} stored)"


def weighed_labels(
    store: FeatureStore, neighbours: Neighbours, rows: np.ndarray, k: int, temperature: float | None
) -> np.ndarray:
    """(n, label_dim)"""
    ids, weight = neighbours.weights(rows, k, 1.0 if temperature is None else temperature)  # (n, k) both
    if temperature is None:
        there = neighbours.ids[rows, :k] >= 0
        weight = there / np.maximum(there.sum(axis=1, keepdims=True), 1)
    label = np.einsum("nk,nkl->nl", weight, np.nan_to_num(store.items.label)[ids])
    alone = weight.sum(axis=1) == 0
    label[alone] = store.items.label[store.rows("train")].mean(axis=0)
    return label


def ridge(store: FeatureStore) -> tuple[np.ndarray, str]:
    """Linear regression on [visual flattened, textual], standardised by split train."""
    train, valid, test = (store.rows(split) for split in ("train", "valid", "test"))
    x, y, scaler = features(store, train), store.items.label[train], StandardScaler(copy=False)
    for start in range(0, len(x), ROWS_AT_ONCE):
        scaler.partial_fit(x[start : start + ROWS_AT_ONCE])  # its fit would make two copies of x
    x = scaler.transform(x)
    x_valid = scaler.transform(features(store, valid))
    errors, models = [], []
    for alpha in _progress(ALPHAS):
        models.append(Ridge(alpha=alpha, copy_X=False).fit(x, y))  # it centres x, which is centred already
        errors.append(squared_error(predict(models[-1], x_valid), store.items.label[valid]))
    best = int(np.argmin(errors))
    return predict(models[best], scaler.transform(features(store, test))), f"alpha {ALPHAS[best]:g}"


def features(store: FeatureStore, rows: np.ndarray) -> np.ndarray:
    """(n, F * Dv + Dt) float32, read in blocks, so held once"""
    width = store.visual[0].size
    out = np.empty((len(rows), width + store.textual.shape[1]), np.float32)
    for start in range(0, len(rows), ROWS_AT_ONCE):
        block, chosen = out[start : start + ROWS_AT_ONCE], rows[start : start + ROWS_AT_ONCE]
        block[:, :width] = store.visual[chosen].reshape(len(chosen), width)
        block[:, width:] = store.textual[chosen]
    return out


def predict(model: Ridge, x: np.ndarray) -> np.ndarray:
    """(n, label_dim)"""
    return model.predict(x).reshape(len(x), -1).astype(np.float64)


def squared_error(prediction: np.ndarray, truth: np.ndarray) -> float:
    return float(np.mean((prediction - truth) ** 2))


def _progress(values) -> Iterator:
    return tqdm(values, "ridge", unit="alpha", disable=None, leave=False)
