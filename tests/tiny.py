"""Small data sets with a signal in them, for the tests that train and retrieve."""

from __future__ import annotations

import commands

import contextlib
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

import train
from baselines import METHODS as ALL
from baselines import recipe
from common.console import InputError
from dataloader.batches import Batch, NeighbourBatch
from dataloader.calibration import calibrates
from dataloader.components import one_vector
from dataloader.description import Label
from dataloader.importing.splits import time_split
from dataloader.items import Items
from dataloader.metadata import Metadata
from dataloader.neighbours import Known, Neighbours
from dataloader.search.exact import search
from dataloader.store import FeatureStore
from engine.metrics import measure

FORETOLD = ("TabR", "AutoGluon")  # test themselves in their fit: tests/baselines/test_rivals.py
MADE_OF_OTHERS = ("Blend",)  # tests/baselines/test_blend.py
METHODS = [name for name in ALL if name not in (*FORETOLD, *MADE_OF_OTHERS)]  # those that can predict any split
NETWORKS = [name for name in METHODS if recipe(name).network]
SMALL = {  # flags with which a method is quick
    "MMRA": {"feature_dim": 8, "num_of_retrieved_items": 5},
    "CBAN": {"feature_dim": 8},
    "HMMVED": {"latent_dim": 6},
    "MASSL": {"latent_dim": 40},
    "TMALL": {"common_dim": 9},
    "Contextual_LSTM": {"hidden_size": 4},
    "Hyfea": {"trees": 12, "depth": 3},
    "MFTM": {"trees": 5, "epochs": 3},
    "SVR": {},
    "RetrievalBoost": {"trees": 12, "depth": 3, "lr": 0.3, "num_of_retrieved_items": 5},
    "LARK": {"feature_dim": 8, "ensemble": 2, "num_of_retrieved_items": 5},
    "TabM": {"feature_dim": 8, "ensemble": 2, "num_of_retrieved_items": 5},
}
SIZES = {"train": 60, "valid": 20, "test": 20, "predict": 4}


def remade(store: FeatureStore, items: Items, label: Label | None = None) -> FeatureStore:
    """The same features of other items, without neighbours, in the same place."""
    arrays = {name: np.array(array) for name, array in store.features.items()}
    label = label or store.label
    new = FeatureStore.create(store.folder, items, family=store.family, label=label, overwrite=True)
    for name, array in arrays.items():
        with new.add_array(name, array.shape, array.dtype.name) as out:
            out[:] = array
    return new


def with_creators(store: FeatureStore, number: int, times: bool = False) -> FeatureStore:
    """The same data set with its items made by `number` creators, at random, an hour apart, in another order."""
    rng = np.random.default_rng(1)
    made = {"user": np.array([f"user{i}" for i in rng.integers(0, number, len(store))], object)}
    if times:
        made["time"] = np.datetime64("2020-01-01") + rng.permutation(len(store)) * np.timedelta64(1, "h")
    k = Neighbours.read(store).k if (store.folder / "neighbours.npz").exists() else None
    new = remade(store, replace(store.items, **made))
    if k is not None:
        found = search(new.features["retrieval"], new.rows("train"), k)
        Neighbours(*found, k, "train", "tests", new.fingerprint).write(new)
    return new


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
    described = Label(tuple(names), "log2", 1)
    store = FeatureStore.create(folder, items, family=family, label=described)
    for name, array in (("visual", visual), ("textual", textual), ("retrieval", textual)):
        with store.add_array(name, array.shape, dtype) as out:
            out[:] = array
    if k is not None:
        rows = np.flatnonzero(np.isin(split, bank))
        found = search(store.features["retrieval"], rows, k)
        Neighbours(*found, k, "+".join(bank), "tests", store.fingerprint).write(store)
    return store


def store_with_times(tmp_path, *, by_time: bool, label=None, creators: int = 40, counted: bool = True) -> FeatureStore:
    """300 items of 40 creators, an hour apart, counted up to two days later, split at random or by time."""
    rng, n = np.random.default_rng(5), 300
    store = make_store(tmp_path / "tiny", sizes={"train": 200, "valid": 50, "test": 50}, k=None)
    user = np.array([f"u{i}" for i in rng.integers(0, creators, n)], object)
    user[::17] = ""
    time = np.datetime64("2024-01-01", "us") + rng.permutation(n) * np.timedelta64(1, "h")
    items = replace(store.items, user=user, time=time)
    if counted:
        items = replace(items, label_time=time + rng.integers(1, 48, n) * np.timedelta64(1, "h"))
    if by_time:
        items = replace(items, split=time_split(time))
    if label is not None:
        items.label[:] = label(user, rng)[:, None]
        items.popularity[:] = np.exp2(items.label) - 1
    described = replace(store.label, split_by="time" if by_time else "published")
    new = remade(store, items, described)
    known = Known.of(new)
    times = {} if known is None else {"since": known.since, "asked": known.asked}
    for source in ("retrieval", "visual"):
        found = search(one_vector(new.features[source]), new.rows("train"), 20, **times)
        Neighbours(*found, 20, "train", "tests", new.fingerprint, Known.rule_of(new)).write(new, source)
    return new


def store_of_creators(
    tmp_path, label=None, *, sizes=None, label_dim: int = 1, creators: int = 120, metadata: Metadata | None = None
) -> FeatureStore:
    """Items of 120 creators; label(effect (N,), noise (N,)) -> (N,), or what make_store makes."""
    sizes = sizes or {"train": 600, "valid": 150, "test": 150, "predict": 5}
    plain = make_store(tmp_path / "data" / "tiny", sizes=sizes, label_dim=label_dim, k=None)
    rng, n = np.random.default_rng(3), len(plain)
    number = rng.integers(0, creators, n)
    items = replace(plain.items, user=np.array([f"u{i}" for i in number], object), text=np.full(n, "a title", object))
    if label is not None:
        values = label(rng.normal(0, 2, creators)[number], rng.normal(0, 1, n))
        items.label[:] = np.where((items.split == "predict")[:, None], np.nan, values[:, None])
        items.popularity[:] = np.exp2(items.label) - 1
    store = remade(plain, items)
    if metadata is not None:
        store.add_metadata(metadata)
    return searched(store, "retrieval", "textual")


def searched(store: FeatureStore, *sources: str) -> FeatureStore:
    """The same with six neighbours of each of the sources."""
    for source in sources:
        found = search(store.features[source], store.rows("train"), 6)
        Neighbours(*found, 6, "train", "tests", store.fingerprint).write(store, source)
    return store


def with_new_creators(store: FeatureStore) -> FeatureStore:
    """The same, but that nobody in test made anything else."""
    user, held = store.items.user.copy(), store.items.split == "test"
    user[held] = [f"new{i}" for i in range(held.sum())]
    return searched(remade(store, replace(store.items, user=user)), "retrieval")


def nmse(store: FeatureStore, split: str, prediction: np.ndarray) -> float:
    return measure(prediction, store.items.label[store.rows(split)], store.label)["nMSE"]


def rows_that_choose(store: FeatureStore) -> np.ndarray:
    """Of split valid, without those on which intervals are calibrated."""
    rows = store.rows("valid")
    return rows[~calibrates(store.items.item_id[rows], store.items.user[rows])]


def creators_mean(store: FeatureStore, rows: np.ndarray) -> np.ndarray:
    """Of their videos in train, drawn to the mean of train as by half a video, as is right for these variances."""
    train, items, out = store.rows("train"), store.items, np.empty((len(rows), 1))
    mean = items.label[train].mean()
    for place, row in enumerate(rows):
        others = items.label[train[items.user[train] == items.user[row]], 0]
        out[place] = (others.sum() + 0.25 * mean) / (len(others) + 0.25)
    return out


def batch_of(label=None, **arrays) -> Batch:
    """A Batch of these arrays, by modality; retrieved_<modality> and retrieved_label are its neighbours'."""
    own = {name: array for name, array in arrays.items() if not name.startswith("retrieved_")}
    theirs = {name.removeprefix("retrieved_"): array for name, array in arrays.items() if name not in own}
    neighbours = NeighbourBatch(theirs, theirs.pop("label", None)) if theirs else None
    return Batch(own, neighbours, label, torch.arange(len(next(iter(own.values())))))


@contextlib.contextmanager
def refused(pattern: str):
    """The block ends in an InputError; `pattern` is searched in what a command line would say of it."""
    with pytest.raises(InputError) as caught:
        yield
    error = caught.value
    said = str(error) + (f"; {commands.remedy(error.lacks)}" if error.lacks else "")
    assert re.search(pattern, said), said


def trained(store: FeatureStore, save: Path, *flags) -> Path:
    """Train on the store in this process, by train.py; the run's folder."""
    where = ["--dataset_path", store.folder.parent, "--dataset_id", store.folder.name, "--save", save]
    before = set(save.glob("*"))
    train.main(train.build_parser().parse_args([str(word) for word in (*where, *flags)]))
    (run,) = set(save.glob("*")) - before
    return run


def run_test(load_script, *words) -> None:
    """test.py, in this process."""
    script = load_script("test.py")
    script.main(script.build_parser().parse_args([str(word) for word in words]))


def predictions(load_script, run: Path, *flags) -> np.ndarray:
    """(n, label_dim): what test.py, in this process, predicts for split test."""
    run_test(load_script, "--model_path", run, *flags)
    table = pd.read_csv(run / "predictions.csv")
    return table[[name for name in table if name.startswith("prediction") and "count" not in name]].to_numpy()
