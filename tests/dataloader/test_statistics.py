"""What the labels of neighbours and of the creator say of an item: against loops, and that none gives back its own."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from tiny import store_with_times

from dataloader.expectation import FOLDS, beyond_expectation
from dataloader.neighbours import Neighbours
from dataloader.statistics import Said, folds_of_train, label_statistics, newcomers
from dataloader.store import FeatureStore


def statistics(store: FeatureStore, beyond: bool = False, **changed):
    how = {"creators": True, "k": 20, "temperature": 0.1, "seed": 1} | changed
    if beyond:
        features = {name: store.features[name] for name in ("visual", "textual")}
        how["beyond"] = beyond_expectation(store, features, None, seed=1)
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
    said, seen = Said.by(store, None, 1), 0
    for i in range(len(store)):
        there = [k for k in range(20) if neighbours.ids[i, k] >= 0]
        there = [k for k in there if fold[i] < 0 or fold[neighbours.ids[i, k]] != fold[i]]
        values, near = label[neighbours.ids[i, there]], neighbours.similarity[i, there]
        assert column["number of retrieval neighbours"][i] == (neighbours.ids[i] >= 0).sum()
        if len(there):
            weight = np.exp((near - near.max()) / 0.1)
            expected = {
                "target0 of retrieval neighbours, weighted": (weight * values).sum() / weight.sum(),
                "target0 of retrieval neighbours, mean": values.mean(),
                "target0 of retrieval neighbours, spread": values.std(),
                "nearest of retrieval neighbours": near.max(),
                "mean similarity of retrieval neighbours": near.mean(),
                "share of near of retrieval neighbours": (near >= 0.7).mean(),
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
        theirs, mean, drawn = label[others], said.usual[said.told[i], 0], said.drawn[said.told[i], 0]
        known = [j for j in train if said.told[j] != said.told[i] or not said.told[i]]
        assert mean == pytest.approx(label[known].mean())
        gap = np.abs((items.time[others] - items.time[i]) / np.timedelta64(1, "D"))
        order = np.argsort(gap)
        week = np.exp(-gap / 7)
        expected = {
            "target0 of the creator, shrunken": (theirs.sum() + drawn * mean) / (len(others) + drawn),
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
    before = statistics(store, beyond=True)
    for row in store.rows("train")[:6]:
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
            beyond=beyond_expectation(changed, {n: store.features[n] for n in ("visual", "textual")}, None, seed=1),
        ).values
        assert not np.array_equal(after, before.values, equal_nan=True)
        np.testing.assert_array_equal(after[row], before.values[row])


def test_held_out_labels_are_out_of_reach(tmp_path):
    store = store_with_times(tmp_path, by_time=False)
    before = statistics(store, beyond=True).values
    for split in ("valid", "test"):
        store.items.label[store.items.rows(split)] = 1e6
    np.testing.assert_array_equal(statistics(store, beyond=True).values, before)


def test_means_are_drawn_as_the_variances_say(tmp_path):
    """Effects of variance 4 and noise of variance 1: as by a quarter of a video; noise alone: as far as may be."""
    store = store_with_times(tmp_path, by_time=False, creators=40)
    rng, number = np.random.default_rng(2), np.unique(store.items.user, return_inverse=True)[1]
    for deviation, low, high in ((2.0, 0.15, 0.45), (0.0, 5.0, 30.0)):
        store.items.label[:, 0] = deviation * rng.normal(size=number.max() + 1)[number] + rng.normal(size=len(number))
        assert low <= Said.by(store, None, 1).drawn[0, 0] <= high


def test_what_is_beyond_expectation(tmp_path):
    """By a model of all of train, and by ten that each know nothing of a fold: as fitted here, one by one."""
    from sklearn.ensemble import HistGradientBoostingRegressor

    store = store_with_times(tmp_path, by_time=False)
    found = beyond_expectation(store, {"textual": store.features["textual"]}, None, seed=1)
    train, fold = store.rows("train"), folds_of_train(store, 1)
    other = np.isin(np.arange(len(store)), train, invert=True)
    assert np.isnan(found[:, other]).all() and np.isfinite(found[:, train]).all()
    x, label = store.features["textual"][train], store.items.label[train, 0]
    for place in (0, 3, FOLDS):
        known = fold[train] != place - 1
        model = HistGradientBoostingRegressor(
            max_iter=60, learning_rate=0.1, max_leaf_nodes=8, min_samples_leaf=20, random_state=0
        )
        from sklearn.decomposition import PCA

        turned = PCA(7, svd_solver="randomized", random_state=0).fit_transform(x)
        left = label - model.fit(turned[known], label[known]).predict(turned)
        assert np.corrcoef(found[place, train, 0], left)[0, 1] > 0.99
    assert beyond_expectation(store, {}, None, seed=1) is None


def test_a_creator_may_be_taken_for_a_new_one(tmp_path):
    """Then no video of theirs is counted, among the neighbours either."""
    store = store_with_times(tmp_path, by_time=False, creators=5)
    found, user = statistics(store), store.items.user
    new = np.arange(len(store)) % 2 == 0
    without = statistics(store, new=new)
    np.testing.assert_array_equal(without.values[~new], found.values[~new])
    own = [column for column, name in enumerate(found.names) if " the creator" in name]
    count = found.names.index("videos of the creator")
    assert (without.values[new, count] == 0).all()
    assert np.isnan(without.values[new][:, [column for column in own if column != count]]).all()
    neighbours, fold = Neighbours.read(store), folds_of_train(store, 1)
    mean, changed = found.names.index("target0 of retrieval neighbours, mean"), 0
    for i in np.flatnonzero(new):
        ids = neighbours.ids[i]
        there = [
            j for j in ids if j >= 0 and (fold[i] < 0 or fold[j] != fold[i]) and (user[j] != user[i] or not user[i])
        ]
        changed += len(there) < (ids >= 0).sum()
        assert without.values[i, mean] == pytest.approx(store.items.label[there, 0].mean(), rel=1e-4)
    assert changed > 50


def test_as_many_new_creators_in_train_as_there_are_in_valid(tmp_path):
    def share(creators: int, given: float | None = None, apart: bool = False) -> float:
        store = store_with_times(tmp_path / f"{creators}{given}{apart}", by_time=False, creators=creators)
        user = np.where(store.items.user == "", "someone", store.items.user)
        if apart:
            user = np.where(store.items.split == "valid", [f"new{i}" for i in range(len(store))], user)
        known = FeatureStore(store.folder, replace(store.items, user=user.astype(object)), store.description)
        new = newcomers(known, given, 1)
        assert not new[store.items.split != "train"].any()
        return new[store.rows("train")].mean()

    assert share(20, apart=True) == 1.0  # what creators are known by is never there
    assert share(20) == pytest.approx(0.1, abs=0.06)  # whoever comes later may be new
    assert share(400) == 0  # more than a tenth of train has no history as it is
    assert share(20, 0.3, apart=True) == pytest.approx(0.3, abs=0.1) and share(20, 0.0, apart=True) == 0
