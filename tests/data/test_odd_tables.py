"""Tables as they come, from file to data set: what each oddity is read as, and that no row is lost in silence."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from common.console import InputError
from dataloader.store import FeatureStore

VIEWS = ("--id_column", "id", "--text_column", "title", "--count_column", "views")


@pytest.fixture(scope="session")
def script(load_script):
    return load_script("data/import_features.py")


@pytest.fixture
def importing(script, tmp_path):
    def start(table, *flags) -> FeatureStore:
        where = ["--table", str(table), "--dataset_path", str(tmp_path / "data"), "--dataset_id", "own", "--overwrite"]
        script.main(script.build_parser().parse_args([*where, *map(str, flags)]))
        return FeatureStore.open(tmp_path / "data" / "own")

    return start


@pytest.fixture
def refused(importing, tmp_path):
    """What is said of a table that cannot be used; nothing is written then."""

    def start(table, *flags) -> str:
        with pytest.raises(InputError) as caught:
            importing(table, *flags)
        assert not (tmp_path / "data").exists() and str(table) in str(caught.value)
        return str(caught.value)

    return start


@pytest.fixture
def odd(shared) -> Path:
    return shared / "data" / "odd_tables"


def write(path: Path, text: str, encoding: str = "utf-8") -> Path:
    path.write_bytes(text.encode(encoding))
    return path


def counts(store: FeatureStore) -> list:
    return [None if np.isnan(value) else float(value) for value in store.items.popularity[:, 0]]


def skipped(store: FeatureStore) -> list[tuple[str, str]]:
    path = store.folder / "skipped.csv"
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return [(row["item_id"], row["reason"]) for row in csv.DictReader(file)]


# ---- numbers -------------------------------------------------------------------------------------


def test_thousands_and_millions(importing, odd):
    found = counts(importing(odd / "k_m.csv", *VIEWS))
    assert found[:8] == [1_200_000, 12_300, 1234, 30_000, 900, 5000, 1_500_000_000, 21_000] and found[8:] == [7] * 12


def test_dots_that_group_thousands(importing, odd, capsys):
    assert counts(importing(odd / "eu_dots.csv", *VIEWS)) == [1234, 12500, 987, 45210, 3000] * 4
    assert "column views: dots group thousands ('1.234' is 1234); --decimal ." in capsys.readouterr().out
    assert counts(importing(odd / "eu_dots.csv", *VIEWS, "--decimal", "."))[:2] == [1.234, 12.5]
    flags = ("--id_column", "id", "--text_column", "title", "--label_column", "views")
    assert importing(odd / "eu_dots.csv", *flags).items.label[0, 0] == 1.234


def test_unknown_counts_and_wrong_ones(importing, refused, odd, capsys):
    message = refused(odd / "na.csv", *VIEWS)
    assert "column views: 1 values are no finite number (v9: 'inf')" in message
    assert "column views: 1 values are negative counts (v8: '-1')" in message
    store = importing(odd / "na.csv", *VIEWS, "--on_error", "skip")
    assert counts(store) == [None] * 8 + [7] * 10 and (store.items.split[:8] == "predict").all()
    assert [item for item, _ in skipped(store)] == ["v9", "v8"]
    assert "2 of 20 rows left out, listed in" in capsys.readouterr().out


def test_none_and_na_are_words_of_a_title(importing, tmp_path):
    table = write(tmp_path / "t.csv", "item_id,text\na,None\nb,N/A\nc,-\nd,null\n")
    assert importing(table).items.text.tolist() == ["None", "N/A", "-", "null"]


def test_features_follow_the_rows_that_are_kept(importing, tmp_path):
    lines = [f"v{i},t,{'bad' if i == 3 else i}" for i in range(14)]
    table, array = write(tmp_path / "t.csv", "\n".join(["item_id,text,n", *lines])), np.arange(28.0).reshape(14, 2)
    np.save(tmp_path / "a.npy", array)
    np.savez(tmp_path / "b.npz", item_id=[f"v{i}" for i in reversed(range(14))], x=array[::-1])
    flags = ("--count_column", "n", "--on_error", "skip", "--features", f"a={tmp_path}/a.npy", f"b={tmp_path}/b.npz")
    store = importing(table, *flags)
    assert store.features["a"].tolist() == store.features["b"].tolist() == np.delete(array, 3, axis=0).tolist()


def test_features_of_fewer_rows_than_the_table_are_refused(importing, tmp_path):
    table = write(
        tmp_path / "t.csv", "item_id,text,n\n" + "".join(f"v{i},t,{'x' if i == 3 else i}\n" for i in range(14))
    )
    np.save(tmp_path / "a.npy", np.zeros((13, 2)))
    (tmp_path / "b.npz").write_bytes(b"no archive")
    flags = ("--count_column", "n", "--on_error", "skip", "--features", f"a={tmp_path}/a.npy", f"b={tmp_path}/b.npz")
    with pytest.raises(InputError, match=r"a.npy: 13 rows, but there are 14 rows in the table; .*b.npz: truncated or"):
        importing(table, *flags)


def test_flags_of_numbers_and_errors_that_do_nothing(importing, tmp_path):
    table = write(tmp_path / "t.csv", "item_id,text\na,b\n")
    with pytest.raises(InputError, match="--decimal belongs to numbers"):
        importing(table, "--decimal", ".")
    with pytest.raises(InputError, match="--on_error zero is for videos"):
        importing(table, "--on_error", "zero")
