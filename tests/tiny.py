"""Small data sets with a signal in them, for the tests that train and retrieve."""

from __future__ import annotations

import contextlib
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

import commands
import train
from common.console import InputError
from dataloader.batches import Batch, NeighbourBatch
from dataloader.description import Label
from dataloader.items import Items
from dataloader.neighbours import Neighbours
from dataloader.search.exact import search
from dataloader.store import FeatureStore

SIZES = {"train": 60, "valid": 20, "test": 20, "predict": 4}


def with_creators(store: FeatureStore, number: int, times: bool = False) -> FeatureStore:
    """The same data set with its items made by `number` creators, at random, an hour apart, in another order."""
    rng = np.random.default_rng(1)
    made = {"user": np.array([f"user{i}" for i in rng.integers(0, number, len(store))], object)}
    if times:
        made["time"] = np.datetime64("2020-01-01") + rng.permutation(len(store)) * np.timedelta64(1, "h")
    k = Neighbours.read(store).k if (store.folder / "neighbours.npz").exists() else None
    arrays = {name: np.array(array) for name, array in store.features.items()}
    items = replace(store.items, **made)
    label = store.label
    new = FeatureStore.create(store.folder, items, family=store.family, label=label, overwrite=True)
    for name, array in arrays.items():
        with new.add_array(name, array.shape, array.dtype.name) as out:
            out[:] = array
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


def predictions(load_script, run: Path) -> np.ndarray:
    """(n, label_dim): what test.py, in this process, predicts for split test."""
    script = load_script("test.py")
    script.main(script.build_parser().parse_args(["--model_path", str(run)]))
    table = pd.read_csv(run / "predictions.csv")
    return table[[name for name in table if name.startswith("prediction") and "count" not in name]].to_numpy()
