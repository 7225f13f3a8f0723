"""What any method must beat, as predictions: the mean of train, and the labels of an item's neighbours."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from common.console import InputError
from dataloader.neighbours import Neighbours
from dataloader.store import FeatureStore

TEMPERATURES = (1.0, 0.5, 0.3, 0.2, 0.15, 0.1, 0.07, 0.05, 0.03, 0.02)
Predict = Callable[[np.ndarray], np.ndarray]  # rows of the store (n,) -> labels (n, label_dim)


def yardsticks(store: FeatureStore, rows: np.ndarray) -> dict[str, np.ndarray]:
    """In words -> what it predicts for labelled items `rows` (n,), (n, label_dim); none without split train.

    Neighbours are those of the data set, where it has them and a split valid, weighed as predicts that best.
    """
    if not len(store.items.rows("train")):
        return {}
    found = {"the mean of split train": mean_of_train(store)[0](rows)}
    if not len(store.items.rows("valid")):
        return found
    try:
        neighbours = Neighbours.read(store)
    except InputError:  # none, or of another state of the data set: a method that needs them has said so
        return found
    return found | {"the mean of its neighbours' labels": neighbour_labels(store, neighbours, TEMPERATURES)[0](rows)}


def mean_of_train(store: FeatureStore) -> tuple[Predict, str]:
    mean = store.items.label[store.rows("train")].mean(axis=0)  # (label_dim,)
    return lambda rows: np.tile(mean, (len(rows), 1)), "nothing to choose"


def neighbour_labels(
    store: FeatureStore, neighbours: Neighbours, temperatures: tuple[float | None, ...]
) -> tuple[Predict, str]:
    """Mean of the first K neighbours' labels, weighed by softmax(similarity / temperature), or alike for None.

    K from 1 to what the store holds. An item without neighbours is given the mean of train.
    """
    k, temperature = choose_weighing(store, neighbours, temperatures)
    return lambda rows: weighed_labels(store, neighbours, rows, k, temperature), in_words(neighbours, k, temperature)


def choose_weighing(
    store: FeatureStore, neighbours: Neighbours, temperatures: tuple[float | None, ...]
) -> tuple[int, float | None]:
    """The K and the temperature whose labels predict split valid best."""
    settings = [(k, temperature) for temperature in temperatures for k in range(1, neighbours.k + 1)]
    valid = store.rows("valid")
    truth = store.items.label[valid]
    errors = [squared_error(weighed_labels(store, neighbours, valid, *setting), truth) for setting in settings]
    return settings[int(np.argmin(errors))]


def in_words(neighbours: Neighbours, k: int, temperature: float | None) -> str:
    chosen = f"K = {k}" if temperature is None else f"K = {k}, temperature {temperature:g}"
    return f"{chosen} (of {neighbours.k} stored)"


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


def squared_error(prediction: np.ndarray, truth: np.ndarray) -> float:
    return float(np.mean((prediction - truth) ** 2))
