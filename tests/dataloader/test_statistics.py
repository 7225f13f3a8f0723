"""What the labels of neighbours and of the creator say of an item: against loops, and that none gives back its own."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from tiny import make_store

from dataloader.importing.splits import time_split
from dataloader.neighbours import Known, Neighbours
from dataloader.search.exact import search
from dataloader.statistics import folds_of_train, label_statistics, without_history
from dataloader.store import FeatureStore

N = 300


def data_set(tmp_path, *, by_time: bool, label=None, creators: int = 40, counted: bool = True) -> FeatureStore:
    """300 items of 40 creators, an hour apart, counted up to two days later, split at random or by time."""
    rng = np.random.default_rng(5)
    store = make_store(tmp_path / "tiny", sizes={"train": 200, "valid": 50, "test": 50}, k=None)
    user = np.array([f"u{i}" for i in rng.integers(0, creators, N)], object)
    user[::17] = ""
    time = np.datetime64("2024-01-01", "us") + rng.permutation(N) * np.timedelta64(1, "h")
    items = replace(store.items, user=user, time=time)
    if counted:
        items = replace(items, label_time=time + rng.integers(1, 48, N) * np.timedelta64(1, "h"))
    if by_time:
        items = replace(items, split=time_split(time))
    if label is not None:
        items.label[:] = label(user, rng)[:, None]
        items.popularity[:] = np.exp2(items.label) - 1
    arrays = {name: np.array(array) for name, array in store.features.items()}
    described = replace(store.label, split_by="time" if by_time else "published")
    new = FeatureStore.create(store.folder, items, family=store.family, label=described, overwrite=True)
    for name, array in arrays.items():
        with new.add_array(name, array.shape, array.dtype.name) as out:
            out[:] = array
    known = Known.of(new)
    times = {} if known is None else {"since": known.since, "asked": known.asked}
    found = search(new.features["retrieval"], new.rows("train"), 20, **times)
    Neighbours(*found, 20, "train", "tests", new.fingerprint, Known.rule_of(new)).write(new)
    return new


def statistics(store: FeatureStore, **changed):
    how = {"creators": True, "k": 20, "temperature": 0.1, "seed": 1} | changed
    return label_statistics(store, {"retrieval": Neighbours.read(store)}, np.arange(len(store)), **how)


@pytest.mark.parametrize("by_time", [False, True])
def test_against_loops(tmp_path, by_time):
    store = data_set(tmp_path, by_time=by_time)
    found, items, neighbours = statistics(store), store.items, Neighbours.read(store)
    column = dict(zip(found.names, found.values.T, strict=True))
    fold, label, train = folds_of_train(store, 1), items.label[:, 0], set(store.rows("train").tolist())
    assert (fold >= 0).sum() == (0 if by_time else 200)
    if not by_time:
        assert np.bincount(fold[fold >= 0]).tolist() == [20] * 10
    mean, seen = label[store.rows("train")].mean(), 0
    for i in range(N):
        there = [k for k in range(20) if neighbours.ids[i, k] >= 0]
        there = [k for k in there if fold[i] < 0 or fold[neighbours.ids[i, k]] != fold[i]]
        values, near = label[neighbours.ids[i, there]], neighbours.similarity[i, there]
        assert column["number of retrieval neighbours"][i] == len(there)
        if len(there):
            weight = np.exp((near - near.max()) / 0.1)
            expected = {
                "target0 of retrieval neighbours, weighted": (weight * values).sum() / weight.sum(),
                "target0 of retrieval neighbours, mean": values.mean(),
                "target0 of retrieval neighbours, spread": values.std(),
                "nearest of retrieval neighbours": near.max(),
                "mean similarity of retrieval neighbours": near.mean(),
                "near ones of retrieval neighbours": (near >= 0.7).sum(),
            }
            for name, value in expected.items():
                assert column[name][i] == pytest.approx(value, rel=1e-4, abs=1e-5), name
        others = [j for j in train if items.user[j] == items.user[i] != "" and j != i]
        if by_time:
            others = [j for j in others if items.label_time[j] <= items.time[i]]
        elif fold[i] >= 0:
            others = [j for j in others if fold[j] != fold[i]]
        assert column["videos of the creator"][i] == len(others)
        if not others:
            assert np.isnan(column["target0 of the creator, mean"][i])
            continue
        seen += 1
        theirs = label[others]
        gap = np.abs((items.time[others] - items.time[i]) / np.timedelta64(1, "D"))
        order = np.argsort(gap)
        week = np.exp(-gap / 7)
        expected = {
            "target0 of the creator, shrunken": (theirs.sum() + 2 * mean) / (len(others) + 2),
            "target0 of the creator, mean": theirs.mean(),
            "target0 of the creator, spread": theirs.std(),
            "target0 of the creator, next in time": theirs[order[0]],
            "target0 of the creator, within 7 days": (week * theirs).sum() / week.sum(),
            "target0 of the creator, next 5": theirs[order[:5]].mean(),
            "days to the creator's next video": gap[order[0]],
        }
        for name, value in expected.items():
            assert column[name][i] == pytest.approx(value, rel=1e-4, abs=1e-5), name
    assert seen > 100


@pytest.mark.parametrize("by_time", [False, True])
def test_no_column_of_train_knows_the_item_s_own_label(tmp_path, by_time):
    """Another label of one item changes what is known of others, and nothing of what is known of itself."""
    store = data_set(tmp_path, by_time=by_time)
    before = statistics(store).values
    for row in store.rows("train")[:25]:
        label = store.items.label.copy()
        label[row] += 100.0
        changed = FeatureStore(store.folder, replace(store.items, label=label), store.description)
        changed.features = store.features
        after = label_statistics(
            changed, {"retrieval": Neighbours.read(store)}, np.arange(N), creators=True, k=20, temperature=0.1, seed=1
        ).values
        shrunken = statistics(store).names.index("target0 of the creator, shrunken")
        same = np.ones(len(after[row]), bool)
        same[shrunken] = False  # the mean of train is in it, a 200th of the item
        np.testing.assert_array_equal(after[row, same], before[row, same])
        assert (
            np.isnan(before[row, shrunken]) or abs(after[row, shrunken] - before[row, shrunken]) <= 2 * 100 / 200 + 1e-3
        )


def test_held_out_labels_are_out_of_reach(tmp_path):
    store = data_set(tmp_path, by_time=False)
    before = statistics(store).values
    for split in ("valid", "test"):
        store.items.label[store.items.rows(split)] = 1e6
    np.testing.assert_array_equal(statistics(store).values, before)


def test_a_creator_may_be_taken_for_a_new_one(tmp_path):
    found = statistics(data_set(tmp_path, by_time=False))
    chosen = np.arange(N) % 2 == 0
    without = without_history(found, chosen)
    np.testing.assert_array_equal(without.values[~chosen], found.values[~chosen])
    for column, name in enumerate(found.names):
        if "creator" not in name:
            np.testing.assert_array_equal(without.values[:, column], found.values[:, column])
        elif name == "videos of the creator":
            assert (without.values[chosen, column] == 0).all()
        else:
            assert np.isnan(without.values[chosen, column]).all()
