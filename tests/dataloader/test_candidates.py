"""Candidates of several sources, against loops: who is one, who must not be, and what is said of each pair."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny import refused, store_with_times

from dataloader.candidates import candidates, merged
from dataloader.modalities import Wants
from dataloader.neighbours import Neighbours
from dataloader.opening import open_data
from dataloader.statistics import folds_of_train
from dataloader.store import FeatureStore

LISTS = st.lists(st.lists(st.integers(-1, 9), min_size=3, max_size=3), min_size=1, max_size=4)


@given(LISTS, st.integers(1, 12))
def test_merged_takes_the_first_of_each_list_then_the_second_and_nobody_twice(lists, k):
    wanted = []
    for rank in range(3):
        for one in lists:
            wanted += [one[rank]] if one[rank] >= 0 and one[rank] not in wanted else []
    wanted = (wanted + [-1] * k)[:k]
    assert merged([np.array([one], np.int32) for one in lists], k).tolist() == [wanted]


@pytest.mark.parametrize("by_time", [False, True])
def test_against_loops(tmp_path, by_time):
    """Who is a candidate, in which order, with which similarities, labels, creators and times."""
    store = store_with_times(tmp_path, by_time=by_time)
    items, k = store.items, 9
    sources = {name: Neighbours.read(store, name) for name in ("retrieval", "visual")}
    new = np.zeros(len(store), bool)
    new[::3] = True
    fold, train, rows = folds_of_train(store, 1), store.rows("train"), np.arange(len(store))
    found = candidates(store, sources, rows, store.features, creators=True, k=k, seed=1, new=new)
    seen = {"creator": 0, "other": 0, "two sources": 0}
    for row in rows:
        others = [t for t in train if t != row and items.user[t] == items.user[row] and items.user[row]]
        if by_time:
            others = [t for t in others if items.label_time[t] <= items.time[row]]
        others = [t for t in others if by_time or fold[row] < 0 or fold[t] != fold[row]]
        others.sort(key=lambda t, row=row: (abs(items.time[t] - items.time[row]), t))
        lists = [others, *(one.ids[row].tolist() for one in sources.values())]
        wanted = []
        for rank in range(max(map(len, lists))):
            for one in lists:
                one = one[rank] if rank < len(one) else -1
                allowed = one >= 0 and (fold[row] < 0 or fold[one] != fold[row])
                if new[row] and one >= 0 and items.user[one] == items.user[row] and items.user[row]:
                    allowed = False
                if allowed and one not in wanted:
                    wanted.append(one)
        wanted = (wanted + [-1] * k)[:k]
        assert found.ids[row].tolist() == wanted
        for place, other in enumerate(wanted):
            for s, one in enumerate(sources.values()):
                at = np.flatnonzero((one.ids[row] == other) & (other >= 0))
                expected = one.similarity[row, at[0]] if len(at) else np.nan
                np.testing.assert_equal(found.similarity[row, place, s], expected)
            seen["creator"] += other in others
            seen["other"] += other >= 0 and other not in others
            seen["two sources"] += other >= 0 and not np.isnan(found.similarity[row, place]).any()
    assert min(seen.values()) > 50, seen
    assert np.isnan(found.label[items.split != "train"]).all()


def test_what_is_known_of_a_pair(tmp_path):
    """In batches: the same creator only where it is known, days with their sign, and nothing of a pad."""
    store = store_with_times(tmp_path, by_time=True)
    data = open_data(
        FeatureStore.open(store.folder), Wants("any", ("textual",), neighbours="each", k=12, sources=None), ["valid"]
    )
    valid, seen = data.splits["valid"], 0
    for batch in valid.batches(16, torch.device("cpu")):
        near, rows = batch.neighbours, batch.rows.numpy()
        ids = valid.neighbours.ids[np.searchsorted(valid.rows, rows)]
        assert np.array_equal(near.there, ids >= 0)
        for i, k in zip(*np.nonzero(ids >= 0), strict=True):
            a, b = rows[i], ids[i, k]
            same = bool(store.items.user[a]) and store.items.user[a] == store.items.user[b]
            assert near.same_creator[i, k].item() is same
            assert near.days[i, k].item() == pytest.approx(
                (store.items.time[a] - store.items.time[b]) / np.timedelta64(1, "D")
            )
            seen += same
        pads = ~near.there
        assert not near.label[pads].any() and not near.days[pads].any() and not near.same_creator[pads].any()
    assert seen > 10


def test_a_plain_method_gets_the_retrievals_neighbours_alone(tmp_path):
    store = store_with_times(tmp_path, by_time=False)
    data = open_data(FeatureStore.open(store.folder), Wants("any", ("textual",), neighbours="each", k=7), ["valid"])
    np.testing.assert_array_equal(
        data.splits["valid"].neighbours.ids, Neighbours.read(store).ids[store.rows("valid"), :7]
    )
    with refused("--num_of_retrieved_items 21: .*neighbours.npz holds 20 an item.*--num_of_retrieved_items 21"):
        open_data(FeatureStore.open(store.folder), Wants("any", ("textual",), neighbours="each", k=21), ["valid"])
