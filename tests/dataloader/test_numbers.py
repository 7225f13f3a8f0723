"""dataloader/importing/numbers.py: what people and platforms write is read for what it means, or refused."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataloader.importing.faults import Faults
from dataloader.importing.numbers import as_numbers, one_duration

CELLS = {
    "541.2K": 541_200,
    "1.4M": 1_400_000,
    "38.3m": 38_300_000,
    "2.1B": 2_100_000_000,
    "2.1bn": 2_100_000_000,
    "1,234": 1234,
    "1,234,567": 1_234_567,
    "12,34,567": 1_234_567,
    "1,234.5": 1234.5,
    "12 345": 12345,
    "12\u202f345": 12345,
    "12\xa0345": 12345,
    "1'234": 1234,
    "1’234’567": 1_234_567,
    "3万": 30_000,
    "2.1w": 21_000,
    "1.2億": 120_000_000,
    "1.2亿": 120_000_000,
    "5 k": 5000,
    "1.234M": 1_234_000,
    "1,5M": 1_500_000,
    "１２３": 123,
    " 7 ": 7,
    "\u200b7": 7,
    "1e5": 100_000,
    "12.5": 12.5,
    "0.123": 0.123,
    "1234.567": 1234.567,
    "7.": 7,
    ".5": 0.5,
    "007": 7,
}
UNKNOWN = ["", " ", "#N/A", "N/A", "n/a", "NA", "NaN", "nan", "null", "None", "-", "–", "\\N", None, float("nan")]
BAD = [
    "1_2",
    "many",
    "inf",
    "-inf",
    "Infinity",
    "1e999",
    "1.2.3",
    "1,23,4",
    "1,2345,678",
    "12 34",
    "1 2345",
    "3万+",
    "5%",
]
BAD += [
    "0x10",
    "1,234,5",
    "(5)",
    "$5",
    "K",
    ".",
    "1.5KK",
    "1e5k",
    "٣",
    True,
    "9" * 400,
    "1." * 100_000,
    "1" * 300_000 + "x",
]


def read(values: list, **how) -> tuple[list, Faults]:
    faults = Faults()
    out = as_numbers(values, "views", [f"v{row}" for row in range(len(values))], faults, **how)
    return [None if np.isnan(value) else float(value) for value in out], faults


@pytest.mark.parametrize("counts", [True, False])
@pytest.mark.parametrize("text", CELLS)
def test_a_number_is_read_for_what_it_means(text, counts):
    values, faults = read([text], counts=counts)
    assert values == [CELLS[text]] and not faults.told("fail")


def test_unknown_is_no_fault():
    values, faults = read(UNKNOWN, counts=True)
    assert values == [None] * len(UNKNOWN) and not faults.told("fail") and not faults.rows


@pytest.mark.parametrize("value", BAD, ids=lambda value: str(value)[:12])
def test_what_is_no_number_is_named_by_row(value):
    values, faults = read([5, value], counts=True)
    assert values == [5, None] and list(faults.rows) == [1]
    (told,) = faults.told("fail")
    assert told.startswith("column views: 1 values are no finite number (v1: ") and not faults.told("skip")


def test_every_bad_row_is_named():
    _, faults = read(["x"] * 60)
    assert all(f"v{row}: " in faults.told("fail")[0] for row in range(60))


COLUMNS = {  # values, counts, decimal -> what they are; None: refused, with an example
    "three digits behind every dot of counts": (["1.234", "12.500", "987"], True, None, [1234, 12500, 987]),
    "elsewhere a dot is a decimal point": (["1.234", "12.500", "987"], False, None, [1.234, 12.5, 987]),
    "another dot proves a decimal point": (["1.234", "12.5"], True, None, [1.234, 12.5]),
    "K beside it proves nothing": (["1.234", "1.234K"], True, None, None),
    "1.2K beside it proves a decimal point": (["1.234", "1.2K"], True, None, [1.234, 1200]),
    "the user says dot": (["1.234", "12.500"], True, ".", [1.234, 12.5]),
    "the user says comma": (["1.234", "1,5"], False, ",", [1234, 1.5]),
    "two groups prove it": (["1.234", "1.234.567"], False, None, [1234, 1_234_567]),
    "both marks prove it": (["1.234,5", "1,5", "1.234"], False, None, [1234.5, 1.5, 1234]),
    "zero before a comma proves it": (["0,25", "1,5", "1,234"], False, None, [0.25, 1.5, 1.234]),
    "a space for thousands proves it": (["12 345,6", "1,5"], False, None, [12345.6, 1.5]),
    "nothing proves it": (["1,5", "2,5"], False, None, None),
    "nothing proves it of counts": (["1,5", "7"], True, None, None),
    "dots and commas": (["1.234", "1,234"], True, None, None),
    "proofs against each other": (["1,234.5", "1.234,5", "1.234"], False, None, None),
    "thousands of millions": (["1,234M"], True, None, None),
    "commas group thousands": (["1,234", "12,500", "7"], True, None, [1234, 12500, 7]),
    "floats have no marks": ([1.234, 12.5, "1.234"], True, ".", [1.234, 12.5, 1.234]),
}


@pytest.mark.parametrize("name", COLUMNS)
def test_what_could_mean_two_things(name):
    values, counts, decimal, right = COLUMNS[name]
    found, faults = read(values, counts=counts, decimal=decimal)
    if right is None:
        (told,) = faults.told("skip")
        assert "could mean two things (v" in told and told.endswith("--decimal . or --decimal ,")
    else:
        assert found == right and not faults.told("fail")


def test_thousands_by_evidence_are_said():
    _, faults = read(["987", "1.234"], counts=True)
    assert faults.notes == [
        "column views: dots group thousands ('1.234' is 1234); --decimal . makes them decimal points"
    ]


@pytest.mark.parametrize("text", ["1.234,5", "1,5", "1.234.567"])
def test_a_number_against_the_users_mark_is_a_fault(text):
    assert list(read([text], decimal=".")[1].rows) == [0]


def test_minus_one_is_no_count_but_a_label():
    values, faults = read(["-1", -2, "−3"], counts=True)
    assert values == [None] * 3 and sorted(faults.rows) == [0, 1, 2]
    assert read(["-1", "−3"])[0] == [-1, -3]


DURATIONS = {
    "00:31": 31,
    "0:05": 5,
    "75:10": 4510,
    "1:02:03": 3723,
    "PT1M5S": 65,
    "pt1h": 3600,
    "P1DT1S": 86401,
    "P2W": 1_209_600,
    "PT0.5S": 0.5,
    "0 days 00:01:05": 65,
    "1:02.5": 62.5,
}


@pytest.mark.parametrize("text", DURATIONS)
def test_durations_are_seconds(text):
    assert one_duration(text) == DURATIONS[text]
    values, faults = read([text, "N/A"])
    assert values == [DURATIONS[text], None] and "durations, read as seconds" in faults.notes[0]
    assert list(read([text], counts=True)[1].rows) == [0]
    assert list(read([text, "31"])[1].rows) == [0]  # the unit of 31 is not known


@pytest.mark.parametrize(
    "text", ["P", "PT", "P1DT", "1:60", "1:5", "1:99:00", ":31", "00:31:", "31", "", "P1Y", None, 3]
)
def test_what_is_no_duration(text):
    assert one_duration(text) is None


@given(st.integers(0, 10**15))
def test_any_whole_number_survives_its_groups(number):
    swiss, european, spaced = (f"{number:,}".replace(",", mark) for mark in ("'", ".", " "))
    for text in (str(number), f"{number:,}", swiss, spaced):
        assert read([text], counts=True)[0] == [number]
    assert read([european], counts=True)[0] == read([european], decimal=",")[0] == [number]


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_any_float_that_python_writes_survives(number):
    assert read([repr(number)], decimal=".")[0] == read([number])[0] == [number]


@given(
    st.lists(st.text() | st.text(" .,'eEkKmM万-+:0123456789PTS") | st.none() | st.floats() | st.integers(), max_size=5)
)
def test_any_column_ends_in_numbers_or_faults(values):
    for how in ({}, {"counts": True}, {"decimal": ","}):
        out, faults = read(values, **how)
        assert len(out) == len(values) and not any(value in (float("inf"), float("-inf")) for value in out)
        assert all(out[row] is None for row in faults.rows)


@given(st.integers(0, 10**7))
def test_any_duration_survives(seconds):
    minutes, second = divmod(seconds, 60)
    hours, minute = divmod(minutes, 60)
    forms = (
        f"{minutes}:{second:02}",
        f"{hours}:{minute:02}:{second:02}",
        f"PT{hours}H{minute}M{second}S",
        f"PT{seconds}S",
    )
    assert [one_duration(form) for form in forms] == [seconds] * 4
