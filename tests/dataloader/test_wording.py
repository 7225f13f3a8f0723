"""What a text says of its label: out of fold, in any script, and nothing where there is nothing to say."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from tiny import store_with_times, trained

from dataloader.store import FeatureStore
from dataloader.wording import label_by_wording

WORDS = {"cat": 2.0, "news": -1.5, "\u732b\u54aa": 1.0, "\U0001f600fun": -0.5, "\u0642\u0637\u0629": 0.5}


def told(tmp_path, *, creators: int = 40, by_creator: bool = False) -> FeatureStore:
    """Labels that are the worth of a word, or of their creator, and noise; the text is that word, or that creator's."""
    store = store_with_times(tmp_path, by_time=False, creators=creators)
    rng, n = np.random.default_rng(0), len(store)
    if by_creator:
        user = np.where(store.items.user == "", "nobody", store.items.user)
        number = np.unique(user, return_inverse=True)[1]
        text = np.array([f"phrase{u}" for u in user], object)
        worth = rng.normal(0, 2, number.max() + 1)[number]
    else:
        words = rng.choice(list(WORDS), n)
        text, worth = words.astype(object), np.array([WORDS[word] for word in words])
    label = (10 + worth + rng.normal(0, 0.5, n))[:, None]
    return FeatureStore(store.folder, replace(store.items, text=text, label=label), store.description)


def explained(store: FeatureStore, rows: np.ndarray, values: np.ndarray) -> float:
    truth = store.items.label[rows]
    return float(1 - np.mean((values - truth) ** 2) / truth.var())


def test_words_of_any_script_say_it(tmp_path):
    store = told(tmp_path)
    for split in ("train", "test"):
        rows = store.items.rows(split)
        (said,) = label_by_wording(store, rows, 1, apart=False)
        assert said.names == ["target0 by the wording of its text"] and explained(store, rows, said.values) > 0.7


def test_none_of_train_is_told_its_own_label_and_held_out_ones_are_out_of_reach(tmp_path):
    store = told(tmp_path)
    rows = np.arange(len(store))
    (before,) = label_by_wording(store, rows, 1, apart=False)
    for row in store.rows("train")[:5]:
        label = store.items.label.copy()
        label[row] += 100.0
        label[store.items.split != "train"] = 1e6
        changed = FeatureStore(store.folder, replace(store.items, label=label), store.description)
        (after,) = label_by_wording(changed, rows, 1, apart=False)
        assert after.values[row] == before.values[row] and not np.array_equal(after.values, before.values)


def test_with_creators_apart_a_phrase_of_their_own_says_nothing(tmp_path):
    store = told(tmp_path, by_creator=True, creators=20)
    rows = store.rows("train")
    (known,), (apart,) = (label_by_wording(store, rows, 1, apart=apart) for apart in (False, True))
    assert explained(store, rows, known.values) > 0.6 > 0.1 > explained(store, rows, apart.values)


def test_without_a_text_nothing_is_said(tmp_path):
    store = told(tmp_path)
    text = store.items.text.copy()
    text[::3] = ""
    some = FeatureStore(store.folder, replace(store.items, text=text), store.description)
    (said,) = label_by_wording(some, np.arange(len(store)), 1, apart=False)
    assert (np.isnan(said.values[:, 0]) == (text == "")).all()
    alone = np.array([chr(0x4E00 + i) for i in range(len(store))], object)  # each character in one text
    for nothing in (np.full(len(store), "", object), alone):
        none = FeatureStore(store.folder, replace(store.items, text=nothing), store.description)
        assert label_by_wording(none, np.arange(len(store)), 1, apart=False) == []


SLOW = pytest.mark.slow


@pytest.mark.parametrize("flags", [(), pytest.param(("--no_retrieval",), marks=SLOW), ("--modalities", "visual")])
def test_who_is_told(tmp_path, flags):
    """Those that take text, with neighbours or without."""
    store = store_with_times(tmp_path, by_time=False)
    run = trained(store, tmp_path / "runs", "--model_id", "RetrievalBoost", "--trees", 10, *flags)
    assert ("by the wording" in (run / "features.json").read_text()) is (flags != ("--modalities", "visual"))
