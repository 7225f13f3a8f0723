"""match_image_feature_to_video_item.py: features of single pictures, in every file format, against a plain loop."""

from __future__ import annotations

import csv

import numpy as np
import pandas as pd
import pytest
from bare import bare_store, call
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from common.console import InputError
from dataloader.skipped import read_skipped
from dataloader.store import FeatureStore
from feature_engineering import match_image_feature_to_video_item as script
from feature_engineering.decoding.naming import frame_name, item_and_number

IDS, FRAMES, DIM = ("a", "b_1", "c"), 3, 4


def names_and_features(leave_out=()) -> tuple[list[str], np.ndarray]:
    names = [f"{item}_{k}.jpg" for item in (*IDS, "stranger") for k in range(FRAMES)]
    features = np.random.default_rng(0).standard_normal((len(names), DIM)).astype(np.float32)
    order = np.random.default_rng(1).permutation(len(names))
    kept = [i for i in order if names[i] not in leave_out]
    return [names[i] for i in kept], features[kept]


def write(path, names, features):
    if path.suffix == ".npz":
        np.savez(path, names=np.array(names), features=features)
    elif path.name.startswith("lists"):
        pd.DataFrame({"name": names, "vector": list(features)}).to_parquet(path)
    elif path.suffix == ".parquet":
        pd.DataFrame(features, columns=[f"f{i}" for i in range(DIM)]).assign(name=names).to_parquet(path)
    else:
        with path.open("w", newline="") as file:
            writer = csv.writer(file, delimiter="\t" if path.suffix == ".tsv" else ",")
            writer.writerows(
                [["name", *range(DIM)], *([n, *map(repr, map(float, f))] for n, f in zip(names, features, strict=True))]
            )
    return path


@pytest.mark.parametrize("file", ["table.npz", "lists.parquet", "columns.parquet", "table.csv", "table.tsv"])
def test_every_format_gives_the_same_features(tmp_path, file, capsys):
    bare_store(tmp_path, IDS)
    names, features = names_and_features()
    store = call(script, tmp_path, "--table", write(tmp_path / file, names, features))
    for row, item in enumerate(IDS):
        for k in range(FRAMES):
            np.testing.assert_allclose(
                store.features["visual"][row, k], features[names.index(f"{item}_{k}.jpg")], rtol=1e-6
            )
    said = capsys.readouterr().out
    assert "9 frames of 3 items; 0 are missing (0 items lack some, 0 all); 3 rows are of no item" in said
    assert store.description.features["visual"].made["source"] == file


def test_a_finished_command_typed_again_says_so_and_another_table_is_refused(tmp_path, capsys):
    bare_store(tmp_path, IDS)
    names, features = names_and_features()
    table = write(tmp_path / "table.npz", names, features)
    made = call(script, tmp_path, "--table", table).description.features["visual"]
    assert call(script, tmp_path, "--table", table, "--frame_num", 3).description.features["visual"] == made
    assert "made already, nothing is to be done" in capsys.readouterr().out
    for changes, said in ((("--frame_num", 2), "frame_num 3, now 2"), (("--normalise", "l2"), "none, now l2")):
        with pytest.raises(InputError, match=said):
            call(script, tmp_path, "--table", table, *changes)
    write(table, names, features + 1)
    with pytest.raises(InputError, match="other visual features are here already .content"):
        call(script, tmp_path, "--table", table)
    assert FeatureStore.open(tmp_path / "set").description.features["visual"] == made
    assert call(script, tmp_path, "--table", table, "--overwrite").description.features["visual"] != made


@pytest.mark.parametrize(
    ("policy", "on_error"), [("repeat", "skip"), ("zero", "skip"), ("lose", "skip"), ("repeat", "zero")]
)
def test_missing_frames_are_counted_and_handled_by_policy(tmp_path, policy, on_error, capsys):
    bare_store(tmp_path, IDS)
    names, features = names_and_features(["a_0.jpg", "a_2.jpg", "c_0.jpg", "c_1.jpg", "c_2.jpg"])
    table = write(tmp_path / "t.npz", names, features)
    store = call(script, tmp_path, "--table", table, "--missing_frames", policy, "--on_error", on_error)
    assert "5 are missing (1 items lack some, 1 all)" in capsys.readouterr().out
    lost = {"lose": ["a", "c"]}.get(policy, ["c"])
    assert [row["item_id"] for row in read_skipped(tmp_path / "set")] == lost
    kept = [item for item in IDS if item not in lost or on_error == "zero"]
    assert store.items.item_id.tolist() == kept
    there, zero = features[names.index("a_1.jpg")], np.zeros(DIM)
    if policy == "repeat":
        np.testing.assert_array_equal(store.features["visual"][0], [there] * 3)
    if policy == "zero":
        np.testing.assert_array_equal(store.features["visual"][0], [zero, there, zero])
    if on_error == "zero":
        assert not store.features["visual"][2].any()


@given(
    st.integers(1, 5).flatmap(
        lambda f: st.lists(st.lists(st.sampled_from([-1, 3, 7]), min_size=f, max_size=f), min_size=1, max_size=4)
    )
)
def test_repeating_is_what_a_loop_does(rows):
    rows = [row for row in rows if max(row) >= 0] or [[5]]
    expected = []
    for row in rows:
        last, line = next(v for v in row if v >= 0), []
        for value in row:
            last = value if value >= 0 else last
            line.append(last)
        expected.append(line)
    if len({len(row) for row in rows}) == 1:
        assert script.repeat_previous(np.array(rows)).tolist() == expected


@given(st.text(min_size=1).filter(lambda t: "\0" not in t), st.integers(0, 999))
def test_names_of_frames_read_back(item_id, number):
    assert item_and_number(frame_name(item_id, number).removesuffix(".jpg")) == (item_id, number)


def test_bad_tables_are_refused_in_one_line_and_nothing_is_written(tmp_path):
    bare_store(tmp_path, IDS)
    names, features = names_and_features()
    bad = features.copy()
    bad[2, 1] = np.nan
    cases = {
        "no such file": tmp_path / "none.npz",
        "must end in one of": write(tmp_path / "t.csv", names, features).rename(tmp_path / "t.txt"),
        "NaN or infinity": write(tmp_path / "nan.npz", names, bad),
        "there twice": write(tmp_path / "twice.npz", [*names, names[0]], np.vstack([features, features[:1]])),
        "no picture <item id>_<i>": write(tmp_path / "others.npz", [f"x{n}" for n in names], features),
        "for 12 names": write(tmp_path / "short.npz", names, features[:5]),
    }
    (tmp_path / "cut.npz").write_bytes((tmp_path / "nan.npz").read_bytes()[:200])
    (tmp_path / "pickled.npz").write_bytes(b"")
    np.savez(tmp_path / "pickled.npz", names=np.array(names, object), features=features)
    cases |= {"truncated, pickled": tmp_path / "cut.npz", "pickled or not": tmp_path / "pickled.npz"}
    pd.DataFrame({"name": ["a_0.jpg", "a_1.jpg"], "v": [[1.0], [1.0, 2.0]]}).to_parquet(tmp_path / "ragged.parquet")
    cases["different lengths"] = tmp_path / "ragged.parquet"
    (tmp_path / "words.csv").write_text("name,f\na_0.jpg,red\n")
    cases["no table of names and numbers"] = tmp_path / "words.csv"
    for message, table in cases.items():
        with pytest.raises(InputError, match=message) as error:
            call(script, tmp_path, "--table", table)
        assert "\n" not in str(error.value)
    assert "visual" not in FeatureStore.open(tmp_path / "set").features


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40, deadline=None)
@given(st.binary(max_size=300), st.sampled_from([".npz", ".parquet", ".csv", ".tsv"]))
def test_any_bytes_give_an_input_error(tmp_path, content, suffix):
    path = tmp_path / f"any{suffix}"
    path.write_bytes(content)
    try:
        names, features = script.read_table(path, "name")
    except InputError:
        return
    assert len(names) == len(features)
