"""`python -m dataloader.store <folder> --audit` on data sets whose every leak is known, because it was put there."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from conftest import ROOT
from tiny import make_store

from dataloader.audit import audit, audit_line
from dataloader.metadata import Metadata
from dataloader.neighbours import Neighbours
from dataloader.search.exact import search
from dataloader.store import FeatureStore


def leaky(tmp_path) -> FeatureStore:
    """Of 104 items: 3 equal texts, 2 near-equal vectors, 4 shared creators, times, and metadata of every kind."""
    rng = np.random.default_rng(7)  # another than make_store draws its splits with
    plain = make_store(tmp_path / "tiny", k=None)
    n, items = len(plain), plain.items
    train, held = items.rows("train"), np.concatenate([items.rows("valid"), items.rows("test")])
    text, user = items.text.copy(), np.array([f"u{i}" for i in range(n)], object)
    text[held[:3]] = text[train[:3]]
    user[held[:4]] = user[train[:4]]
    time = np.datetime64("2024-01-01", "us") + rng.permutation(n) * np.timedelta64(1, "h")
    items = replace(items, text=text, user=user, time=time)
    arrays = {name: np.array(array) for name, array in plain.features.items()}
    arrays["textual"][held[:2]] = 2 * arrays["textual"][train[5:7]] + 1e-5
    store = FeatureStore.create(plain.folder, items, family="MicroLens", label=plain.label, overwrite=True)
    for name, array in arrays.items():
        with store.add_array(name, array.shape, array.dtype.name) as out:
            out[:] = array
    label = np.nan_to_num(items.label[:, 0])
    columns = {"like_count": label + rng.normal(0, 0.1, n), "noise": rng.normal(0, 1, n)}
    columns |= {"empty": np.full(n, np.nan), "same": np.full(n, "US", object)}
    store.add_metadata(Metadata(columns), consequences=["like_count"])
    found = search(store.features["retrieval"], store.rows("train"), 6)
    Neighbours(*found, 6, "train", "tests", store.fingerprint).write(store)
    return store


def test_each_leak_is_counted_and_three_are_named(tmp_path):
    store = leaky(tmp_path)
    said, items = audit(store), store.items
    held = np.concatenate([items.rows("valid"), items.rows("test")])
    ids = Neighbours.read(store).ids
    older = sum(any(items.time[other] > items.time[row] for other in ids[row]) for row in held)
    for line in (
        "3 items of valid and test have a text that stands in train too",
        "4 of 40 items of valid and test are of 4 creators who are in train too",
        f"{older} of 40 items of valid and test have neighbours that were published after they were published",
        "1 metadata columns are called as counts made after publication\n  like_count",
        "1 metadata columns explain half of the label's variance on split valid alone, or more\n  like_count: ",
        "1 metadata columns have nothing in them\n  empty",
        "1 metadata columns are the same for every item\n  same",
        "2 items of valid and test have textual features nearly equal to those of one in train",
    ):
        assert line in said, said
    assert "noise" not in said and "counted after they" not in said
    blocks = said.split("audit of ")[1].splitlines()[1:]
    runs = "".join("." if line.startswith("  ") else "|" for line in blocks).strip("|").split("|")
    assert all(1 <= len(run) <= 3 for run in runs)
    row, other = held[0], store.rows("train")[0]
    assert f"{items.item_id[row]} (valid) and {items.item_id[other]} (train)" in said


def test_a_clean_data_set_has_nothing_to_tell(tmp_path):
    store = make_store(tmp_path / "tiny")
    assert audit(store).endswith("nothing found") and audit_line(store) == "audit: nothing found"


@pytest.mark.slow
def test_from_outside(tmp_path):
    store = leaky(tmp_path)

    def run(*flags: str) -> str:
        words = [sys.executable, "-m", "dataloader.store", str(store.folder), *flags]
        done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout

    assert run("--audit") == audit(store) + "\n"
    assert run().splitlines()[-1] == audit_line(store) and "--audit names some" in audit_line(store)
