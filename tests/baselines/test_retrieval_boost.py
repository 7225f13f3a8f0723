"""RetrievalBoost from outside: what it learns from, that it is not fooled by its own labels, and what it refuses."""

from __future__ import annotations

import json

import numpy as np
import pytest
from tiny import (
    creators_mean,
    nmse,
    predictions,
    refused,
    rows_that_choose,
    store_of_creators,
    trained,
    with_new_creators,
)

from dataloader.neighbours import Neighbours
from dataloader.yardsticks import mean_of_train
from engine.metrics import measure
from engine.run import Run

pytest_plugins = ("comparing",)
FAST = ("--model_id", "RetrievalBoost", "--num_of_retrieved_items", 6, "--trees", 150, "--depth", 4)


def test_it_is_not_fooled_by_its_own_labels(tmp_path, load_script):
    """Labels are the creator's effect and noise: (S - y) / (n - 1) would give train's own labels back."""
    sizes = {"train": 600, "valid": 400, "test": 150, "predict": 5}
    store = store_of_creators(tmp_path, label=lambda effect, noise: 10 + effect + noise, sizes=sizes)
    run = trained(store, tmp_path / "runs", *FAST)
    valid, rows = json.loads((run / "valid.json").read_text())["nMSE"], rows_that_choose(store)
    by_creator = measure(creators_mean(store, rows), store.items.label[rows], store.label)["nMSE"]
    assert by_creator < 0.4 and valid <= 1.05 * by_creator
    assert "worse than" not in (run / "log.txt").read_text()
    assert nmse(store, "test", predictions(load_script, run)) < 1.15 * nmse(
        store, "test", creators_mean(store, store.rows("test"))
    )


def test_creators_that_are_new_do_no_harm(tmp_path, load_script):
    """Without a history it falls back on what else is known, and on the mean."""
    new = with_new_creators(store_of_creators(tmp_path, label=lambda effect, noise: 10 + effect + noise))
    run = trained(new, tmp_path / "runs", *FAST)
    mean = nmse(new, "test", mean_of_train(new)[0](new.rows("test")))
    assert nmse(new, "test", predictions(load_script, run)) < 1.1 * mean


@pytest.mark.slow
def test_a_run_says_what_it_learned_from_and_repeats(tmp_path, load_script):
    store = store_of_creators(tmp_path, label_dim=2)
    run = trained(store, tmp_path / "runs", *FAST, "--ensemble", 2)
    log, config = (run / "log.txt").read_text(), Run.open(run, "").config
    assert "statistics of neighbours' labels: retrieval, textual, creator; " in log and "what it looks at: " in log
    assert set(config["sources"]) == {"retrieval", "textual"} and config["creators"] is True
    assert (run / "figures" / "effects.png").stat().st_size > 5000
    first = predictions(load_script, run)
    np.testing.assert_array_equal(predictions(load_script, run), first)
    again = predictions(load_script, trained(store, tmp_path / "again", *FAST, "--ensemble", 2))
    np.testing.assert_array_equal(again, first)
    other = predictions(load_script, trained(store, tmp_path / "other", *FAST, "--ensemble", 2, "--seed", 1))
    assert (other != first).any()
    test = load_script("test.py")
    test.main(test.build_parser().parse_args(["--model_path", str(run), "--split", "predict"]))
    assert (run / "predict" / "predictions.csv").exists()
    # The first runs had what is drawn of sources among the arguments of the model.
    (run / "manifest.jsonl").unlink()  # with it, what is changed by hand is refused as such
    config = json.loads((run / "config.json").read_text())
    config["model"] |= {"sources": None, "drop_history": 0.1}
    (run / "config.json").write_text(json.dumps(config))
    np.testing.assert_array_equal(predictions(load_script, run), first)
    # What it was fitted on stands with it: forests would take other columns in silence.
    names = json.loads((run / "features.json").read_text())["names"]
    assert len(names) == len(set(names)) and {"textual component 1", "published: hour"} <= set(names)
    (run / "features.json").write_text(json.dumps({"names": names[::-1]}))
    with refused("RetrievalBoost: fitted on .* features, given .*; train anew"):
        predictions(load_script, run)
    (run / "features.json").write_text(json.dumps({"names": names}))
    # The same sources made anew with other neighbours are not those it was trained with.
    found = Neighbours.read(store, "textual")
    Neighbours(found.ids[:, ::-1].copy(), found.similarity, 6, "train", "tests", store.fingerprint).write(
        store, "textual"
    )
    with refused(r"textual\.npz: not the neighbours trained with"):
        predictions(load_script, run)


@pytest.mark.slow
def test_sources_and_ablations(tmp_path, load_script):
    store = store_of_creators(tmp_path)
    for flags, said in {
        ("--sources", "creator"): "labels: creator; ",
        ("--sources", "textual"): "labels: textual; ",
        ("--no_retrieval",): "",
        ("--components", 0): "labels: retrieval, textual, creator; ",
        ("--modalities", "textual"): "textual features",
    }.items():
        base = FAST if "--no_retrieval" not in flags else FAST[:2]
        run = trained(store, tmp_path / "runs", *base, "--trees", 20, *flags)
        log = (run / "log.txt").read_text()
        assert said in log and ("statistics" in log) is (flags != ("--no_retrieval",))
        assert np.isfinite(predictions(load_script, run)).all()
    refusals = {
        ("--sources", "visual"): r"neighbours/visual\.npz: no neighbours yet; make them with: .* --source visual",
        ("--num_of_retrieved_items", 7): r"holds 6 an item; .* --source retrieval --num_of_retrieved_items 7",
        ("--no_retrieval", "--sources", "creator"): "--sources does nothing with --no_retrieval",
        ("--resume", next((tmp_path / "runs").iterdir())): "is fitted in one go",
    }
    for flags, why in refusals.items():
        with refused(why):
            trained(store, tmp_path / "more", *(flags if flags[0] == "--resume" else (*FAST[:2], *flags)))


def test_in_the_comparison_and_in_folds(tmp_path, compare):
    store = store_of_creators(tmp_path, sizes={"train": 120, "valid": 20, "test": 20})
    row = "RB=RetrievalBoost --trees 10 --num_of_retrieved_items 6"
    assert (
        compare(store, tmp_path / "save", "--methods", "--row", row, "--reference", "RB", "--seeds", 1, "--folds", 2)
        == 0
    )
    fold = tmp_path / "save" / "tiny" / "creator_2" / "fold1"
    assert {path.name for path in (fold / "neighbours").iterdir()} == {"textual.npz", "manifest.jsonl"}
    assert "RB" in (fold.parent / "table.md").read_text()


def test_nothing_to_learn_from_is_said(tmp_path):
    store = store_of_creators(tmp_path, sizes={"train": 120, "valid": 20, "test": 20})
    with refused("no features, metadata or neighbours are left to learn from"):
        trained(store, tmp_path / "runs", *FAST[:2], "--no_retrieval", "--components", 0, "--modalities", "visual")


def test_features_that_are_no_numbers_are_named(tmp_path):
    store = store_of_creators(tmp_path, sizes={"train": 120, "valid": 20, "test": 20})
    path = store.folder / "textual.npy"
    values = np.load(path)
    values[7] = np.nan
    np.save(path, values)
    with refused(r"textual\.npy: .*NaN"):
        trained(store, tmp_path / "runs", *FAST)
