"""compare.py --folds: who is tested when, that nothing of a tested item is fitted, and figures over all folds."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from comparing import SMALL, contents
from conftest import ROOT
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import make_store, refused, with_creators

from baselines.comparison.children import Children
from baselines.comparison.folds import check_folds, make_folds
from baselines.comparison.trivial import trivial_rows
from common.console import InputError
from common.lock import locked
from dataloader.importing.scaling import add_normalised
from dataloader.importing.splits import fold_splits
from dataloader.items import Items
from dataloader.names import FOLDS_BY
from dataloader.neighbours import Neighbours
from dataloader.search.exact import search
from dataloader.store import FeatureStore
from engine.metrics import measure


def items_of(users, times=None, predict=0) -> Items:
    n = len(users)
    split = np.array(["train"] * (n - predict) + ["predict"] * predict, object)
    label = np.where(split == "predict", np.nan, 1.0)[:, None]
    ids = np.array([str(i) for i in range(n)], object)
    return Items(ids, ids, label, label, split, user=np.array(users, object), time=times)


# ---- who is tested when --------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(st.integers(2, 6), st.integers(0, 1000), st.sampled_from(FOLDS_BY), st.integers(0, 5))
def test_folds_of_any_items(folds, seed, by, predict):
    rng = np.random.default_rng(seed)
    n = 60 + predict
    users = np.array([f"u{i}" for i in rng.integers(0, 40, n)], object)
    users[rng.random(n) < 0.2] = ""
    times = np.datetime64("2020-01-01", "us") + rng.permutation(n) * np.timedelta64(1, "h")
    times[rng.random(n) < 0.1] = np.datetime64("NaT")
    items = items_of(users, times, predict)
    splits = fold_splits(items, folds, by)
    assert len(splits) == folds
    usable = items.split != "predict"
    if by == "time":
        usable &= ~np.isnat(times)
    tested = np.sum([split == "test" for split in splits], axis=0)
    assert tested.max() == 1 and not tested[~usable].any()
    for split in splits:
        assert all((split == name).any() for name in ("train", "valid", "test"))
        assert (split[~usable] == "predict").all()
        sides = {name: set(users[split == name]) - {""} for name in ("train", "valid", "test")}
        if by == "creator":  # no creator is on two sides
            assert not (
                sides["train"] & sides["test"] or sides["train"] & sides["valid"] or sides["valid"] & sides["test"]
            )
        if by == "time":
            assert times[split == "train"].max() < times[split == "valid"].min()
            assert times[split == "valid"].max() < times[split == "test"].min()
        else:
            assert (tested == usable).all() and not (split[usable] == "predict").any()
        again = fold_splits(items, folds, by)
    assert all((a == b).all() for a, b in zip(splits, again, strict=True))
    if by == "time":  # an expanding window, whose first block is never tested
        assert times[(tested == 0) & usable].max() < times[tested == 1].min()
        assert [(split == "test").sum() for split in splits] == [usable.sum() // (folds + 1)] * folds


@pytest.mark.parametrize(
    ("by", "users", "message"),
    [
        ("creator", [""] * 30, "--folds_by creator: no creator of any item is known"),
        ("time", ["a"] * 30, "--folds_by time: no time of any item is known"),
        ("creator", ["a", "b", "c"] * 10, "--folds 5: 3 creators are too few, at least 10 are needed"),
        ("random", ["a"] * 9, "--folds 5: 9 items are too few"),
    ],
)
def test_what_cannot_be_folded(by, users, message):
    with pytest.raises(InputError, match=message):
        fold_splits(items_of(users), 5, by)


def test_equal_times_are_never_on_two_sides():
    """Times by the day, many videos each: borders lie between days."""
    days = np.datetime64("2020-01-01", "us") + (np.arange(90) // 9) * np.timedelta64(1, "D")
    for split in fold_splits(items_of(["a"] * 90, days), 3, "time"):
        sides = [set(days[split == name]) for name in ("train", "valid", "test")]
        assert not (sides[0] & sides[1] or sides[1] & sides[2] or sides[0] & sides[2])
    with pytest.raises(InputError, match=r"--folds 5 --folds_by time: a fold would have no train, valid or test items"):
        fold_splits(items_of(["a"] * 90, np.full(90, "2020-01-01", "M8[us]")), 5, "time")


def test_valid_has_about_a_ninth_whatever_creators_have():
    sizes = (3000 / np.arange(1, 120)).astype(int) + 1  # a few creators have most of the videos
    users = np.repeat([f"u{i}" for i in range(len(sizes))], sizes)
    for split in fold_splits(items_of(users), 5, "creator"):
        rest = (split != "test").sum()
        assert 0.4 * rest / 9 <= (split == "valid").sum() <= 1.6 * rest / 9


# ---- a fold is a split assignment: all that is fitted on train is fitted anew ----------------------


def vectors_of_features(children_here, folder) -> None:
    where = ["--dataset_path", str(folder.parent), "--dataset_id", folder.name]
    script = "feature_engineering/retrieval_engineering.py"
    children_here.run([script, *where, "--source", "features"], folder.parent / "output.txt")


@pytest.fixture(scope="module")
def store(tmp_path_factory, children_here):
    """Standardised features, vectors of them and the titles' words, neighbours; creators and times."""
    folder = tmp_path_factory.mktemp("data") / "tiny"
    store = with_creators(make_store(folder, k=None, sizes={"train": 60, "valid": 20, "test": 20}), 30, times=True)
    words = np.array([f"{w} {v}" for w, v in np.random.default_rng(5).integers(0, 9, (len(store), 2))], object)
    arrays = {name: np.array(array) * 3 + 1 for name, array in store.features.items()}
    items = replace(store.items, text=words)
    new = FeatureStore.create(folder, items, family="MicroLens", label=store.label, overwrite=True)
    add_normalised(new, "visual", arrays["visual"], "standard")
    add_normalised(new, "textual", arrays["textual"], "standard+l2", dtype="float16", source="t.npy")
    vectors_of_features(children_here, folder)
    new = FeatureStore.open(folder)
    found = search(new.features["retrieval"], new.rows("train"), 6)
    Neighbours(*found, 6, "train", "tests", new.fingerprint).write(new)
    return new


@pytest.fixture(scope="module")
def folds(store, tmp_path_factory):
    """From the shell, as users make them."""
    place = tmp_path_factory.mktemp("folds")
    return place, make_folds(store, Neighbours.read(store), place, 3, "creator", "cpu", Children(None))


def test_a_fold_is_what_an_import_with_that_split_gives(store, folds, tmp_path, children_here):
    """To the bit: normalisation, the words' weights, vectors and neighbours."""
    _, made = folds
    for (fold, neighbours), split in zip(made, fold_splits(store.items, 3, "creator"), strict=True):
        folder = tmp_path / "own"
        items = replace(store.items, split=split)
        own = FeatureStore.create(folder, items, family="MicroLens", label=store.label, overwrite=True)
        for name, mode, dtype in (("visual", "standard", "float32"), ("textual", "standard+l2", "float16")):
            add_normalised(own, name, np.array(store.unscaled(name)), mode, dtype=dtype)
        vectors_of_features(children_here, folder)
        own = FeatureStore.open(folder)
        for name in ("visual", "textual", "retrieval"):
            np.testing.assert_array_equal(fold.features[name], own.features[name])
            assert not np.array_equal(fold.features[name], store.features[name])
        bank = fold.rows("train")
        ids, similarity = search(own.features["retrieval"], bank, 6)
        np.testing.assert_array_equal(neighbours.ids, ids)
        np.testing.assert_allclose(neighbours.similarity, similarity, atol=1e-6)
        assert np.isin(neighbours.ids, bank).all()


def test_a_tested_item_is_nowhere_in_what_is_fitted(store, folds, tmp_path, children_here):
    """Another label, other features and another title of a tested item change nothing of the others.

    Neither their features, nor their neighbours, nor what the trivial rows, which are fitted on all of it, predict.
    """
    (fold, neighbours), *_ = folds[1]
    row = fold.rows("test")[0]
    arrays = {name: np.array(store.unscaled(name)) for name in ("visual", "textual")}
    text, label = store.items.text.copy(), store.items.label.copy()
    text[row], label[row] = "words that nobody else has", 1000
    for array in arrays.values():
        array[row] = 1000
    items = replace(store.items, text=text, label=label)
    changed = FeatureStore.create(tmp_path / "tiny", items, family="MicroLens", label=store.label)
    add_normalised(changed, "visual", arrays["visual"], "standard")
    add_normalised(changed, "textual", arrays["textual"], "standard+l2", dtype="float16", source="t.npy")
    vectors_of_features(children_here, tmp_path / "tiny")
    changed = FeatureStore.open(tmp_path / "tiny")
    found = search(
        changed.features["retrieval"], changed.rows("train"), 6
    )  # of its own split: only K and bank are taken from it
    own = Neighbours(*found, 6, "train", "tests", changed.fingerprint)
    (other, its_neighbours), *_ = make_folds(changed, own, tmp_path / "folds", 3, "creator", "cpu", children_here)
    others = np.arange(len(store)) != row
    for name in ("visual", "textual", "retrieval"):
        np.testing.assert_array_equal(other.features[name][others], fold.features[name][others])
    np.testing.assert_array_equal(its_neighbours.ids[others], neighbours.ids[others])
    before, after = trivial_rows(fold, neighbours), trivial_rows(other, its_neighbours)
    assert list(before) == list(after) and len(before) == 6
    for name in before:
        np.testing.assert_array_equal(before[name].prediction[1:], after[name].prediction[1:])  # the first is `row`
        np.testing.assert_equal(before[name].valid, after[name].valid)


def test_a_second_start_makes_what_is_missing_alone(store, folds, children_here):
    place, _ = folds
    before = {path: path.stat().st_mtime_ns for path in place.rglob("*.npy")}
    make_folds(store, Neighbours.read(store), place, 3, "creator", "cpu", children_here)
    assert {path: path.stat().st_mtime_ns for path in place.rglob("*.npy")} == before
    (place / "fold2" / "neighbours.npz").unlink()  # as if it had been killed there
    make_folds(store, Neighbours.read(store), place, 3, "creator", "cpu", children_here)
    changed = {path.parent.name for path in before if path.stat().st_mtime_ns != before[path]}
    assert changed == {"fold2"}


def test_a_kill_while_a_file_is_shared_costs_nothing(tmp_path, children_here):
    """Its left-over is a second name of the data set's own file, which no later step may write into."""
    store = with_creators(make_store(tmp_path / "tiny"), 30)
    before = contents(store.folder)
    fold = tmp_path / "folds" / "fold1"
    fold.mkdir(parents=True)
    (fold / "visual.npy.partial").hardlink_to(store.folder / "visual.npy")
    ((made, _), *_) = make_folds(store, None, tmp_path / "folds", 2, "creator", "cpu", children_here)
    assert contents(store.folder) == before and not list(fold.glob("*.partial"))
    (fold / "textual.npy.partial").hardlink_to(store.folder / "textual.npy")
    with made.add_array("textual", made.features["textual"].shape, "float32", overwrite=True) as out:
        out[:] = 0
    assert contents(store.folder) == before


@pytest.mark.parametrize("step", ["create", "run", "note"])
def test_a_fold_killed_at_any_step_is_made_anew(store, tmp_path, children_here, monkeypatch, step):
    class Killed(BaseException):
        pass

    def kill(*_, **__):
        raise Killed

    def make():
        return make_folds(store, Neighbours.read(store), tmp_path, 2, "creator", "cpu", children_here)

    with monkeypatch.context() as patch:
        patch.setattr(children_here if step == "run" else FeatureStore, step, kill)
        with pytest.raises(Killed):
            make()
    children_here.stopped = False
    (fold, neighbours), _ = make()
    assert fold.description.lineage["fold_of"]["fold"] == 1 and neighbours.k == 6


def test_vectors_of_an_older_version_are_not_taken_over(store, tmp_path):
    """They were made with the words and statistics of another train; what they were made of is not recorded."""
    older = FeatureStore.open(store.folder)
    made = older.description.features["retrieval"].made
    del made["lexical_weight"], made["made_of"]
    with refused(r"earlier version made its retrieval vectors .*--source features --overwrite"):
        check_folds(older, 3, "creator")


@pytest.mark.slow
def test_ctrl_c_ends_the_scripts_that_make_a_fold(store, tmp_path):
    words = ("--dataset_path", store.folder.parent, "--dataset_id", "tiny", "--save", tmp_path, "--folds", 3)
    command = [sys.executable, "baselines/compare.py", *map(str, words), "--methods"]
    child = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob("tiny/creator_3/fold1/output.txt")) and time.monotonic() < deadline:
        time.sleep(0.02)
    time.sleep(0.5)  # for the script to have been started
    child.send_signal(signal.SIGINT)
    _, stderr = child.communicate(timeout=60)
    assert child.returncode == 130 and "the same command continues" in stderr and "Traceback" not in stderr
    with locked(tmp_path / "tiny" / "creator_3"):  # nobody holds the place any more
        pass


def test_features_that_need_no_train_are_shared(tmp_path, children_here):
    store = with_creators(make_store(tmp_path / "tiny"), 30)
    ((fold, _), *_) = make_folds(store, None, tmp_path / "folds", 2, "creator", "cpu", children_here)
    assert (fold.folder / "visual.npy").samefile(store.folder / "visual.npy")
    assert fold.label.split_by == "creator, fold 1 of 2"


# ---- the table -----------------------------------------------------------------------------------


@pytest.mark.parametrize("by", ["creator", "time"])
def test_the_table_of_folds(store, tmp_path, compare, by, capsys):
    words = ("--methods", "MMRA", "--flags", f"MMRA: {SMALL}", "--folds", 3, "--folds_by", by)
    assert compare(store, tmp_path, *words) == 0
    place = tmp_path / "tiny" / f"{by}_3"
    table = pd.read_csv(place / "table.csv").set_index("row")
    cells = pd.read_csv(place / "cells.csv")
    assert cells["fold"].tolist() == ["fold 1", "fold 2", "fold 3"] and set(cells["seed"]) == {2024}
    predictions = pd.concat([pd.read_csv(f"{run}/predictions.csv", dtype={"item_id": str}) for run in cells["run"]])
    assert predictions["item_id"].is_unique and len(predictions) == (100 if by == "creator" else 75)
    prediction, truth = predictions[["prediction"]].to_numpy(), predictions[["truth"]].to_numpy()
    # pooled squared error over pooled variance, not a mean of the folds' nMSE
    assert table.loc["MMRA", "nMSE_mean"] == pytest.approx(np.mean((prediction - truth) ** 2) / np.var(truth), rel=1e-5)
    assert table.loc["MMRA", "nMSE_mean"] == pytest.approx(measure(prediction, truth)["nMSE"], rel=1e-5)
    assert table.loc["MMRA", "valid_nMSE_mean"] == pytest.approx(cells["valid_nMSE"].mean())
    text = (place / "table.md").read_text()
    assert f"{len(predictions)} test items" in text and "of 3 folds, " in text and "all together" in text
    assert "creators of the" in text and "sign flips" in text and "(videos [" in text
    significance = pd.read_csv(place / "significance.csv")
    assert set(significance["drawn"]) == {"creators"} and {"low_videos", "high_videos", "p"} <= set(significance)
    if by == "creator":
        mean, own = (table.loc[row, "nMSE_mean"] for row in ("mean of train", "the creator's other videos"))
        assert mean == own  # every creator is new
        trivial = pd.read_csv(place / "trivial" / "mean_of_train" / "predictions.csv", dtype={"item_id": str})
        assert trivial["item_id"].tolist() == predictions["item_id"].tolist() and set(trivial["fold"]) == set(
            cells["fold"]
        )
    before = contents(place / "fold1" / "cells")
    capsys.readouterr()
    assert compare(store, tmp_path, *words) == 0
    assert contents(place / "fold1" / "cells") == before and "3 of 3 cells are finished" in capsys.readouterr().out


def test_a_fold_that_fails_costs_its_row_alone(store, tmp_path, compare, capsys):
    flags = f"MMRA: {SMALL}"
    words = ("--methods", "MMRA", "--flags", flags, "--row", f"K 2=MMRA {SMALL} --num_of_retrieved_items 2")
    words += ("--folds", 2, "--seeds", 1)
    assert compare(store, tmp_path, *words) == 0
    place = tmp_path / "tiny" / "creator_2"
    (path,) = place.glob("fold2/cells/*num_of_retrieved_items=2*/seed1/*/predictions.csv")
    table = pd.read_csv(path)
    table.loc[3, "prediction"] = np.nan
    (path.parent / "manifest.jsonl").unlink()  # with it the run is tested anew
    table.to_csv(path, index=False, na_rep="nan")
    capsys.readouterr()
    assert compare(store, tmp_path, *words) == 1
    assert "K 2, seed 1, fold 2: " in capsys.readouterr().err
    table = pd.read_csv(place / "table.csv").set_index("row")
    assert np.isnan(table.loc["K 2", "nMSE_mean"]) and table.loc["MMRA", "nMSE_mean"] > 0


def test_trivial_rows_alone(store, tmp_path, compare):
    assert compare(store, tmp_path, "--methods", "--folds", 2) == 0
    table = pd.read_csv(tmp_path / "tiny" / "creator_2" / "table.csv")
    assert set(table["method"]) == {"trivial"} and table["valid_nMSE_mean"].notna().all()
    assert (table["nMSE_low"] < table["nMSE_mean"]).all() and (table["nMSE_mean"] < table["nMSE_high"]).all()
    assert compare(store, tmp_path, "--methods", "--folds", 2, "--reference", "ridge on the features") == 0
    significance = pd.read_csv(tmp_path / "tiny" / "creator_2" / "significance.csv")
    assert set(significance["reference"]) == {"ridge on the features"}


def test_another_split_of_the_same_items_makes_the_fold_anew(store, tmp_path, children_here, monkeypatch):
    """As a version does that draws folds otherwise: folds that are there are not taken for today's."""

    def make():
        return make_folds(store, None, tmp_path, 2, "random", "cpu", children_here)[0][0]

    before = make().items.split
    splits = fold_splits(store.items, 2, "random")
    monkeypatch.setattr("baselines.comparison.folds.fold_splits", lambda *_: splits[::-1])
    assert (make().items.split == splits[1]).all() and (before == splits[0]).all()


def test_a_trivial_reference_that_the_data_set_cannot_have(tmp_path, compare):
    store = make_store(tmp_path / "data" / "tiny")  # no creators
    found = compare(store, tmp_path / "save", "--methods", "--reference", "the creator's other videos")
    assert found == "--reference the creator's other videos: the data set has not what this row takes"


def test_a_row_that_retrieves_needs_neighbours_before_anything_is_trained(tmp_path, compare):
    store = with_creators(make_store(tmp_path / "data" / "tiny", k=None), 30)
    for folds in ((), ("--folds", 2)):
        found = compare(store, tmp_path / "save", "--methods", "SVR", "MMRA", *folds)
        assert found.startswith(f"row MMRA: {store.folder} has no neighbours yet")
    assert not (tmp_path / "save").exists()
    assert compare(store, tmp_path / "save", "--methods", "SVR", "--reference", "SVR", "--seeds", 1) == 0


def test_one_creator_shows_nothing(tmp_path, compare):
    """One's own channel: no interval and no test, and no traceback."""
    store = with_creators(make_store(tmp_path / "data" / "tiny"), 1)
    assert compare(store, tmp_path, "--methods") == 0
    found = pd.read_csv(tmp_path / "tiny" / "significance.csv")
    assert (found["p"] == 1).all() and found["low"].isna().all() and found["low_videos"].notna().any()
    assert "the 1 creators of the 20 test items" in (tmp_path / "tiny" / "table.md").read_text()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--folds_by", "time"), "--folds_by is for --folds, which is not given"),
        (("--folds", "90"), "creators are too few"),
        (("--methods", "--ablation"), "--reference MMRA: no such row"),
        (("--ablation", "--reference", "mean of train"), "--reference mean of train: no such row; the rows are MMRA"),
    ],
)
def test_bad_flags(store, tmp_path, compare, flags, message):
    assert message in compare(store, tmp_path / "save", "--methods", "MMRA", *flags)
    assert not (tmp_path / "save").exists()


def test_features_scaled_by_an_older_version_are_refused(store, tmp_path, compare):
    other = make_store(tmp_path / "data" / "tiny")
    info = json.loads((other.folder / "dataset.json").read_text())
    info["arrays"]["visual"] |= {"normalise": "standard", "source": "histogram_feature.npz"}
    (other.folder / "dataset.json").write_text(json.dumps(info))
    (other.folder / "manifest.jsonl").unlink()  # which such a data set has not
    found = compare(other, tmp_path / "save", "--methods", "MMRA", "--folds", 2)
    assert (
        "visual features before --normalise standard were not kept by the version that made them; import them" in found
    )
    assert not (tmp_path / "save").exists()
