"""--normalise against numpy: every mode, its statistics from split train alone, float16 and several frames."""

from __future__ import annotations

import numpy as np
import pytest
from tiny import make_store

from common.console import InputError
from dataloader.importing.scaling import MODES, add_normalised
from dataloader.store import FeatureStore


def by_hand(array: np.ndarray, mode: str, train: np.ndarray) -> np.ndarray:
    x = array.astype(np.float64)
    if "standard" in mode:
        seen = x[train].reshape(-1, x.shape[-1])
        spread = seen.std(axis=0)
        x = (x - seen.mean(axis=0)) / np.where(spread > 0, spread, 1)
    if "l2" in mode:
        length = np.sqrt((x * x).sum(axis=-1, keepdims=True))
        x = x / np.where(length > 0, length, 1)
    return x


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_modes_are_what_they_say(tmp_path, mode, dtype):
    store = make_store(tmp_path / "tiny", k=None)
    array = np.random.default_rng(3).normal(3, 20, (len(store), 3, 5)).astype(np.float32)
    array[:, :, 4] = 7  # a constant dimension has no spread to divide by
    train = store.items.rows("train")
    array[np.setdiff1d(np.arange(len(store)), train)] *= 10  # the others must not move the statistics
    add_normalised(store, "visual", array, mode, dtype=dtype, overwrite=True)
    tolerance = 1e-5 if dtype == "float32" else 2e-3
    np.testing.assert_allclose(store.features["visual"], by_hand(array, mode, train), atol=tolerance, rtol=tolerance)
    kept = store.description.features["visual"].made
    assert kept["normalise"] == mode and ("statistics" in kept) is ("standard" in mode)
    if "standard" in mode:
        np.testing.assert_allclose(kept["statistics"]["mean"], array[train].reshape(-1, 5).mean(axis=0), rtol=1e-4)


def test_what_was_scaled_is_kept_and_says_when_it_is_not_what_was_written(tmp_path):
    store = make_store(tmp_path / "tiny", k=None)
    array = np.random.default_rng(3).normal(3, 20, (len(store), 7))
    add_normalised(store, "textual", array, "standard+l2", dtype="float16", overwrite=True)
    np.testing.assert_array_equal(store.unscaled("textual"), array.astype("f4"))
    rows = np.arange(len(store)) != 1
    np.testing.assert_array_equal(store.keep(rows).unscaled("textual"), array[rows].astype("f4"))
    np.save(store.folder / "textual.unscaled.npy", array[rows].astype("f4") + 1)
    with pytest.raises(InputError, match=r"textual.unscaled.npy: .*are not those that were written; import them"):
        FeatureStore.open(store.folder).unscaled("textual")
    store = FeatureStore.open(store.folder)
    add_normalised(store, "textual", array[rows], "l2", overwrite=True)
    assert not (store.folder / "textual.unscaled.npy").exists()
    with pytest.raises(InputError, match=r"were not kept by the version that made them"):
        store.unscaled("textual")


def test_a_mode_of_another_split_changes_nothing_in_train(tmp_path):
    """No item of valid, test or predict has a say in how train is scaled."""
    store = make_store(tmp_path / "tiny", k=None)
    train, results = store.items.rows("train"), []
    for factor in (1, 50):
        array = np.random.default_rng(4).standard_normal((len(store), 7)).astype(np.float32)
        array[store.items.split != "train"] *= factor
        add_normalised(store, "textual", array, "standard", overwrite=True)
        results.append(np.array(store.features["textual"][train]))
    np.testing.assert_array_equal(*results)
