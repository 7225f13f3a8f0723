"""LARK from outside: what it learns from, that it is not fooled by its own labels, and what it refuses."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny import (
    creators_mean,
    make_store,
    nmse,
    predictions,
    refused,
    remade,
    rows_that_choose,
    searched,
    store_of_creators,
    trained,
    with_new_creators,
)

from baselines import recipe
from dataloader.metadata import Metadata
from dataloader.neighbours import Neighbours
from dataloader.opening import Trained, open_data
from dataloader.statistics import Statistics, with_statistics, with_time
from dataloader.store import FeatureStore
from engine.metrics import measure
from engine.run import Run

FAST = ("--model_id", "LARK", "--feature_dim", 16, "--ensemble", 1, "--num_of_retrieved_items", 12, "--lr", 3e-3)
SHORT = (*FAST, "--epochs", 2)


def test_it_is_not_fooled_by_its_own_labels(tmp_path, load_script):
    """Labels are the creator's effect and noise: (S - y) / (n - 1) would give train's own labels back."""
    store = store_of_creators(tmp_path, label=lambda effect, noise: 10 + effect + noise)
    run = trained(store, tmp_path / "runs", *FAST, "--epochs", 8)
    best = min(json.loads(line)["score"] for line in (run / "history.jsonl").read_text().splitlines())
    rows = rows_that_choose(store)
    by_creator = measure(creators_mean(store, rows), store.items.label[rows], store.label)["nMSE"]
    assert by_creator < 0.4 and best < 1.2 * by_creator
    tested = nmse(store, "test", predictions(load_script, run))
    assert tested < 1.3 * nmse(store, "test", creators_mean(store, store.rows("test")))


def test_it_learns_what_neither_labels_nor_features_say_alone(tmp_path, load_script):
    """Labels are the creator's effect and a column's: f must explain the column, in the creator's other videos too."""
    rng = np.random.default_rng(9)
    column = rng.normal(0, 2, 905)
    label = {"label": lambda effect, noise: 10 + effect + column + 0.3 * noise}
    store = store_of_creators(tmp_path, **label, metadata=Metadata({"column": column}))
    run = trained(store, tmp_path / "runs", *FAST, "--epochs", 12)
    tested = nmse(store, "test", predictions(load_script, run))
    assert tested < 0.6 * nmse(store, "test", creators_mean(store, store.rows("test")))
    without = trained(store, tmp_path / "without", *FAST, "--epochs", 12, "--no_correction")
    assert nmse(store, "test", predictions(load_script, without)) > 1.3 * tested


@pytest.mark.slow
def test_a_run_says_what_it_learned_from_and_repeats(tmp_path, load_script):
    store = store_of_creators(tmp_path, label_dim=2)
    run = trained(store, tmp_path / "runs", *SHORT)
    log, config = (run / "log.txt").read_text(), Run.open(run, "").config
    assert " candidates a video, and statistics of neighbours' labels: retrieval, textual, creator" in log
    assert "visual, textual, metadata features" in log and "target0 of retrieval neighbours, weighted" in log
    assert config["data"]["modalities"] == ["visual", "textual"] and config["creators"] is True
    assert set(config["sources"]) == {"retrieval", "textual"} and config["model"]["sources"] == ["retrieval", "textual"]
    first = predictions(load_script, run)
    assert first.shape == (150, 2)
    np.testing.assert_array_equal(predictions(load_script, run), first)
    np.testing.assert_array_equal(predictions(load_script, trained(store, tmp_path / "again", *SHORT)), first)
    script = load_script("test.py")
    script.main(script.build_parser().parse_args(["--model_path", str(run), "--split", "predict"]))
    assert (run / "predict" / "predictions.csv").exists()
    found = Neighbours.read(store, "textual")
    changed = Neighbours(found.ids[:, ::-1].copy(), found.similarity, 6, "train", "tests", store.fingerprint)
    changed.write(store, "textual")
    with refused(r"textual\.npz: not the neighbours trained with"):
        predictions(load_script, run)
    (run / "manifest.jsonl").unlink()  # with it, what is changed by hand is refused as such
    for name, wrong in {"numbers": -1, "similarity_temperature": 0.0}.items():
        (run / "config.json").write_text(json.dumps(config | {"model": config["model"] | {name: wrong}}))
        with refused(f"config.json: not the configuration of a run .*{name}"):
            predictions(load_script, run)
    (run / "config.json").write_text(json.dumps(config))
    (run / "metadata.skops").unlink()
    with refused(r"metadata\.skops: no such file"):
        predictions(load_script, run)


def test_sources_and_ablations(tmp_path, load_script):
    store = store_of_creators(tmp_path, sizes={"train": 120, "valid": 20, "test": 20})
    few = ("--num_of_retrieved_items", 6)
    for flags, said in {
        ("--sources", "creator"): "labels: creator",
        ("--sources", "textual", *few): "labels: textual",
        ("--no_correction",): "labels: retrieval, textual, creator",
        ("--modalities", "textual"): "textual, metadata features",
        ("--no_retrieval",): "visual, textual, metadata features",
    }.items():
        base = SHORT if flags != ("--no_retrieval",) else (*SHORT[:6], "--epochs", 2)
        run = trained(store, tmp_path / "runs", *base, *flags)
        log = (run / "log.txt").read_text()
        assert said in log and ("candidates" in log) is (flags != ("--no_retrieval",))
        assert np.isfinite(predictions(load_script, run)).all()
    refusals = {
        ("--sources", "visual"): r"neighbours/visual\.npz: no neighbours yet; make them with: .* --source visual",
        ("--no_retrieval", "--drop_neighbour", 0.1): "--drop_neighbour does nothing with --no_retrieval",
        ("--no_retrieval", "--no_correction"): "nothing is left",
        ("--label_scale", "none"): "LARK begins at 0, which must be the mean",
        ("--loss", "BCE"): "LARK weighs labels as they are",
    }
    for flags, why in refusals.items():
        with refused(why):
            trained(store, tmp_path / "more", "--model_id", "LARK", *flags)
    assert not (tmp_path / "more").exists()


def test_creators_that_are_new_and_data_without_any(tmp_path, load_script):
    """Without a history it falls back on what else is known; without creators and times these columns are not there."""
    new = with_new_creators(store_of_creators(tmp_path, label=lambda effect, noise: 10 + effect + noise))
    run = trained(new, tmp_path / "runs", *FAST, "--epochs", 8, "--num_of_retrieved_items", 6, "--drop_history", 0.4)
    assert nmse(new, "test", predictions(load_script, run)) < 1.25
    plain = make_store(tmp_path / "plain" / "plain")
    run = trained(plain, tmp_path / "runs", *SHORT, "--num_of_retrieved_items", 6)
    log = (run / "log.txt").read_text()
    columns = log.partition("features made of columns: ")[2].partition("\n")[0]
    assert columns.startswith("target0 of retrieval neighbours, weighted")
    assert "creator" not in columns and "published" not in columns and "neighbours' labels: retrieval\n" in log


def test_no_input_of_a_video_of_train_knows_its_label(tmp_path):
    """Its candidates lie in other folds, so their own statistics would count it."""
    store = store_of_creators(tmp_path)
    wants = recipe("LARK").wants({flag: f.default for flag, f in recipe("LARK").flags().items()} | {"model_id": "LARK"})
    wants = replace(wants, k=12)
    before = open_data(FeatureStore.open(store.folder), wants, ["train"])
    row = int(before.splits["train"].rows[before.splits["train"].neighbours.ids[:, 5] >= 0][3])
    label = store.items.label.copy()
    label[row] += 3
    items = replace(store.items, label=label, popularity=np.exp2(label) - 1)
    searched(remade(store, items), "retrieval", "textual")
    after = open_data(FeatureStore.open(store.folder), wants, ["train"], trained=Trained(None, before.encoding))
    at = [int(np.flatnonzero(data.splits["train"].rows == row)[0]) for data in (before, after)]
    batches = [
        next(data.splits["train"].sample(np.array([place])).batches(1, torch.device("cpu")))
        for data, place in zip((before, after), at, strict=True)
    ]
    assert batches[1].label - batches[0].label == pytest.approx(3)
    for part in ("label", "there", "place", "days", "same_creator", "similarity"):
        torch.testing.assert_close(*(getattr(b.neighbours, part) for b in batches), equal_nan=True, rtol=0, atol=0)
    for name in batches[0].features:
        torch.testing.assert_close(batches[1].features[name], batches[0].features[name], rtol=0, atol=0)
        theirs = [b.neighbours.features[name] for b in batches]
        torch.testing.assert_close(theirs[1], theirs[0], rtol=0, atol=0)


def test_what_changed_since_is_noticed(tmp_path):
    store = store_of_creators(tmp_path, sizes={"train": 120, "valid": 20, "test": 20})
    run = trained(store, tmp_path / "runs", *SHORT)
    found = Neighbours.read(store, "textual")
    changed = Neighbours(found.ids[:, ::-1].copy(), found.similarity, 6, "train", "tests", store.fingerprint)
    changed.write(store, "textual")
    with refused("the neighbours by source changed since it was trained"):
        trained(store, tmp_path / "runs", "--resume", run, "--epochs", 3)


def test_a_users_column_keeps_its_name(tmp_path):
    time = np.array(["2024-01-01", "NaT"], "M8[us]")
    said = Statistics(["a", "b"], np.array([[1.0, 2.0], [3.0, np.nan]], np.float32))
    both = with_statistics(with_time(Metadata({"a": np.array([7.0, 8.0])}), time), said)
    assert list(both.columns) == ["a", "published", "a (statistic)", "b"] and both.columns["a"].tolist() == [7, 8]
    number = with_statistics(with_time(Metadata({"published": np.array([5.0, 6.0])}), time), said)
    assert number.kinds == {"published": "number", "published (time)": "time", "a": "number", "b": "number"}
    known = with_statistics(with_time(Metadata({"when": time}), time), said)
    assert list(known.columns) == ["when", "a", "b"]
    assert list(with_statistics(with_time(None, np.array(["NaT"] * 2, "M8[us]")), said).columns) == ["a", "b"]
