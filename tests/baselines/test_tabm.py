"""TabM from outside: what it learns from, with neighbours' labels and without, and what it refuses."""

from __future__ import annotations

import json

import numpy as np
import torch
from tiny import creators_mean, nmse, predictions, refused, store_of_creators, trained

from baselines import recipe
from dataloader.metadata import Metadata
from dataloader.opening import open_data
from dataloader.store import FeatureStore
from engine.run import Run
from model.TabM import TabM

pytest_plugins = ("comparing",)
FAST = ("--model_id", "TabM", "--feature_dim", 16, "--ensemble", 4, "--lr", 1e-2, "--batch_size", 64)


def test_it_learns_from_creators_and_is_not_fooled_by_its_own_labels(tmp_path, load_script):
    """Labels are the creator's effect and noise: (S - y) / (n - 1) would give train's own labels back."""
    store = store_of_creators(tmp_path, label=lambda effect, noise: 10 + effect + noise)
    run = trained(store, tmp_path / "runs", *FAST, "--epochs", 8)
    best = min(json.loads(line)["score"] for line in (run / "history.jsonl").read_text().splitlines())
    by_creator = nmse(store, "valid", creators_mean(store, store.rows("valid")))
    assert by_creator < 0.4 and best < 1.25 * by_creator
    assert nmse(store, "test", predictions(load_script, run)) < 1.3 * by_creator
    log, config = (run / "log.txt").read_text(), Run.open(run, "").config
    assert "\nstatistics of neighbours' labels: retrieval, textual, creator\n" in log
    assert "visual, textual, metadata features" in log and "target0 of retrieval neighbours, weighted" in log
    assert set(config["sources"]) == {"retrieval", "textual"} and config["creators"] is True


def test_without_neighbours_it_sees_none_of_their_labels(tmp_path, load_script):
    store = store_of_creators(tmp_path, metadata=Metadata({"column": np.arange(905.0)}), label_dim=2)
    flags = (*FAST, "--epochs", 2, "--no_retrieval")
    run = trained(store, tmp_path / "runs", *flags)
    log = (run / "log.txt").read_text()
    wording = ", ".join(f"target{t} by the wording of its text" for t in range(2))
    assert f"3 features made of columns: column, {wording}\n" in log and "statistics" not in log
    first = predictions(load_script, run)
    assert first.shape == (150, 2)
    np.testing.assert_array_equal(predictions(load_script, trained(store, tmp_path / "again", *flags)), first)
    for flag, value in {"sources": "creator", "drop_history": 0.1, "num_of_retrieved_items": 3}.items():
        with refused(f"--{flag} does nothing with --no_retrieval"):
            trained(store, tmp_path / "more", *flags, f"--{flag}", value)
    assert not (tmp_path / "more").exists()
    alone = trained(store, tmp_path / "runs", *flags, "--modalities", "textual")
    assert (
        f"2 features made of columns: {wording}\n" in (alone / "log.txt").read_text()
        and np.isfinite(predictions(load_script, alone)).all()
    )


def test_members_are_trained_each_by_itself_and_averaged(tmp_path):
    torch.manual_seed(0)
    store = store_of_creators(tmp_path, sizes={"train": 120, "valid": 20, "test": 20})
    settings = {flag: f.default for flag, f in recipe("TabM").flags().items()} | {"model_id": "TabM"}
    data = open_data(FeatureStore.open(store.folder), recipe("TabM").wants(settings), ["valid"])
    network = TabM(shapes=data.shapes, label_dim=1, numbers=data.encoding.numbers, feature_dim=8, dropout=0.0)
    batch = next(data.splits["valid"].batches(20, torch.device("cpu")))
    each = network(batch)
    assert each.shape == (32, 20, 1) and each.std(dim=0).min() > 0
    torch.testing.assert_close(network.eval()(batch), each)


def test_in_the_comparison_and_in_folds(tmp_path, compare):
    store = store_of_creators(tmp_path, sizes={"train": 120, "valid": 20, "test": 20})
    row = f"rival=TabM {' '.join(map(str, FAST[2:]))} --epochs 2"
    flags = ("--methods", "--row", row, "--reference", "rival", "--seeds", 1, "--folds", 2)
    assert compare(store, tmp_path / "save", *flags) == 0
    assert "rival" in (tmp_path / "save" / "tiny" / "creator_2" / "table.md").read_text()
