"""Features are checked once a command: what is checked, when, and what the scripts that a command starts know of it."""

from __future__ import annotations

import os

import numpy as np
import pytest
from comparing import SMALL
from tiny import make_store

import dataloader.checks
from common.console import InputError
from dataloader.checks import checked
from dataloader.store import FeatureStore

pytest_plugins = ("comparing",)


@pytest.fixture
def nothing_checked(monkeypatch):
    """As in a command that has just been started."""
    monkeypatch.setattr(dataloader.checks, "_seen", {})


def break_in_secret(path) -> None:
    """One value becomes NaN; size and time of the file stay as they were."""
    before = path.stat()
    array = np.load(path, mmap_mode="r+")
    array[3] = np.nan
    array.flush()
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def test_a_comparison_reads_every_array_once(tmp_path, compare, monkeypatch, nothing_checked):
    """Three methods, two seeds, trained and tested: 12 commands, one check; with folds one of what is a fold's own."""
    store, read = make_store(tmp_path / "data" / "tiny"), []
    scan = dataloader.checks.scan
    monkeypatch.setattr(dataloader.checks, "scan", lambda array: read.append(array.shape) or scan(array))
    flags = ("--methods", "MMRA", "SVR", "TMALL", "--flags", f"MMRA: {SMALL}", "--flags", "TMALL: --epochs 1")
    assert compare(store, tmp_path / "save", *flags, "--seeds", 1, 2) == 0
    assert sorted(read) == sorted(store.features[name].shape for name in store.modalities)
    read.clear()
    assert compare(store, tmp_path / "save", *flags, "--folds", 2, "--folds_by", "random") == 0
    # The folds share the arrays that no train scales, so of these the retriever's alone are new, and read once.
    assert read == [store.features["retrieval"].shape]


@pytest.mark.slow
def test_what_a_command_has_checked_its_children_do_not(run, tmp_path, nothing_checked):
    """A child that is told of the file in its state trusts it; told of nothing, or of another state, it reads it."""
    store = make_store(tmp_path / "data" / "tiny")
    train = ["train.py", "--dataset_path", tmp_path / "data", "--dataset_id", "tiny", "--save", tmp_path / "runs"]
    train += ["--model_id", "TMALL", "--epochs", 1]
    store.check_features("visual", "textual")
    told = checked()
    break_in_secret(store.folder / "textual.npy")
    alone = run(*train)
    assert alone.returncode == 2 and "textual.npy: 1 of" in alone.stderr and "NaN" in alone.stderr
    child = run(*train, env=os.environ | told)
    assert "the loss became nan" in child.stderr  # It was not read for NaN before.
    os.utime(store.folder / "textual.npy")
    assert "textual.npy: 1 of" in run(*train, env=os.environ | told).stderr


def test_a_changed_file_is_checked_again_in_the_same_command(tmp_path, nothing_checked):
    store = make_store(tmp_path / "tiny")
    assert store.check_features("visual") == []
    array = np.load(tmp_path / "tiny" / "visual.npy")
    array[0] = np.nan
    np.save(tmp_path / "tiny" / "visual.npy", array)
    with pytest.raises(InputError, match="visual.npy: 1 of 104 items have NaN"):
        FeatureStore.open(tmp_path / "tiny").check_features("visual")
