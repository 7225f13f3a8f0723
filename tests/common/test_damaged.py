"""Damaged and hostile bytes: each reader gives what was written, or one sentence that names the file; never more."""

from __future__ import annotations

import io
import json
import tracemalloc
import warnings
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tiny import make_store, refused

from baselines.comparison.results import read_predictions
from common.archives import HEADER, head_of
from common.cells import write_table
from common.console import InputError
from common.files import open_array, read_json, write_json
from dataloader.importing.feature_files import load_features
from dataloader.importing.video_files import read_named, write_named
from dataloader.neighbours import Neighbours
from dataloader.skipped import read_skipped, write_skipped
from engine.checkpoints import load_state, load_weights, save_state, save_weights
from engine.estimator import read_arrays
from engine.run import Run
from feature_engineering.decoding.captured import read_captured, write_captured
from feature_engineering.encoding.captions import read_captions, write_captions

IDS = np.array([f"v{number}" for number in range(6)], object)
ARRAY = np.random.default_rng(0).normal(size=(6, 5)).astype(np.float32)
RECORD = {"epoch": 1, "train_loss": 1.5, "valid": {"nMSE": 0.5}, "score": 0.5, "best_epoch": 1, "seconds": 0.1}


@dataclass(frozen=True)
class Kind:
    """A kind of file: its name, how it is written and read, and what is right of what was read."""

    name: str
    write: Callable[[Path], Any]
    read: Callable[[Path], Any]
    right: Callable[[Any], bool] = lambda found: True


def exactly(found) -> bool:
    return np.array_equal(found, ARRAY)


def of_shape(found) -> bool:
    return found.shape == ARRAY.shape and found.dtype.kind in "fiu" and bool(np.isfinite(found).all())


def features(path: Path) -> np.ndarray:
    return np.array(load_features(path, "textual", IDS))


def with_inner(name: str, content: bytes) -> bytes:
    """An archive whose check sums are right, whatever is in it."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr(name, content)
    return out.getvalue()


def array_in_archive(path: Path) -> np.ndarray:
    archive = path.with_suffix(".npz")
    archive.write_bytes(with_inner("features.npy", path.read_bytes()))
    return features(archive)


def pickle_in_archive(path: Path) -> np.ndarray:
    """What torch unpickles, in an archive whose check sums are right: the tensors are still those that are there."""
    whole, archive = io.BytesIO(), path.with_suffix(".pt")
    torch.save(torch.from_numpy(ARRAY), whole)
    with zipfile.ZipFile(whole) as old, zipfile.ZipFile(archive, "w") as new:
        for info in old.infolist():
            changed = info.filename.endswith("data.pkl")
            new.writestr(info.filename, path.read_bytes() if changed else old.read(info))
    return features(archive)


def write_pickle(path: Path) -> None:
    whole = io.BytesIO()
    torch.save(torch.from_numpy(ARRAY), whole)
    with zipfile.ZipFile(whole) as archive:
        path.write_bytes(next(archive.read(n) for n in archive.namelist() if n.endswith("data.pkl")))


def write_history(path: Path) -> None:
    Run(path.parent, {}).write_history([RECORD, RECORD | {"epoch": 2}])


def sound_history(records: list[dict]) -> bool:
    return [record["epoch"] for record in records] == list(range(1, len(records) + 1))


CAPTIONS = {"v1": ["a dog", "日本"], "v2": []}
KINDS = [
    Kind("f.npy", lambda path: np.save(path, ARRAY), features, of_shape),
    Kind("g.npz", lambda path: np.savez(path, features=ARRAY), features, exactly),
    Kind("h.npz", lambda path: np.savez_compressed(path, features=ARRAY, item_id=IDS.astype(str)), features, exactly),
    Kind("i.bin", lambda path: np.save(path.open("wb"), ARRAY), array_in_archive, of_shape),
    Kind("j.npz", lambda path: np.savez(path, a=ARRAY), lambda path: read_arrays(path, "x", ["a"])["a"], exactly),
    Kind("k.pt", lambda path: torch.save(torch.from_numpy(ARRAY), path), features, exactly),
    Kind("l.pkl", write_pickle, pickle_in_archive, of_shape),
    Kind(
        "m.pt", lambda path: torch.save(torch.from_numpy(ARRAY), path, _use_new_zipfile_serialization=False), features
    ),
    Kind("last.pt", lambda path: save_state(path, {"a": torch.from_numpy(ARRAY)}), lambda p: load_state(p, "cpu")),
    Kind("n.safetensors", lambda path: save_weights(path, {"a": torch.from_numpy(ARRAY)}), load_weights),
    Kind("history.jsonl", write_history, lambda path: Run(path.parent, {}).history(), sound_history),
    Kind(
        "o.json",
        lambda path: write_json(path, {"a": [1, {"b": "日"}]}),
        read_json,
        lambda found: isinstance(found, dict),
    ),
    Kind("skipped.csv", lambda path: write_skipped(path.parent, "a", {"=1": "b"}), lambda p: read_skipped(p.parent)),
    Kind("video_files.json", lambda p: write_named(p.parent, {"a": "b"}), lambda p: read_named(p.parent)),
    Kind("captured.jsonl", lambda path: write_captured(path, {"a": {"frames": 3}}), read_captured),
    Kind("captions.jsonl", lambda path: write_captions(path, CAPTIONS, {"encoder": {"name": "x"}}), read_captions),
]


@st.composite
def changes(draw) -> list[tuple]:
    """Where, as a share of the file, and what: a bit is turned, bytes are cut out, put in, copied or made extreme."""
    what = st.sampled_from(("bit", "cut", "in", "copy", "extreme"))
    one = st.tuples(what, st.floats(0, 1), st.floats(0, 1), st.binary(min_size=1, max_size=8))
    return draw(st.lists(one, min_size=1, max_size=4))


def changed(content: bytes, done: list[tuple]) -> bytes:
    data = bytearray(content)
    for what, here, there, new in done:
        place, other = int(here * len(data)), int(there * len(data))
        if what == "bit" and data:
            data[min(place, len(data) - 1)] ^= 1 << (new[0] % 8)
        elif what == "cut":
            del data[place : place + 1 + (other if new[0] < 32 else new[0] % 16)]
        elif what == "in":
            data[place:place] = new
        elif what == "copy":
            data[place : place + 8] = data[other : other + 8]
        elif what == "extreme":
            data[place : place + 4] = (b"\xff\xff\xff\xff", b"\0\0\0\0", b"((((", b"\xff\xff\xff\x7f")[new[0] % 4]
    return bytes(data)


def check(kind: Kind, path: Path) -> None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            found = kind.read(path)
    except InputError as error:
        assert path.stem in str(error) and "weights_only" not in str(error)
        return
    assert kind.right(found)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """Kind -> its file, and its bytes."""
    found = {}
    for kind in KINDS:
        path = tmp_path_factory.mktemp("damaged") / kind.name
        kind.write(path)
        assert kind.right(kind.read(path))  # as it was written it is read
        found[kind.name] = path, path.read_bytes()
    return found


def fuzz(kind: Kind, written, examples: int) -> None:
    path, content = written[kind.name]

    @settings(max_examples=examples, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(changes())
    def run(done):
        path.write_bytes(changed(content, done))
        check(kind, path)

    run()


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_damaged_bytes(kind, written):
    fuzz(kind, written, 10)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_many_damaged_bytes(kind, written):
    fuzz(kind, written, 400)


# ---- what damage seldom hits -------------------------------------------------------------------

HEADERS = [
    "{'descr': '<f4', 'fortran_order': False, 'shape': (-6, 5), }",
    "{'descr': '<f4', 'fortran_order': False, 'shape': (True, 30), }",
    "{'descr': '<f4', 'fortran_order': False, 'shape': (6, 5, }",
    "{'descr': '<f4', 'fortran_order': False, 'shape': (6, 5), ",
    "{'descr': '<f4, 'fortran_order': False, 'shape': (6, 5), }",
    "{'descr': '<f4', 'fortran_order': False, 'shape': (9999999999999999999999, 5), }",
    "{'descr': '<f4', 'fortran_order': False, 'shape': (6, 1000000000000), }",
    "{'descr': '|O', 'fortran_order': False, 'shape': (6, 5), }",
    "{'descr': '<U0', 'fortran_order': False, 'shape': (1000000000000,), }",
    "{'descr': ('<f4', (1000000000,)), 'fortran_order': False, 'shape': (6, 5), }",
    "{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (6, 5), }",
    "{'descr': '<f4', 'fortran_order': False, 'shape': (6, 4), }",  # of fewer values than there are
    "(" * 5000,
    "[" * 9000,
    "-" * 9000 + "1",
]


@pytest.mark.parametrize("said", HEADERS, ids=range(len(HEADERS)))
def test_headers_of_arrays(tmp_path, said):
    content = b"\x93NUMPY\1\0" + len(said).to_bytes(2, "little") + said.encode() + bytes(120)
    path, archive = tmp_path / "f.npy", tmp_path / "f.npz"
    path.write_bytes(content)
    archive.write_bytes(with_inner("features.npy", content))
    with refused("f.npy: truncated or not a .npy array"):
        open_array(path)
    with refused("f.npz: truncated or not an .npz archive of plain arrays"):
        features(archive)


def test_a_header_of_gigabytes_is_not_read():
    file = io.BytesIO(b"\x93NUMPY\2\0\xff\xff\xff\xff" + b" " * (4 * HEADER))
    with pytest.raises(ValueError, match="no header of an array"):
        head_of(file)
    assert file.tell() <= HEADER


def peak_of(work) -> int:
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_a_bomb_is_refused_before_it_is_read_and_rows_are_read_alone(tmp_path):
    """20 MB of zeros, which are 20 kB as a file: of other rows than there are items, and with ids, most of no item."""
    path, rows = tmp_path / "f.npz", 1_000_000
    np.savez_compressed(path, features=np.zeros((rows, 5), np.float32))
    assert path.stat().st_size < 10**5
    with refused("1000000 rows, but there are 6 items"):
        assert peak_of(lambda: features(path)) < 2 * 10**6
    ids = np.arange(50_000).astype("U6")
    values = np.zeros((50_000, 200), np.float32)
    values[:, 0] = np.arange(50_000)
    np.savez_compressed(path, features=values, item_id=ids)
    wanted, found = np.array(["7", "49999", "0"], object), []
    assert peak_of(lambda: found.append(load_features(path, "textual", wanted))) < 30 * 10**6  # of 40
    np.testing.assert_array_equal(found[0], values[[7, 49_999, 0]])


@pytest.mark.parametrize("packed", [False, True])
def test_archives_that_lie(tmp_path, packed):
    path = tmp_path / "f.npz"
    (np.savez_compressed if packed else np.savez)(path, features=ARRAY)
    content = path.read_bytes()
    at = content.index(b"PK\1\2")
    encrypted = content[:6] + b"\1" + content[7 : at + 8] + b"\1" + content[at + 9 :]
    larger = content[: at + 24] + b"\0\0\0\x7f" + content[at + 28 :]
    for one in (encrypted, larger):
        path.write_bytes(one)
        with refused("f.npz: truncated or not an .npz archive of plain arrays"):
            features(path)


def test_what_is_no_array_of_an_archive(tmp_path):
    path = tmp_path / "f.npz"
    path.write_bytes(with_inner("features.txt", b"text"))
    with refused("f.npz: truncated or not an .npz archive of plain arrays"):
        features(path)
    path.write_bytes(with_inner("features.npy", b"text"))
    with refused("f.npz: truncated or not an .npz archive of plain arrays"):
        features(path)
    with refused(r"f.npz: truncated or not the arrays of an X of this run"):
        read_arrays(path, "the arrays of an X")


def test_values_beyond_float32_are_said_without_a_warning(tmp_path):
    wide = ARRAY.astype(np.float64)
    wide[2, 1] = 1e300
    np.save(tmp_path / "f.npy", wide)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with refused(
            r"1 of 6 items have NaN or infinite values \(item ids v2\): its float64 values lie beyond float32"
        ):
            features(tmp_path / "f.npy")
        wide[2, 1] = np.inf
        np.save(tmp_path / "f.npy", wide)
        with refused(r"\(item ids v2\)$"):
            features(tmp_path / "f.npy")


@pytest.mark.parametrize(
    "changes",
    [
        {"similarity": np.full((104, 6), "0.5")},
        {"similarity": np.zeros((104, 6), "M8[s]")},
        {"similarity": np.zeros((104, 6), np.int64)},
        {"ids": np.zeros((104, 6))},
        {"meta": np.array("[" * 50_000)},
        {"meta": np.array('{"k": 6}')},
        {"meta": np.array("[1]")},
        {"meta": np.zeros(3)},
        {"k": True},
        {"k": 6.0},
        {"bank": ["train"]},
        {"known_by": {}},
    ],
    ids=str,
)
def test_neighbours(tmp_path, changes):
    store = make_store(tmp_path / "tiny")
    path = store.folder / "neighbours.npz"
    with np.load(path) as archive:
        arrays = dict(archive)
    meta = json.loads(str(arrays["meta"])) | {name: value for name, value in changes.items() if name not in arrays}
    arrays["meta"] = np.array(json.dumps(meta))
    np.savez(path, **(arrays | {name: value for name, value in changes.items() if name in arrays}))
    with refused(r"neighbours.npz: .*python retriever.py"):
        Neighbours.read(store)


def test_predictions_that_are_none(tmp_path):
    store = make_store(tmp_path / "tiny")
    ids, path = store.items.item_id[store.rows("test")], tmp_path / "predictions.csv"
    write_table(path, pd.DataFrame({"item_id": ids, "prediction": 1.0}))
    content = path.read_bytes()
    assert (read_predictions(path, store) == 1).all()
    for other in (b"\xff\xfe", b"", b"item_id,prediction\n", content.replace(b"1.0", b"9" * 400), content[:-9]):
        path.write_bytes(other)
        with refused("predictions.csv: "):
            read_predictions(path, store)
