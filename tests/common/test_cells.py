"""Texts in CSV files: a spreadsheet runs none of them, and whoever reads them back has what was written."""

from __future__ import annotations

import csv
from dataclasses import replace

import numpy as np
import pandas as pd
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import make_store, predictions, remade, run_test, trained

from baselines.comparison.results import read_predictions
from common.cells import guarded, read_table, unguarded, write_table
from dataloader.skipped import read_skipped, write_skipped

RUN = ("=", "+", "-", "@", "\t", "\r", "\n")
TEXTS = st.text(st.sampled_from(["=", "+", "-", "@", "'", "\t", "a", "1", " ", '"', ",", "日"]), max_size=5)
HOSTILE = ['=HYPERLINK("http://x")', "+1", "-x", "@SUM(A1)", "'=1", "'plain", "''+2", "it's", "plain"]


@given(TEXTS)
def test_a_guarded_text_is_no_formula_and_comes_back(text):
    assert not guarded(text).startswith(RUN)
    assert unguarded(guarded(text)) == text
    assert (guarded(text) == text) or text.lstrip("'").startswith(RUN)


@settings(max_examples=20, deadline=None)
@given(st.lists(TEXTS, min_size=1, max_size=5))
def test_a_table_comes_back(tmp_path_factory, texts):
    path = tmp_path_factory.mktemp("table") / "t.csv"
    table = pd.DataFrame({"item_id": texts, "prediction": -np.arange(len(texts)) / 3})
    write_table(path, table, "%.12g")
    read = read_table(path, ["item_id"], ["prediction"])
    assert read["item_id"].tolist() == texts
    np.testing.assert_allclose(read["prediction"], table["prediction"], rtol=1e-11)  # numbers below 0 stay numbers


def cells(path) -> list[str]:
    with path.open(encoding="utf-8", newline="") as file:
        return [cell for row in csv.reader(file) for cell in row]


def is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def test_ids_that_a_spreadsheet_would_run(tmp_path, load_script):
    plain = make_store(tmp_path / "tiny")
    ids = plain.items.item_id.copy()
    rows = np.concatenate([plain.rows("test")[:5], plain.rows("train")[:4]])
    ids[rows] = HOSTILE
    store = remade(plain, replace(plain.items, item_id=ids))
    run = trained(store, tmp_path / "runs", "--model_id", "SVR")
    first = predictions(load_script, run)
    assert not [cell for cell in cells(run / "predictions.csv") if cell.startswith(RUN) and not is_number(cell)]
    np.testing.assert_array_equal(read_predictions(run / "predictions.csv", store), first)  # its ids are compared
    run_test(load_script, "--model_path", run, "--split", "valid")


def test_what_was_left_out_is_read_as_it_was_written(tmp_path):
    reasons = dict(zip(HOSTILE, reversed(HOSTILE), strict=True))
    write_skipped(tmp_path, "frames", reasons)
    assert {row["item_id"]: row["reason"] for row in read_skipped(tmp_path)} == reasons
    assert not [cell for cell in cells(tmp_path / "skipped.csv") if cell.startswith(RUN)]
    write_skipped(tmp_path, "frames", {"-x": "again"}, tried=["-x"])  # and found again, not written twice
    assert len(read_skipped(tmp_path)) == len(HOSTILE)
