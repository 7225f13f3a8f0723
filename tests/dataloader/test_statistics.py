"""What the labels of neighbours and of the creator say of an item: against loops, and that none gives back its own."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from tiny import store_with_times

from dataloader.neighbours import Neighbours
from dataloader.statistics import Statistics, folds_of_train, label_statistics, newcomers, without_history
from dataloader.store import FeatureStore


def statistics(store: FeatureStore, **changed):
    how = {"creators": True, "k": 20, "temperature": 0.1, "seed": 1} | changed
    return label_statistics(store, {"retrieval": Neighbours.read(store)}, np.arange(len(store)), **how)


@pytest.mark.parametrize("by_time", [False, True])
def test_against_loops(tmp_path, by_time):
    store = store_with_times(tmp_path, by_time=by_time)
    found, items, neighbours = statistics(store), store.items, Neighbours.read(store)
    column = dict(zip(found.names, found.values.T, strict=True))
    fold, label, train = folds_of_train(store, 1), items.label[:, 0], set(store.rows("train").tolist())
    assert (fold >= 0).sum() == (0 if by_time else 200)
    if not by_time:
        assert np.bincount(fold[fold >= 0]).tolist() == [20] * 10
    mean, seen = label[store.rows("train")].mean(), 0
    for i in range(len(store)):
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
    store = store_with_times(tmp_path, by_time=by_time)
    before = statistics(store).values
    for row in store.rows("train")[:25]:
        label = store.items.label.copy()
        label[row] += 100.0
        changed = FeatureStore(store.folder, replace(store.items, label=label), store.description)
        changed.features = store.features
        after = label_statistics(
            changed,
            {"retrieval": Neighbours.read(store)},
            np.arange(len(store)),
            creators=True,
            k=20,
            temperature=0.1,
            seed=1,
        ).values
        shrunken = statistics(store).names.index("target0 of the creator, shrunken")
        same = np.ones(len(after[row]), bool)
        same[shrunken] = False  # the mean of train is in it, a 200th of the item
        np.testing.assert_array_equal(after[row, same], before[row, same])
        assert (
            np.isnan(before[row, shrunken]) or abs(after[row, shrunken] - before[row, shrunken]) <= 2 * 100 / 200 + 1e-3
        )


def test_held_out_labels_are_out_of_reach(tmp_path):
    store = store_with_times(tmp_path, by_time=False)
    before = statistics(store).values
    for split in ("valid", "test"):
        store.items.label[store.items.rows(split)] = 1e6
    np.testing.assert_array_equal(statistics(store).values, before)


def test_a_creator_may_be_taken_for_a_new_one(tmp_path):
    store = store_with_times(tmp_path, by_time=False)
    found = statistics(store)
    chosen = np.arange(len(store)) % 2 == 0
    without = without_history(found, chosen)
    np.testing.assert_array_equal(without.values[~chosen], found.values[~chosen])
    for column, name in enumerate(found.names):
        if "creator" not in name:
            np.testing.assert_array_equal(without.values[:, column], found.values[:, column])
        elif name == "videos of the creator":
            assert (without.values[chosen, column] == 0).all()
        else:
            assert np.isnan(without.values[chosen, column]).all()


def test_as_many_new_creators_in_train_as_there_are_in_valid():
    def said(known: float, n: int = 4000) -> Statistics:
        return Statistics(["videos of the creator"], (np.arange(n)[:, None] < known * n).astype(np.float32))

    def share(train: float, valid: float, given: float | None = None) -> float:
        return newcomers(said(train), said(valid), given, 1).mean()

    assert share(0.8, 0.0) == 1.0  # creators apart: what they are known by is never there
    assert share(0.8, 0.4) == pytest.approx(0.5, abs=0.03)
    assert share(0.8, 0.8) == share(0.5, 0.9) == pytest.approx(0.1, abs=0.02)  # whoever comes later may be new
    assert share(0.8, 0.0, 0.3) == pytest.approx(0.3, abs=0.03) and share(0.8, 0.0, 0.0) == 0
    nobody = Statistics(["number of retrieval neighbours"], np.ones((50, 1), np.float32))
    assert not newcomers(nobody, nobody, None, 1).any()
