"""dataloader/importing/ids.py: every digit of an id survives, or its column is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataloader.importing.faults import Faults
from dataloader.importing.ids import as_ids


def read(values: list) -> tuple[list[str], Faults]:
    faults = Faults()
    return as_ids(values, "video_id", faults).tolist(), faults


LOST = {
    "a spreadsheet's": ["7.5068E+18", "7.5069E+18"],
    "one of them": ["7506832682593095123", "7.50683268259309E+18", "a"],
    "pandas'": ["7.506832682593095e+18"],
    "a decimal comma": ["7,5068E+18"],
    "19 digits that end in .0": ["7506832682593095680.0"],
    "floats": [7.506832682593095e18, 7.5068326825930957e18],
    "one float among whole numbers": [1, 7.506832682593095e18],
    "15 digits, then zeros": ["7506832682593090000", "7506832682593100000", "7506832682593120000"],
}


@pytest.mark.parametrize("name", LOST)
def test_lost_digits_are_refused(name):
    (told,) = read(LOST[name])[1].told("skip")
    assert told.startswith("column video_id: ") and " ids have lost digits (7" in told
    assert "; export them anew as text: " in told and told.endswith("dtype=str")


SURVIVE = {
    "leading zeros": (["007", "0"], ["007", "0"]),
    "19 digits": (["7506832682593095123", 7506832682593095123], ["7506832682593095123"] * 2),
    "one that ends in zeros": (["7506832682593090000", "7506832682593090001"],) * 2,
    "spaces around": ([" a ", "\u200bb\ufeff", "c\xa0", "d\te"], ["a", "b", "c", "d\te"]),
    "hexadecimal": (["1e5", "12e34567", "5E6"],) * 2,
    "a version": (["1.0", "2.1"],) * 2,
    ".0 in some rows": (["1.0", "2"],) * 2,
    "nothing": ([None, float("nan"), ""], ["", "", ""]),
}


@pytest.mark.parametrize("name", SURVIVE)
def test_what_survives(name):
    values, right = SURVIVE[name]
    found, faults = read(values)
    assert found == right and not faults.told("fail") and not faults.notes


@pytest.mark.parametrize("values", [["123.0", "", "7.0"], [123.0, None, 7.0], [123.0, float("nan"), 7.0]])
def test_point_0_in_every_row_is_taken_off_and_said(values):
    found, faults = read(values)
    assert found == ["123", "", "7"] and faults.notes == ["column video_id: ids such as 123.0 are read as 123"]


@pytest.mark.parametrize("value", [1.5, float("inf"), True, b"a"])
def test_what_is_no_id(value):
    assert "column video_id: 1 values of type" in read([value])[1].told("skip")[0]


@given(st.lists(st.integers(-(2**63), 2**64), max_size=2))
def test_any_whole_number_survives(numbers):
    assert (
        read(numbers)[0] == read([f" {number}\u200b" for number in numbers])[0] == [str(number) for number in numbers]
    )


@given(st.lists(st.integers(10**15, 2**63), min_size=1, max_size=4))
def test_no_float_of_a_long_id_is_taken_for_it(numbers):
    for written in ([float(n) for n in numbers], [str(float(n)) for n in numbers], [f"{n:.4E}" for n in numbers]):
        assert read(written)[1].told("skip")


@given(st.lists(st.text() | st.integers() | st.floats() | st.none() | st.booleans(), max_size=5))
def test_any_column_ends_in_ids_or_problems(values):
    ids, faults = read(values)
    assert len(ids) == len(values) and all(text == text.strip() for text in ids) and not faults.rows
