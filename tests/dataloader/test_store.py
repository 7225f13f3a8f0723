"""FeatureStore: what it writes, what it refuses, and when its fingerprint changes."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tiny import make_store as full_store
from tiny import refused

from common.arrays import Derived, blocks
from common.console import InputError
from dataloader.describing import describe
from dataloader.description import Label
from dataloader.items import Items
from dataloader.store import FeatureStore

LABEL = Label(("loops",), "log2", 1)


def make_items(n: int = 6, label_dim: int = 1, predict: int = 0) -> Items:
    counts = np.arange(1.0, n * label_dim + 1).reshape(n, label_dim)
    split = np.array((["train"] * (n - 2) + ["valid", "test"])[: n - predict] + ["predict"] * predict, object)
    counts[split == "predict"] = np.nan
    ids = np.array([f"00{i}" for i in range(n)], object)
    return Items(ids, np.array([f"text {i} \u2028 é" for i in range(n)], object), counts, np.log2(counts + 1), split)


def make_store(folder, items=None, label=LABEL, dtype="float32", seed=0) -> FeatureStore:
    items = items or make_items()
    store = FeatureStore.create(folder, items, family="MicroLens", label=label, overwrite=True)
    generator = np.random.default_rng(seed)
    for name, shape in {"visual": (2, 3), "textual": (4,), "retrieval": (5,)}.items():
        with store.add_array(name, (len(items), *shape), dtype) as out:
            out[:] = generator.normal(size=out.shape)
    return store


@pytest.fixture
def folder(tmp_path):
    make_store(tmp_path / "set")
    return tmp_path / "set"


def content(folder) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_what_is_written_is_what_is_read(folder):
    store, items = FeatureStore.open(folder, need=("visual", "textual", "retrieval")), make_items()
    assert store.items.item_id.tolist() == items.item_id.tolist()
    assert store.items.text.tolist() == items.text.tolist()
    assert store.items.split.tolist() == items.split.tolist()
    assert np.array_equal(store.items.label, items.label) and np.array_equal(store.items.popularity, items.popularity)
    assert store.features["visual"].shape == (6, 2, 3) and isinstance(store.features["visual"], np.memmap)
    assert np.allclose(store.label.inverse(items.label), items.popularity)
    names = {"items.parquet", "visual.npy", "textual.npy", "retrieval.npy", "dataset.json", "manifest.jsonl"}
    assert set(content(folder)) == names


def test_float16_two_targets_and_items_without_label(tmp_path):
    items = make_items(label_dim=2, predict=2)
    make_store(tmp_path / "set", items, replace(LABEL, names=("loops", "likes")), dtype="float16")
    store = FeatureStore.open(tmp_path / "set")
    assert store.items.label_dim == 2 and store.features["visual"].dtype == np.float16
    assert np.array_equal(store.items.label, items.label, equal_nan=True)
    assert store.rows("predict").tolist() == [4, 5]
    assert "label likes" in describe(store) and "2 items without a label" in describe(store)


def origin_of(n: int) -> dict[str, np.ndarray]:
    times = np.datetime64("2020-01-01", "us") + np.arange(n) * np.timedelta64(1, "D")
    times[1] = np.datetime64("NaT")
    return {"user": np.array(["é", "", "b", "b", "é", "b"], object), "time": times, "label_time": times[::-1].copy()}


def test_creators_and_times_are_kept_and_change_the_fingerprint(tmp_path):
    plain, origin = make_items(), origin_of(6)
    items = replace(plain, **origin)
    make_store(tmp_path / "set", items)
    read = FeatureStore.open(tmp_path / "set").items
    for name, values in origin.items():
        np.testing.assert_array_equal(getattr(read, name), values)
    kept = FeatureStore.open(tmp_path / "set").keep(np.arange(6) != 2).items
    assert kept.user.tolist() == ["é", "", "b", "é", "b"] and kept.time[2] == origin["time"][3]
    digests = {items.digest(), plain.digest()}
    for name, values in origin.items():
        digests.add(replace(items, **{name: values[::-1].copy()}).digest())
    digests.add(replace(items, user=np.array(["é", "b", "", "b", "é", "b"], object)).digest())
    assert len(digests) == 6


def test_a_data_set_of_before_these_columns_opens(tmp_path):
    """items.parquet without them, and a digest that does not know them: what the version before wrote."""
    assert make_items().digest() == "ca7c32d072fb609a6f164ae438ec4dae43fe48d1794020f1f9d6b4f30fa52d54"
    make_store(tmp_path / "set")
    path = tmp_path / "set" / "items.parquet"
    assert pq.read_table(path).column_names == ["item_id", "text", "popularity", "label", "split"]
    items = FeatureStore.open(tmp_path / "set").items
    assert items.origin == () and set(items.user) == {""} and np.isnat(items.label_time).all()


def test_a_column_of_origin_of_another_type_is_refused(tmp_path):
    make_store(tmp_path / "set")
    path = tmp_path / "set" / "items.parquet"
    pq.write_table(pq.read_table(path).append_column("time", pa.array([1.5] * 6)), path)
    with pytest.raises(InputError, match=r"items.parquet: a column has the wrong type \(time is double, expected"):
        FeatureStore.open(tmp_path / "set")


def test_describe_says_who_is_in_train_too_and_when(tmp_path):
    origin = origin_of(6)
    store = make_store(tmp_path / "set", replace(make_items(), **origin))
    text = describe(store)
    assert (
        "train: 2 creators of 3 of 4 videos; published 2020-01-01T00:00:00 to 2020-01-04T00:00:00 (1 unknown)" in text
    )
    assert "valid: 1 creators of 1 of 1 videos, 1 of them in train too, with 1 videos here; published" in text
    assert "counted 2020-01-06" not in describe(make_store(tmp_path / "set", make_items()))


def test_describe_from_the_command_line(run, folder):
    done = run("-m", "dataloader.store", folder)
    assert (done.returncode, done.stderr) == (0, "")
    for expected in ("6 items", "train 4, valid 1, test 1, predict 0", "visual: 6 x 2 x 3 float32", "median"):
        assert expected in done.stdout


def test_missing_data_set_from_the_command_line(run, tmp_path):
    done = run("-m", "dataloader.store", tmp_path / "nothing")
    assert done.returncode == 2 and done.stdout == ""
    assert len(done.stderr.splitlines()) == 1 and "data/import_features.py" in done.stderr


def test_describe_tells_a_changed_array_and_an_all_zero_item(folder):
    array = np.load(folder / "textual.npy")
    array[2] = 0
    np.save(folder / "textual.npy", array)
    text = describe(FeatureStore.open(folder))
    assert "NOT the array that was written" in text and "1 all-zero items" in text


# ---- what opening refuses ----------------------------------------------------------------------


def truncate(path):
    path.write_bytes(path.read_bytes()[:-8])


def rewrite_items(folder, column, values):
    path = folder / "items.parquet"
    table = pq.read_table(path)
    place = table.column_names.index(column)
    pq.write_table(table.set_column(place, column, pa.array(values)), path)


BREAKAGES = {
    "truncated array": (lambda f: truncate(f / "visual.npy"), "visual.npy: truncated"),
    "no array file": (lambda f: (f / "visual.npy").unlink(), "visual.npy: no such file"),
    "rows": (lambda f: np.save(f / "visual.npy", np.zeros((5, 2, 3), "f4")), "5 rows, but items.parquet has 6"),
    "axes": (lambda f: np.save(f / "visual.npy", np.zeros((6, 3), "f4")), "shape (6, 3), expected 3 axes"),
    "float64": (lambda f: np.save(f / "textual.npy", np.zeros((6, 4))), "float64 values, expected float32 or float16"),
    "another width": (lambda f: np.save(f / "textual.npy", np.zeros((6, 7), "f4")), "not the array that dataset.json"),
    "objects": (lambda f: np.save(f / "textual.npy", np.array([{}] * 6)), "textual.npy: truncated or not a .npy"),
    "empty json": (lambda f: (f / "dataset.json").write_text(""), "dataset.json: not a JSON file"),
    "json list": (lambda f: (f / "dataset.json").write_text("[]"), "a JSON object was expected, found list"),
    "json of something else": (lambda f: (f / "dataset.json").write_text("{}"), "not a dataset.json of format 1"),
    "deep json": (lambda f: (f / "dataset.json").write_text("[" * 10**5), "dataset.json: not a JSON file"),
    "binary json": (lambda f: (f / "dataset.json").write_bytes(b"\xff\xfe\x00"), "dataset.json: not a JSON file"),
    "no items": (lambda f: (f / "items.parquet").unlink(), "items.parquet: no such file"),
    "truncated items": (lambda f: truncate(f / "items.parquet"), "items.parquet: truncated or not a Parquet file"),
    "edited text": (lambda f: rewrite_items(f, "text", list("abcdef")), "it is not the table that dataset.json"),
    "edited ids": (lambda f: rewrite_items(f, "item_id", list("aabcde")), "1 duplicate item ids (a)"),
    "edited split": (lambda f: rewrite_items(f, "split", ["dev"] * 6), "6 items of an unknown split (dev; known"),
    "no label": (lambda f: rewrite_items(f, "label", [1.0, None, 2, 3, 4, 5]), "without a finite label (001)"),
    "a text as label": (lambda f: rewrite_items(f, "label", list("abcdef")), "a column has the wrong type"),
}


@pytest.mark.parametrize("name", BREAKAGES)
def test_a_broken_store_is_refused_by_name(folder, name):
    breakage, message = BREAKAGES[name]
    breakage(folder)
    with pytest.raises(InputError) as caught:
        FeatureStore.open(folder)
    assert message in str(caught.value) and str(folder) in str(caught.value)


@pytest.mark.parametrize("key", ["format", "family", "label", "items", "arrays"])
@pytest.mark.parametrize("value", [None, 7, "x", [], {}, {"visual": 3}])
def test_a_garbled_dataset_json_is_refused(folder, key, value):
    info = json.loads((folder / "dataset.json").read_text())
    (folder / "dataset.json").write_text(json.dumps({**info, key: value}))
    (folder / "manifest.jsonl").unlink()  # with it, all that was changed by hand is refused
    if (key, value) == ("arrays", {}):
        assert FeatureStore.open(folder).features == {}
        return
    with pytest.raises(InputError):
        FeatureStore.open(folder)


def test_a_missing_array_names_the_command_that_makes_it(tmp_path):
    FeatureStore.create(tmp_path / "set", make_items(), family="NUS", label=LABEL)
    with refused(r"no visual and no textual features yet.*visual_engineering.py --dataset_path .* --dataset_id set"):
        FeatureStore.open(tmp_path / "set", need=("visual", "textual"))


def test_an_empty_split_says_what_there_is(folder):
    with pytest.raises(InputError, match=r"split predict is empty .train 4, valid 1, test 1, predict 0."):
        FeatureStore.open(folder).rows("predict")


def test_nan_is_named_with_counts_and_first_ids(folder):
    array = np.load(folder / "textual.npy")
    array[[1, 4], [0, 3]] = np.nan, np.inf
    np.save(folder / "textual.npy", array)
    with pytest.raises(InputError, match=r"textual.npy: 2 of 6 items have NaN or infinite values .item ids 001, 004."):
        FeatureStore.open(folder).check_features("visual", "textual")


def test_a_data_set_made_anew_takes_its_own_files_along_and_no_others(folder):
    store = FeatureStore.open(folder)
    with store.add_array("sound", (6, 2), "float32") as out:
        out[:] = 1
    np.save(folder / "mine.npy", np.ones(3))
    FeatureStore.create(folder, make_items(), family="NUS", label=LABEL, overwrite=True)
    assert {path.name for path in folder.glob("*.npy")} == {"mine.npy"}


def test_a_saturating_scale_is_warned_of(folder):
    store = FeatureStore.open(folder)
    assert store.check_features("visual", "textual") == []
    with store.add_array("textual", (6, 4), "float32", overwrite=True) as out:
        out[:] = 500
    (warning,) = store.check_features("visual", "textual")
    assert "textual.npy" in warning and "--normalise textual=standard" in warning


# ---- writing -----------------------------------------------------------------------------------


def test_a_failed_write_leaves_the_old_files_untouched(folder):
    before, store = content(folder), FeatureStore.open(folder)
    with pytest.raises(InputError, match="exists; --overwrite"), store.add_array("visual", (6, 2, 3), "float32"):
        raise AssertionError("not reached")
    with pytest.raises(InputError, match=r"not written: 1 of 6 items have NaN .*\(item ids 003\)"):  # noqa: SIM117
        with store.add_array("visual", (6, 2, 3), "float32", overwrite=True) as out:
            out[3] = np.nan
    with pytest.raises(KeyboardInterrupt), store.add_array("visual", (6, 2, 3), "float32", overwrite=True) as out:
        out[:2] = 1
        raise KeyboardInterrupt
    bad = replace(make_items(), item_id=np.array(["a"] * 6, object))
    with pytest.raises(InputError, match="5 duplicate item ids"):
        FeatureStore.create(folder, bad, family="NUS", label=LABEL, overwrite=True)
    with pytest.raises(InputError, match="a data set is here already"):
        FeatureStore.create(folder, make_items(), family="NUS", label=LABEL)
    assert content(folder) == before


def test_overwriting_leaves_nothing_of_the_old_data_set(folder):
    (folder / "neighbours.npz").write_bytes(b"old")
    FeatureStore.create(folder, make_items(8), family="NUS", label=LABEL, overwrite=True)
    assert set(content(folder)) == {"items.parquet", "dataset.json", "manifest.jsonl"}


PROBLEMS = {
    "duplicate item ids (001)": {"item_id": ["001", "001", "2", "3", "4", "5"]},
    "1 empty item ids (rows 2)": {"item_id": ["0", "1", "", "3", "4", "5"]},
    "items of an unknown split (dev; known: train, valid, test, predict)": {"split": ["dev", *["train"] * 5]},
    "1 items with a negative or infinite count (002)": {"popularity": np.array([[1.0], [1], [-1], [1], [1], [1]])},
    "infinite labels (000)": {"label": np.array([[np.inf], [1], [1], [1], [1], [1]])},
    "1 items of split train without a finite label (001)": {"label": np.array([[1], [np.nan], [1], [1], [1], [1]])},
}


def test_overwriting_leaves_nothing_of_an_interrupted_replacement(tmp_path, monkeypatch):
    old = make_store(tmp_path / "data", make_items(12))
    (old.folder / "skipped.csv").write_text("item_id,stage,reason\n")
    with monkeypatch.context() as patch:
        patch.setattr(FeatureStore, "open", lambda folder: None)  # killed before the new files are put into place
        old.keep(np.arange(12) > 3)
    assert (old.folder / "dataset.json.next").exists()
    FeatureStore.create(old.folder, make_items(7), family="NUS", label=LABEL, overwrite=True)
    assert len(FeatureStore.open(old.folder)) == 7 and not (old.folder / "skipped.csv").exists()


def test_a_data_set_goes_on_with_the_items_it_was_made_of_alone(tmp_path, capsys):
    def start(items, **change) -> FeatureStore:
        settings = {"family": "MicroLens", "label": LABEL, "overwrite": False} | change
        store = FeatureStore.create_or_continue(tmp_path / "data", items, **settings)
        store.finish()
        return store

    start(make_items()).keep(np.arange(6) > 0)  # as a later step does with an item that it cannot use
    assert capsys.readouterr().out == ""
    assert len(start(make_items())) == 5 and "going on with it" in capsys.readouterr().out
    others = [
        (make_items(7), {}),
        (make_items(), {"family": "NUS"}),
        (make_items(), {"label": replace(LABEL, offset=2)}),
    ]
    for items, change in others:
        with pytest.raises(InputError, match=r"other items or labels is here already; --overwrite replaces it"):
            start(items, **change)
    assert len(start(make_items(7), overwrite=True)) == 7


def test_all_problems_of_the_items_come_together():
    for message, change in PROBLEMS.items():
        changed = {key: np.array(value, object) if isinstance(value, list) else value for key, value in change.items()}
        assert message in "; ".join(replace(make_items(), **changed).problems()), message
    several = {
        "item_id": np.array(["a"] * 6, object),
        "split": np.array(["x"] * 6, object),
        "popularity": -np.ones((6, 1)),
    }
    assert len(replace(make_items(), **several).problems()) == 3
    assert make_items().problems() == []


# ---- the fingerprint ---------------------------------------------------------------------------


def test_the_fingerprint_changes_with_the_content_and_only_with_it(tmp_path):
    def fingerprint(items=None, **options):
        make_store(tmp_path / "set", items, **options)
        return FeatureStore.open(tmp_path / "set").fingerprint

    same, items = fingerprint(), make_items()
    pq.write_table(pq.read_table(tmp_path / "set/items.parquet"), tmp_path / "set/items.parquet", compression="zstd")
    assert FeatureStore.open(tmp_path / "set").fingerprint == same  # written differently, the same content
    assert fingerprint() == same
    changes = {
        "text": np.array(["other", *items.text[1:]], object),
        "item_id": np.array(["other", *items.item_id[1:]], object),
        "split": np.array(["valid", *items.split[1:]], object),
        "label": items.label + 1,
        "popularity": items.popularity + 1,
    }
    prints = {fingerprint(replace(items, **{name: value})) for name, value in changes.items()}
    prints |= {fingerprint(seed=1), fingerprint(dtype="float16"), fingerprint(label=replace(LABEL, offset=0))}
    assert len(prints | {same}) == 9


def test_shifting_a_character_between_texts_changes_the_digest():
    items = make_items(2)
    texts = [np.array(pair, object) for pair in (["ab", "c"], ["a", "bc"], ["", "abc"])]
    assert len({replace(items, text=text).digest() for text in texts}) == 3


def test_two_scripts_that_add_features_at_once_keep_both(tmp_path):
    """Each opened the store before the other wrote: encoding images and texts side by side."""
    store = full_store(tmp_path / "tiny", k=None)
    bare = FeatureStore.create(tmp_path / "bare", store.items, family="NUS", label=store.label)
    other = FeatureStore.open(bare.folder)
    for one, name in ((bare, "textual"), (other, "visual")):
        array = store.features[name]
        with one.add_array(name, array.shape, "float32") as out:
            out[:] = array
    both = FeatureStore.open(bare.folder, need=("visual", "textual"))
    both.check_features("visual", "textual")
    replaced = FeatureStore.open(bare.folder)
    others = replace(store.items, text=store.items.text + " and more")
    FeatureStore.create(bare.folder, others, family="NUS", label=store.label, overwrite=True)
    with (
        pytest.raises(InputError, match="its items were replaced meanwhile; visual belongs to the old ones"),
        replaced.add_array("visual", store.features["visual"].shape, "float32", overwrite=True) as out,
    ):
        out[:] = store.features["visual"]


def test_opening_reads_no_features(tmp_path, monkeypatch):
    """The arrays come as memory maps: nothing is loaded, and what lies in them is not looked at."""
    folder = full_store(tmp_path / "tiny", k=None).folder
    monkeypatch.setattr("dataloader.store.scan", None)
    monkeypatch.setattr("dataloader.store.digest", None)
    store = FeatureStore.open(folder)
    assert all(isinstance(array, np.memmap) for array in store.features.values())


def test_derived_rows_are_read_in_blocks_that_count_what_they_are_made_of(monkeypatch):
    frames = np.random.default_rng(0).standard_normal((50, 100, 64)).astype(np.float32)  # (N, F, D)
    read = []

    def mean(rows: slice) -> np.ndarray:
        read.append(frames[rows].nbytes)
        return frames[rows].mean(axis=1)

    monkeypatch.setattr("common.arrays.BLOCK_BYTES", 8 * 64 * 100 * 7)  # 7 videos at a time
    made = Derived((50, 64), 100 * 64, mean)
    found = np.concatenate([made[rows] for rows in blocks(made)])
    np.testing.assert_array_equal(found, frames.mean(axis=1))
    assert max(read) == frames[:7].nbytes and len(made) == 50
