"""What is worse than the mean of train, or than the neighbours' labels, says so, on the screen and in files."""

from __future__ import annotations

import json

import numpy as np
import pytest
from tiny import make_store, predictions, trained

from dataloader.neighbours import Neighbours
from dataloader.yardsticks import TEMPERATURES, neighbour_labels, yardsticks
from engine.metrics import measure
from engine.yardsticks import shortfalls


def test_a_network_that_has_not_learned_is_told_of(tmp_path, load_script, capsys):
    store = make_store(tmp_path / "tiny", label=lambda labels, split: labels + 20)  # far from what it begins with
    run = trained(store, tmp_path / "runs", "--epochs", 1, "--num_of_retrieved_items", 5)
    log = (run / "log.txt").read_text()
    for split, said in (("valid", log), ("test", None)):
        if said is None:
            capsys.readouterr()
            predictions(load_script, run)
            said = capsys.readouterr().out
        for name in ("the mean of split train", "the mean of its neighbours' labels"):
            assert f"warning: worse than {name} on split {split}: nMSE " in said
    warnings = json.loads((run / "metrics.json").read_text())["warnings"]
    assert sum("worse than" in warning for warning in warnings) == 2


def test_a_method_that_learns_is_not(tmp_path, load_script):
    store = make_store(tmp_path / "tiny", sizes={"train": 400, "valid": 60, "test": 60}, k=None)
    run = trained(store, tmp_path / "runs", "--model_id", "SVR")
    predictions(load_script, run)
    assert "worse than" not in (run / "log.txt").read_text()
    assert "warnings" not in json.loads((run / "metrics.json").read_text())


def test_the_bounds_are_those_of_the_rows_of_the_table(tmp_path):
    store = make_store(tmp_path / "tiny", label_dim=2)
    rows, truth = store.rows("test"), store.items.label[store.rows("test")]
    mean = np.tile(store.items.label[store.rows("train")].mean(axis=0), (len(rows), 1))
    near = neighbour_labels(store, Neighbours.read(store), TEMPERATURES)[0](rows)
    for prediction, others in ((mean, [near]), (near, [mean])):
        own = measure(prediction, truth)["nMSE"]
        worse = shortfalls(yardsticks(store, rows), "test", prediction, truth, store.label)
        assert len(worse) == sum(own > measure(other, truth)["nMSE"] for other in others)
        for line in worse:
            assert float(line.split("nMSE ")[1].split(",")[0]) == pytest.approx(own, abs=1e-4)
    assert shortfalls(yardsticks(store, rows), "test", truth, truth, store.label) == []
