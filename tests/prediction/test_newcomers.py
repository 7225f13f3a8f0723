"""Videos of no data set: predicted as if they had been in it from the start, and what is wrong with them is said."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from tiny import refused, remade, run_test, searched, store_of_creators, store_with_times, trained

from dataloader.importing.newcomers import read_newcomers, unused_id
from dataloader.importing.settings import TableSettings
from dataloader.metadata import Metadata
from dataloader.store import FeatureStore

SIZES = {"train": 120, "valid": 40, "test": 40, "predict": 12}
METHODS = {
    "MMRA": ("--epochs", 1, "--feature_dim", 16, "--num_of_retrieved_items", 4),
    "SVR": (),
    "RetrievalBoost": ("--trees", 30, "--num_of_retrieved_items", 5),
    "LARK": ("--epochs", 1, "--ensemble", 1, "--num_of_retrieved_items", 5),
    "Blend": ("--members", "RetrievalBoost --trees 10 --num_of_retrieved_items 5", "SVR"),
}


def content(folder: Path) -> dict[str, tuple]:
    """Of every file below: its bytes and when it was written."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return {str(path): (path.read_bytes(), path.stat().st_mtime_ns) for path in files}


def known_store(tmp_path, **how) -> FeatureStore:
    """Creators, times and metadata of three kinds, some unknown."""
    rng, n = np.random.default_rng(2), sum(SIZES.values())
    number = np.where(rng.random(n) < 0.1, np.nan, rng.normal(size=n))
    kind = np.array([["dance", "talk", None][i] for i in rng.integers(0, 3, n)], object)
    metadata = Metadata({"length": number, "kind": kind, "hd": rng.integers(-1, 2, n).astype(np.int8)})
    store = store_of_creators(tmp_path, sizes=SIZES, creators=30, metadata=metadata, **how)
    time = np.datetime64("2024-03-01", "us") + rng.permutation(n) * np.timedelta64(1, "h")
    new = remade(store, replace(store.items, time=time))
    new.add_metadata(metadata)
    return searched(new, "retrieval", "textual")


def as_table(store: FeatureStore, rows: np.ndarray, folder: Path, **others) -> tuple[Path, list[str]]:
    """A table of these items under new ids, and files of their features; the flags that name these."""
    items = store.items
    columns = {"item_id": [f"new {i}" for i in items.item_id[rows]], "text": items.text[rows]}
    columns |= {"user": items.user[rows], "time": items.time[rows].astype(str)}
    if store.metadata is not None:
        columns |= {name: values[rows] for name, values in store.metadata.columns.items()}
        columns["hd"] = [None if value < 0 else bool(value) for value in columns["hd"]]
    folder.mkdir(exist_ok=True)
    pd.DataFrame(columns | others).to_csv(folder / "new.csv", index=False)
    flags = []
    for name in store.features:
        np.save(folder / f"{name}.npy", store.features[name][rows])
        flags.append(f"{name}={folder / name}.npy")
    return folder / "new.csv", flags


@pytest.mark.parametrize(
    "method", [pytest.param(one, marks=[pytest.mark.slow] * (one in ("LARK", "Blend"))) for one in METHODS]
)
def test_they_are_predicted_as_if_they_had_been_in_the_data_set(tmp_path, load_script, method):
    store = known_store(tmp_path)
    run = trained(store, tmp_path / "runs", "--model_id", method, *METHODS[method])
    run_test(load_script, "--model_path", run, "--split", "predict")
    expected = pd.read_csv(run / "predict" / "predictions.csv")
    before = content(store.folder)
    table, features = as_table(store, store.rows("predict"), tmp_path / "new")
    flags = [text for text in features if method != "SVR" or not text.startswith("retrieval")]
    run_test(load_script, "--model_path", run, "--table", table, "--features", *flags, "--output", tmp_path / "out")
    found = pd.read_csv(tmp_path / "out" / "predictions.csv", keep_default_na=False)
    assert found["item_id"].tolist() == [f"new {i}" for i in expected["item_id"]]
    np.testing.assert_allclose(found["prediction"], expected["prediction"], atol=2e-5)
    np.testing.assert_allclose(found["prediction_count"], expected["prediction_count"].round(), atol=1)
    for said, ids in zip(found["neighbours"], expected["neighbours"], strict=True):
        assert [one["id"] for one in json.loads(said)] == json.loads(ids)
    if method != "SVR":
        first = json.loads(found["neighbours"][0])
        assert sum(one["weight"] for one in first) == pytest.approx(1, abs=0.01)
        counts = dict(zip(store.items.item_id, store.items.popularity[:, 0], strict=True))
        assert all(one["count"] == pytest.approx(counts[one["id"]], abs=1e-3) for one in first)
    assert set(found["reason"]) == {""}
    assert content(store.folder) == before  # nothing of the data set is touched
    said = json.loads((tmp_path / "out" / "prediction.json").read_text())
    assert said["predicted"] == 12 and said["data"]["fingerprint"] == store.fingerprint


def test_by_time_they_retrieve_what_was_known_when_they_are_published(tmp_path, load_script):
    store = store_with_times(tmp_path, by_time=True)
    split = store.items.split.copy()
    split[store.rows("test")[:10]] = "predict"
    store = searched_by_time(remade(store, replace(store.items, split=split), store.label))
    run = trained(store, tmp_path / "runs", "--model_id", "RetrievalBoost", "--trees", 20)
    run_test(load_script, "--model_path", run, "--split", "predict")
    expected = pd.read_csv(run / "predict" / "predictions.csv")
    rows = store.rows("predict")
    counted = {"label_time": store.items.label_time[rows].astype(str)}
    table, features = as_table(store, rows, tmp_path / "new", **counted)
    run_test(load_script, "--model_path", run, "--table", table, "--features", *features, "--output", tmp_path / "out")
    found = pd.read_csv(tmp_path / "out" / "predictions.csv")
    np.testing.assert_allclose(found["prediction"], expected["prediction"], atol=2e-5)


def searched_by_time(store: FeatureStore) -> FeatureStore:
    from dataloader.neighbours import Known, Neighbours
    from dataloader.search.exact import search

    known = Known.of(store)
    found = search(store.features["retrieval"], store.rows("train"), 20, since=known.since, asked=known.asked)
    Neighbours(*found, 20, "train", "tests", store.fingerprint, Known.rule_of(store)).write(store)
    return store


def test_what_is_unknown_or_cannot_be_predicted_is_said(tmp_path, load_script, capsys):
    store = known_store(tmp_path)
    run = trained(
        store, tmp_path / "runs", "--model_id", "RetrievalBoost", "--trees", 20, "--num_of_retrieved_items", 5
    )
    rows = store.rows("predict")
    table, features = as_table(store, rows, tmp_path / "new")
    frame = pd.read_csv(table)
    old = store.items.item_id[0]
    frame.loc[0, "item_id"] = old  # it would be its own neighbour
    frame["length"] = frame["length"].astype(object)
    frame.loc[1, "length"] = "long"  # a cell that is no number
    frame["shares"] = 1
    frame.loc[2, "item_id"] = None
    frame = pd.concat([frame, frame.iloc[[5, 5]]])  # twice more
    frame = frame.drop(columns=["kind"]).assign(target0=np.arange(len(frame)))
    frame.to_csv(table, index=False)
    for path in table.parent.glob("*.npy"):
        array = np.load(path)
        np.save(path, np.concatenate([array, array[[5, 5]]]))
    capsys.readouterr()
    run_test(load_script, "--model_path", run, "--table", table, "--features", *features, "--output", tmp_path / "out")
    said = capsys.readouterr()
    assert "has no column kind: unknown of all items" in said.err and "shares" in said.out
    found = pd.read_csv(tmp_path / "out" / "predictions.csv", keep_default_na=False).set_index("item_id")
    assert len(found) == 14 and (found["reason"] != "").sum() == 5
    assert "in the data set" in found.loc[old, "reason"] and found.loc[old, "prediction"] == ""
    assert "long" in found.loc[frame["item_id"][1], "reason"]
    assert "5 could not be predicted" in said.err
    assert (found["prediction"] != "").sum() == 9  # and not once more for each row of one video
    # Typed again it is done again; for another table the folder is not taken.
    run_test(load_script, "--model_path", run, "--table", table, "--features", *features, "--output", tmp_path / "out")
    other, features = as_table(store, rows[:5], tmp_path / "other")
    with refused("predictions of other videos, or of another table, are there"):
        words = ("--table", other, "--features", *features, "--output", tmp_path / "out")
        run_test(load_script, "--model_path", run, *words)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--table", "new.csv"), "--output <folder> says where"),
        (("--text", "a title", "--output", "o", "--split", "valid"), "--split is for a split of the data set"),
        (("--output", "o"), "--output is for new videos"),
        (("--table", "absent.csv", "--output", "o"), "absent.csv: no such file"),
        (("--videos", "absent", "--output", "o"), "--videos absent: no such file or folder"),
        (("--text", "a title", "--output", "o"), "new items too: --features visual=<file> textual=<file>"),
        (("--text", "a title", "--output", "o", "--features", "x"), "NAME=FILE is expected"),
        (("--text", "a title", "--output", "o", "--features", "audio=a.npy"), "--features audio: the run takes"),
        (("--bank", "grown"), "has not grown since the run was trained"),
    ],
)
def test_what_cannot_be_is_refused(run_of_svr, load_script, words, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with refused(message):
        run_test(load_script, "--model_path", run_of_svr, *words)
    assert not list(tmp_path.glob("o/*.csv"))


@pytest.fixture(scope="module")
def run_of_svr(tmp_path_factory) -> Path:
    tmp_path = tmp_path_factory.mktemp("svr")
    return trained(store_of_creators(tmp_path, sizes=SIZES, creators=30), tmp_path / "runs", "--model_id", "SVR")


def test_what_a_part_changes_is_the_prediction_less_that_without_it(tmp_path, load_script):
    """Asked again with the mean of train in place of the titles' vectors, and where nobody is retrieved."""
    store = known_store(tmp_path)
    run = trained(store, tmp_path / "runs", "--model_id", "MMRA", *METHODS["MMRA"])
    table, features = as_table(store, store.rows("predict"), tmp_path / "new")
    run_test(load_script, "--model_path", run, "--table", table, "--features", *features, "--output", tmp_path / "all")
    mean = store.features["textual"][store.rows("train")].mean(axis=0)
    np.save(tmp_path / "mean.npy", np.tile(mean, (12, 1)))
    changed = [f"textual={tmp_path / 'mean.npy'}" if text.startswith("textual") else text for text in features]
    run_test(load_script, "--model_path", run, "--table", table, "--features", *changed, "--output", tmp_path / "less")
    whole, less = (pd.read_csv(tmp_path / name / "predictions.csv") for name in ("all", "less"))
    np.testing.assert_allclose(whole["changed_by_textual"], whole["prediction"] - less["prediction"], atol=2e-5)
    np.save(tmp_path / "zeros.npy", np.zeros((12, store.features["retrieval"].shape[1])))
    changed = [f"retrieval={tmp_path / 'zeros.npy'}" if text.startswith("retrieval") else text for text in features]
    run_test(load_script, "--model_path", run, "--table", table, "--features", *changed, "--output", tmp_path / "alone")
    alone = pd.read_csv(tmp_path / "alone" / "predictions.csv")
    assert set(alone["neighbours"]) == {"[]"}
    np.testing.assert_allclose(whole["changed_by_neighbours"], whole["prediction"] - alone["prediction"], atol=2e-5)
    assert {"changed_by_visual", "changed_by_creator"} <= set(whole)


def test_a_table_of_which_no_row_can_be_used_says_why(tmp_path):
    store = known_store(tmp_path)
    reading = TableSettings(on_error="skip", keep="first")
    for column, value, why in (("hd", "maybe", "neither yes nor no"), ("time", "soon", "no time")):
        pd.DataFrame([{"item_id": "x", "text": "a title", column: value}]).to_csv(tmp_path / "new.csv", index=False)
        with refused(f"new.csv: no row of it can be used: line 2: column {column}: values like '{value}' are {why}"):
            read_newcomers(store, tmp_path / "new.csv", reading, "predict", None)


def test_a_video_without_an_id_gets_one_that_no_other_has(tmp_path):
    store = known_store(tmp_path)
    ids = np.array([str(i) for i in range(len(store))], object)
    assert unused_id(replace(store.items, item_id=ids)) == str(len(store))


def test_several_targets_without_their_counts_and_a_file_that_was_wrong_first(tmp_path, load_script, capsys):
    """Nobody knows the counts of a new video; what a refused command began does not stop the right one."""
    store = store_of_creators(tmp_path, sizes=SIZES, creators=30, label_dim=2)
    run = trained(store, tmp_path / "runs", "--model_id", "SVR")
    run_test(load_script, "--model_path", run, "--split", "predict")
    expected = pd.read_csv(run / "predict" / "predictions.csv")
    table, features = as_table(store, store.rows("predict"), tmp_path / "new")
    np.save(tmp_path / "nan.npy", np.full((12, 7), np.nan))
    words = ("--model_path", run, "--table", table, "--output", tmp_path / "out", "--features")
    right = [text for text in features if not text.startswith("retrieval")]
    for wrong, message in (("gone.npy", "no such file"), ("nan.npy", "12 of 12 items have NaN")):
        with refused(message):
            run_test(load_script, *words, *right[:-1], f"textual={tmp_path / wrong}")
    run_test(load_script, *words, *right)
    found = pd.read_csv(tmp_path / "out" / "predictions.csv")
    for name in ("prediction_target0", "prediction_target1"):
        np.testing.assert_allclose(found[name], expected[name], atol=2e-5)
    capsys.readouterr()
    table, _ = as_table(store, store.rows("predict"), tmp_path / "new", target0=np.arange(12))
    run_test(load_script, *words[:5], tmp_path / "half", "--features", *right)
    assert len(pd.read_csv(tmp_path / "half" / "predictions.csv")) == 12
