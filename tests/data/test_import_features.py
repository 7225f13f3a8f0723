"""data/import_features.py: any table and any arrays become a data set, or one line says all that is wrong."""

from __future__ import annotations

import csv
import json
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from common.console import InputError
from dataloader.importing.columns import ColumnSettings, make_items
from dataloader.importing.numbers import INVISIBLE
from dataloader.importing.splits import SplitSettings, published_split
from dataloader.importing.tables import read_table
from dataloader.store import FeatureStore

SUFFIXES = (".csv", ".tsv", ".jsonl", ".parquet")


def write_table(path: Path, columns: dict[str, list]) -> Path:
    """By another hand than the reader's: the csv module, json, pyarrow."""
    rows = list(zip(*columns.values(), strict=True))
    if path.suffix == ".parquet":
        pq.write_table(pa.table(columns), path)
    elif path.suffix == ".jsonl":
        lines = [json.dumps(dict(zip(columns, row, strict=True)), ensure_ascii=False) for row in rows]
        path.write_bytes("".join(f"{line}\n" for line in lines).encode())
    else:
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, delimiter="\t" if path.suffix == ".tsv" else ",")
            writer.writerows([list(columns), *rows])
    return path


def make_columns(n: int = 12) -> dict[str, list]:
    return {
        "item_id": [f"{i:03}" for i in range(n)],
        "text": [f'title {i}, "quoted"\r\nline 2 \u2028 é' for i in range(n)],
        "count": list(range(n)),
        "likes": [2 * i + 1 for i in range(n)],
    }


@pytest.fixture(scope="session")
def script(load_script):
    return load_script("data/import_features.py")


@pytest.fixture
def importing(script, tmp_path):
    def start(table, *flags, folder=tmp_path / "data") -> FeatureStore:
        where = ["--table", str(table), "--dataset_path", str(folder), "--dataset_id", "own"]
        script.main(script.build_parser().parse_args([*where, *map(str, flags)]))
        return FeatureStore.open(folder / "own")

    return start


@pytest.fixture
def table(tmp_path):
    return write_table(tmp_path / "t.csv", make_columns())


def save(path, array):
    np.save(path, np.asarray(array, "f4"))
    return path


# ---- tables ------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_counts_texts_and_the_published_split(importing, tmp_path, suffix):
    columns = make_columns()
    store = importing(write_table(tmp_path / f"t{suffix}", columns), "--count_column", "count")
    assert store.items.item_id.tolist() == columns["item_id"] and store.items.text.tolist() == columns["text"]
    assert store.items.popularity[:, 0].tolist() == columns["count"]
    assert np.allclose(store.items.label[:, 0], np.log2(np.arange(12) + 1))
    assert store.items.split.tolist() == published_split(12).tolist()
    assert store.family == "MicroLens" and store.label.offset == 1


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_items_without_a_count_are_to_be_predicted(importing, tmp_path, suffix):
    columns = make_columns(15)
    columns["count"] = [None if i in (2, 5, 7) else i for i in range(15)]
    store = importing(write_table(tmp_path / f"t{suffix}", columns), "--count_column", "count", "--family", "NUS")
    assert store.rows("predict").tolist() == [2, 5, 7] and store.family == "NUS"
    labelled = np.setdiff1d(np.arange(15), [2, 5, 7])
    assert store.items.split[labelled].tolist() == published_split(12).tolist()
    assert np.isnan(store.items.popularity[[2, 5, 7], 0]).all()


def test_labels_several_targets_and_given_splits(importing, tmp_path):
    columns = make_columns(4) | {"part": ["train", "valid", "test", "predict"], "y": [-0.5, 1.5, 2, ""]}
    table = write_table(tmp_path / "t.tsv", columns)
    store = importing(table, "--label_column", "y", "--split_column", "part")
    assert store.items.label[:3, 0].tolist() == [-0.5, 1.5, 2] and np.isnan(store.items.popularity).all()
    assert store.items.split.tolist() == columns["part"] and store.label.scale == "none"
    flags = ("--count_column", "count", "likes", "--split_column", "part", "--log_offset", "2", "--overwrite")
    store = importing(table, *flags)
    assert list(store.label.names) == ["count", "likes"] and store.items.label_dim == 2
    assert np.allclose(store.items.label[:, 1], np.log2(np.array(columns["likes"]) + 2))


def test_the_published_label_takes_no_offset(importing, tmp_path):
    columns = make_columns()
    with pytest.raises(InputError, match=r"1 items with count \+ 0 = 0, which has no logarithm \(000\)"):
        importing(write_table(tmp_path / "t.csv", columns), "--count_column", "count", "--log_offset", "0")
    columns["count"][0] = 1
    store = importing(write_table(tmp_path / "t.csv", columns), "--count_column", "count", "--log_offset", "0")
    assert np.allclose(store.items.label[:, 0], np.log2(columns["count"]))
    assert np.allclose(store.label.inverse(store.items.label[:, 0]), columns["count"])


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_ids_stay_as_they_are_written(importing, tmp_path, suffix):
    ids = ["007", "1227818237119578112", "NA", "null", "1.0", "1e5", " x ", "-0", "nan", "True", "é", '"', "a,b\tc"]
    columns = {"item_id": ids, "text": ["NA", "", "null", "nan", "None", *"abcdefgh"]}
    store = importing(write_table(tmp_path / f"t{suffix}", columns))
    assert store.items.item_id.tolist() == [value.strip() for value in ids]
    assert store.items.text.tolist() == columns["text"]


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_whole_number_ids_keep_every_digit(importing, tmp_path, suffix):
    ids = [1227818237119578112, 1227818237119578113, -7]
    columns = {"item_id": ids, "text": ["a", None, "c"]}
    store = importing(write_table(tmp_path / f"t{suffix}", columns))
    assert store.items.item_id.tolist() == [str(value) for value in ids]
    assert store.items.text.tolist() == ["a", "", "c"]


def test_parquet_of_other_types(importing, tmp_path):
    columns = {
        "item_id": pa.array([f"i{i}" for i in range(12)]).dictionary_encode(),
        "text": pa.array(["x"] * 12, pa.large_string()),
        "count": pa.array([float("nan"), None, *range(10)], pa.float32()),
        "elsewhere": pa.array([{"a": 1}] * 12),
    }
    pq.write_table(pa.table(columns), tmp_path / "t.parquet")
    assert importing(tmp_path / "t.parquet", "--count_column", "count").rows("predict").tolist() == [0, 1]


def test_a_byte_order_mark_empty_lines_and_other_names(importing, tmp_path):
    (tmp_path / "t.CSV").write_bytes("\ufeffid,title,n\n1,a,3\n\n2,,4\n".encode())
    store = importing(tmp_path / "t.CSV", "--id_column", "id", "--text_column", "title")
    assert store.items.item_id.tolist() == ["1", "2"] and store.items.text.tolist() == ["a", ""]
    (tmp_path / "t.jsonl").write_bytes('\ufeff{"item_id": "1", "text": "a"}\r\n \n{"item_id": "2"}'.encode())
    assert importing(tmp_path / "t.jsonl", "--overwrite").items.text.tolist() == ["a", ""]


TIMES = {
    "2024-05-31T18:00:00": "2024-05-31T18:00:00",
    " 2024-05-31 18:00 ": "2024-05-31T18:00:00",
    "2024-05-31T18:00:00.25Z": "2024-05-31T18:00:00.25",
    "2024-05-31T18:00:00+08:00": "2024-05-31T10:00:00",
    "2024-05-31": "2024-05-31",
    "1717178400": "2024-05-31T18:00:00",
    "1717178400.5": "2024-05-31T18:00:00.5",
    "1717178400000": "2024-05-31T18:00:00",
    "1717178400000000": "2024-05-31T18:00:00",
}


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_creators_and_times(importing, tmp_path, suffix):
    columns = make_columns()
    columns["by"] = ["anna", "", "bo", "anna"] * 3
    columns["at"] = [*TIMES, "", "2024-05-31", "2024-05-31"]
    columns["counted"] = ["2024-06-30T00:00:00Z"] * 12
    table = write_table(tmp_path / f"t{suffix}", columns)
    flags = ("--user_column", "by", "--time_column", "at", "--label_time_column", "counted")
    items = importing(table, "--count_column", "count", *flags).items
    assert items.user.tolist() == columns["by"] and items.origin == ("user", "time", "label_time")
    np.testing.assert_array_equal(items.time[:9], np.array(list(TIMES.values()), "M8[us]"))
    assert np.isnat(items.time[9]) and (items.label_time == np.datetime64("2024-06-30")).all()
    stored = pq.read_table(tmp_path / "data" / "own" / "items.parquet")
    assert stored.column("user").null_count == 3 and stored.column("time").null_count == 1
    assert importing(table, "--count_column", "count", "--overwrite").items.origin == ()


def test_times_as_parquet_and_json_have_them(importing, tmp_path):
    columns = make_columns(11) | {"at": pa.array([1717178400] * 11, pa.timestamp("s", "UTC"))}
    table = tmp_path / "t.parquet"
    pq.write_table(pa.table(columns), table)
    items = importing(table, "--count_column", "count", "--time_column", "at").items
    assert (items.time == np.datetime64("2024-05-31T18:00:00")).all()
    columns["at"] = [1717178400, 1717178400.0, None] * 3 + ["2024-05-31", None]
    items = importing(write_table(tmp_path / "t.jsonl", columns), "--time_column", "at", "--overwrite").items
    assert np.isnat(items.time).sum() == 4


@pytest.mark.parametrize(
    "value",
    [
        "today",
        "noon",
        "12:30",
        "31/05/2024",
        "0000-00-00",
        "2024-02-30",
        "2024",
        "3",
        "1e30",
        "inf",
        "20240531180000",
        "202405311800",
        "9" * 5000,
    ],
)
def test_what_is_no_time_is_named(importing, tmp_path, value):
    columns = make_columns() | {"at": ["2024-05-31", value, *["2024-05-31"] * 10]}
    table = write_table(tmp_path / "t.csv", columns)
    with pytest.raises(InputError, match=r"column at: 1 values are no time \(001: "):
        importing(table, "--count_column", "count", "--time_column", "at")
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(
    "column",
    [
        pa.array([2**40] * 12, pa.timestamp("s")),
        pa.array([2**62] * 12, pa.timestamp("us")),
        pa.array([2**30] * 12, pa.date32()),
        pa.array([1717178400] * 12, pa.timestamp("s", "Mars/Base")),
        pa.array([2**62] * 12, pa.duration("us")),
        pa.array([True] * 12),
        pa.array([[1]] * 12),
    ],
    ids=str,
)
def test_parquet_columns_that_are_no_times(importing, tmp_path, column):
    table = tmp_path / "t.parquet"
    pq.write_table(pa.table(make_columns() | {"at": column}), table)
    with pytest.raises(InputError, match=r"column at: (its values cannot be read|12 values are no time)"):
        importing(table, "--count_column", "count", "--time_column", "at")


def test_creators_without_any_value_are_unknown(importing, tmp_path):
    table = tmp_path / "t.parquet"
    pq.write_table(pa.table(make_columns() | {"by": pa.array([float("nan")] * 12)}), table)
    assert importing(table, "--count_column", "count", "--user_column", "by").items.origin == ()


def test_a_long_field(importing, tmp_path):
    text = "a" * 300_000
    store = importing(write_table(tmp_path / "t.csv", {"item_id": ["1"], "text": [text]}))
    assert store.items.text.tolist() == [text]


# ---- malformed tables --------------------------------------------------------------------------

HEAD = b"item_id,text,count\n"
MALFORMED = {
    "no such file": ("no.csv", None, "no.csv: no such file"),
    "another suffix": (
        "t.doc",
        b"",
        "the name must end in one of .csv, .tsv, .txt, .jsonl, .ndjson, .json",
    ),
    "no Excel": ("t.xlsx", b"PK nonsense", "truncated or not an Excel file"),
    "no gzip": ("t.csv.gz", HEAD + b"1,a,2\n", "truncated or not a .gz file"),
    "empty csv": ("t.csv", b"", "no column item_id, text (found none)"),
    "header alone": ("t.csv", HEAD, "no items in it"),
    "a field too many": ("t.csv", HEAD + b"1,a,2\n2,a,b,2\n", "line 3: 4 fields, but the header has 3"),
    "a field too few": ("t.csv", HEAD + b"1,a,2\n2,a\n", "line 3: 2 fields, but the header has 3"),
    "an open quote": ("t.csv", HEAD + b'1,"a,b,2\n2,a,3\n', "line 2: unexpected end of data; check the quotes"),
    "a quote inside": ("t.csv", HEAD + b'1,"a" b, c,2\n', "line 2: ',' expected after '\"'; check the quotes"),
    "two columns of one name": ("t.csv", b"item_id,text,text\n1,a,b\n", "several columns of the name text"),
    "other columns": ("t.csv", b"id,title\n1,a\n", "no column item_id, text (found id, title); name yours with --id_c"),
    "not UTF-8": ("t.csv", HEAD + b"1,\xff,2\n", "not UTF-8"),
    "jsonl not UTF-8": ("t.jsonl", b'{"item_id": "\xff"}', "not UTF-8"),
    "bad JSON": ("t.jsonl", b'{"item_id": "1", "text": ""}\n{"item_id": \n', "line 2: not JSON"),
    "deep JSON": ("t.jsonl", b"[" * 100000, "line 1: not JSON"),
    "a JSON list": ("t.jsonl", b"[1]", "line 1: a JSON object was expected, found '[1]'"),
    "a list as text": (
        "t.jsonl",
        b'{"item_id": "1", "text": ["a"]}',
        "line 1: text is ['a'], expected text or a number",
    ),
    "half a character": (
        "t.jsonl",
        b'{"item_id": "1", "text": "\\ud800"}',
        "1 values hold half a character (items num",
    ),
    "a float id": ("t.jsonl", b'{"item_id": 1.5, "text": ""}', "column item_id: 1 values of type float (1.5)"),
    "empty jsonl": ("t.jsonl", b"\n", "no column item_id, text (found none)"),
    "no parquet": ("t.parquet", b"PAR1 nonsense", "truncated or not a Parquet file"),
    "duplicate ids": ("t.csv", HEAD + b"1,a,2\n1,b,2\n", "1 duplicate item ids (1)"),
    "empty ids": ("t.csv", HEAD + b",a,2\n1,b,2\n", "1 empty item ids (rows 0)"),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_a_malformed_table_is_named(importing, tmp_path, name):
    file, content, message = MALFORMED[name]
    if content is not None:
        (tmp_path / file).write_bytes(content)
    with pytest.raises(InputError) as caught:
        importing(tmp_path / file)
    assert message in str(caught.value) and file in str(caught.value)
    assert not (tmp_path / "data").exists()


COUNTS = {
    "many": "column count: 1 values are no finite number (001: 'many'); leave unknown ones empty",
    "1_000": "(001: '1_000')",
    "inf": "(001: 'inf')",
    "00:31": "(001: '00:31')",
    "1,5": "1 values could mean two things (001: '1,5' is 1.5, or 15 with groups of thousands)",
    "-3": "column count: 1 values are negative counts (001: '-3'); leave unknown ones empty",
}


@pytest.mark.parametrize("value", COUNTS)
def test_a_bad_count_is_named_with_its_id(importing, tmp_path, value):
    columns = make_columns(12)
    columns["count"][1] = value
    with pytest.raises(InputError) as caught:
        importing(write_table(tmp_path / "t.csv", columns), "--count_column", "count")
    assert COUNTS[value] in str(caught.value)


def test_splits_that_do_not_fit(importing, tmp_path):
    columns = make_columns(4) | {"part": ["train", "val", "test", "train"]}
    table = write_table(tmp_path / "t.csv", columns)
    flags = ("--count_column", "count", "--split_column", "part")
    with pytest.raises(InputError, match=r"unknown split \(val; known: train, valid, test, predict\)"):
        importing(table, *flags)
    columns["part"][1], columns["count"][3] = "valid", ""
    write_table(table, columns)
    with pytest.raises(InputError, match=r"1 items of split train without a finite label \(003\)"):
        importing(table, *flags)
    with pytest.raises(
        InputError, match=r"give --count_column or --label_column \(columns: item_id, text, count, likes"
    ):
        importing(table, "--split_column", "part")
    with pytest.raises(InputError, match=r"3 items are too few .* or --split_column"):
        importing(table, "--count_column", "count")


# ---- features ----------------------------------------------------------------------------------


def test_arrays_are_taken_and_the_next_command_is_told(importing, table, tmp_path, capsys):
    generator = np.random.default_rng(0)
    visual, textual = generator.normal(size=(12, 3, 4)).astype("f4"), generator.normal(size=(12, 5)).astype("f4")
    flags = ("--count_column", "count", "--visual", save(tmp_path / "v.npy", visual))
    store = importing(table, *flags, "--textual", save(tmp_path / "t.npy", textual))
    assert np.array_equal(store.features["visual"], visual) and np.array_equal(store.features["textual"], textual)
    assert np.array_equal(store.features["retrieval"], textual)
    assert "no --retrieval was given" in store.description.features["retrieval"].made["source"]
    out = capsys.readouterr().out
    assert "the textual features serve as retrieval vectors too" in out
    assert f"next: python retriever.py --dataset_path {tmp_path / 'data'} --dataset_id own" in out
    importing(table, *flags, "--overwrite")
    out = capsys.readouterr().out
    assert "the visual features serve as retrieval vectors too" in out and "next: python retriever.py" in out
    (other,) = [line for line in out.splitlines() if line.startswith("before it, for textual features too: ")]
    assert "python feature_engineering/textual_engineering.py --dataset_path" in other
    assert "visual_engineering" not in out


def test_rows_are_matched_by_id_and_normalised_by_train_alone(importing, table, tmp_path):
    array, order = np.random.default_rng(0).normal(5, 3, (12, 4)), np.random.default_rng(1).permutation(12)
    np.savez(tmp_path / "f.npz", item_id=[f"{i:03}" for i in order], x=array[order], y=np.zeros(3))
    flags = ("--count_column", "count", "--visual", f"{tmp_path}/f.npz:x", "--textual", save(tmp_path / "t.npy", array))
    store = importing(table, *flags, "--normalise", "visual=standard", "textual=l2", "--dtype", "float16")
    train = array[store.rows("train")]
    assert np.allclose(store.features["visual"][:, 0], (array - train.mean(axis=0)) / train.std(axis=0), atol=2e-3)
    assert np.allclose(np.linalg.norm(store.features["textual"], axis=1), 1, atol=2e-3)
    assert (
        np.allclose(store.features["retrieval"], array, atol=1e-2) and store.features["retrieval"].dtype == np.float16
    )
    assert np.allclose(store.description.features["visual"].made["statistics"]["mean"], train.mean(axis=0), atol=1e-5)


def test_a_saturating_scale_is_warned_of_by_name(importing, table, tmp_path, capsys):
    histogram = save(tmp_path / "v.npy", np.full((12, 4), 172800))
    importing(table, "--count_column", "count", "--visual", histogram)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("warning: ") and "visual.npy" in line and "--normalise visual=standard" in line
    importing(table, "--count_column", "count", "--visual", histogram, "--normalise", "l2", "--overwrite")
    assert capsys.readouterr().err == ""


def refused(importing, message, *arguments):
    with pytest.raises(InputError) as caught:
        importing(*arguments)
    assert message in str(caught.value)


def test_all_problems_come_in_one_message_and_nothing_is_replaced(importing, table, tmp_path):
    flags = ("--count_column", "count", "--overwrite")
    before = importing(table, *flags, "--textual", save(tmp_path / "ok.npy", np.ones((12, 2)))).fingerprint
    short, hole = save(tmp_path / "short.npy", np.ones((11, 2, 3))), np.ones((12, 2))
    hole[[3, 4]] = np.nan
    nan = save(tmp_path / "nan.npy", hole)
    bad = write_table(tmp_path / "bad.csv", make_columns() | {"count": ["x", *range(11)]})
    with pytest.raises(InputError) as caught:
        importing(bad, *flags, "--visual", short, "--textual", nan, "--retrieval", tmp_path / "no.npy")
    for part in ("(000: 'x')", "short.npy: 11 rows", "nan.npy: 2 of 12 items have NaN", "003, 004", "no.npy: no such"):
        assert part in str(caught.value)
    large = save(tmp_path / "large.npy", np.full((12, 2), 1e5))
    refused(importing, "large.npy: as float16 with", table, *flags, "--visual", large, "--dtype", "float16")
    predict = write_table(tmp_path / "p.csv", {"item_id": range(12), "text": range(12)})
    flags = ("--overwrite", "--visual", large, "--normalise", "standard")
    refused(importing, "takes its statistics from split train, which is empty", predict, *flags)
    refused(importing, "--overwrite replaces it", table, "--count_column", "likes")
    assert FeatureStore.open(tmp_path / "data/own").fingerprint == before


def test_flags_that_could_not_act_are_refused(importing, table, tmp_path):
    refused(importing, "--log_offset belongs to --count_column", table, "--label_column", "count", "--log_offset", "1")
    refused(importing, "--normalise visual=...: no visual features are given", table, "--normalise", "visual=l2")
    refused(importing, "--normalise: no features are given", table, "--normalise", "l2")
    refused(importing, "--dtype: no features are given", table, "--dtype", "float16")
    refused(importing, "expected one of none, l2, standard", table, "--normalise", "l3")
    assert not (tmp_path / "data").exists()


# ---- as a user types it ------------------------------------------------------------------------


@pytest.mark.slow
def test_command_line(run, table, tmp_path):
    script = ("data/import_features.py", "--table", table, "--dataset_path", tmp_path / "data")
    done = run(*script, "--dataset_id", "own")
    assert (done.returncode, done.stderr) == (0, "")
    assert "all items are of split predict" in done.stdout and "train 0, valid 0, test 0, predict 12" in done.stdout
    for flags in (
        ("--dataset_id", "own", "--count_column", "count"),  # it exists, with other labels
        ("--dataset_id", "new", "--count_column", "count", "--label_column", "likes"),
    ):
        done = run(*script, *flags)
        assert done.returncode == 2 and done.stdout == "" and len(done.stderr.splitlines()) == 1, flags
        assert done.stderr.startswith("import_features.py: error: ")
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["own"]


def test_a_folder_that_cannot_be_written(run, table, tmp_path):
    (tmp_path / "data").write_text("a file")
    done = run("data/import_features.py", "--table", table, "--dataset_path", tmp_path / "data", "--dataset_id", "own")
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1 and str(tmp_path / "data") in done.stderr


# ---- properties --------------------------------------------------------------------------------

texts = st.text(st.characters(codec="utf-8"), max_size=30)


def as_id(text: str) -> str:
    return text.translate(INVISIBLE).strip()


rows = st.lists(
    st.tuples(texts.filter(as_id), texts, st.none() | st.integers(0, 2**53)),
    min_size=1,
    max_size=9,
    unique_by=lambda r: as_id(r[0]),
)
quick = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.mark.parametrize("suffix", SUFFIXES)
@quick
@example([("a\rb", "\r\n", 0), ("\ufeffa", "\x00", None), ('"', "\x1c\x85\u2028", 2**53), (",", "\t", 1)])
@given(rows)
def test_any_table_survives(importing, suffix, rows):
    columns = dict(zip(("item_id", "text", "count"), map(list, zip(*rows, strict=True)), strict=True))
    columns["part"] = ["predict" if count is None else "train" for count in columns["count"]]
    with tempfile.TemporaryDirectory() as name:
        table = write_table(Path(name) / f"t{suffix}", columns)
        flags = ("--count_column", "count", "--split_column", "part")
        items = importing(table, *flags, folder=Path(name)).items
    assert items.item_id.tolist() == list(map(as_id, columns["item_id"])) and items.text.tolist() == columns["text"]
    assert items.split.tolist() == columns["part"]
    assert [None if np.isnan(value) else int(value) for value in items.popularity[:, 0]] == columns["count"]


@pytest.mark.parametrize("suffix", SUFFIXES)
@quick
@given(content=st.binary(max_size=80), place=st.floats(0, 1), cut=st.floats(0, 1))
def test_random_tables_end_in_one_kind_of_error(tmp_path, suffix, content, place, cut):
    path = write_table(tmp_path / f"t{suffix}", make_columns())
    sound = path.read_bytes()
    position = int(place * len(sound))
    path.write_bytes(sound[:position] + content + sound[position + int(cut * 50) :])
    named = ColumnSettings(count_column=["count"])
    try:
        read = read_table(path, named.wanted)
        make_items(read, named, SplitSettings())
        assert all(isinstance(problem, str) for problem in read.faults.told("fail"))
    except InputError as error:
        assert str(path) in str(error)


def test_what_pandas_writes_is_read(importing, tmp_path):
    frame = pd.DataFrame(make_columns()).astype({"count": "float64"})
    frame.loc[3, "count"] = np.nan
    frame.to_csv(tmp_path / "t.csv", index=False)
    frame.to_csv(tmp_path / "t.tsv", index=False, sep="\t")
    frame.to_json(tmp_path / "t.jsonl", orient="records", lines=True)
    frame.to_parquet(tmp_path / "t.parquet")
    prints = {
        importing(tmp_path / f"t{suffix}", "--count_column", "count", "--overwrite").fingerprint for suffix in SUFFIXES
    }
    assert len(prints) == 1
