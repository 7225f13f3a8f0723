"""A table's column of times, in the forms that tables have, as times in UTC."""

from __future__ import annotations

import re
from datetime import date, datetime
from typing import Any

import numpy as np
import pandas as pd

from dataloader.importing.faults import Faults

CLOCKS = ("", " %H:%M", " %H:%M:%S")
FORMS = [day + clock for day in ("%Y/%m/%d", "%Y.%m.%d", "%Y年%m月%d日", "%d %b %Y", "%b %d, %Y") for clock in CLOCKS]
FORMS += ["%a %b %d %H:%M:%S %z %Y", "%a, %d %b %Y %H:%M:%S %z", "%a, %d %b %Y %H:%M:%S GMT"]  # Twitter's, and mail's
OTHER_THAN_ISO = re.compile(r"^\d{4}[/年.]|[A-Za-z]{3}")


def as_times(values: list, column: str, ids: np.ndarray, faults: Faults) -> np.ndarray:
    """(N,) datetime64[us] in UTC, NaT where there is nothing; what is no time is a fault."""
    out, bad = np.full(len(values), "NaT", "M8[us]"), []
    for row, value in enumerate(values):
        if value is None or value != value or (isinstance(value, str) and not value.strip()):
            continue
        try:
            out[row] = one_time(value)
        except (TypeError, ValueError, OverflowError):
            bad.append(row)
    advice = "expected one like 2024-05-31T18:00:00, or seconds, milliseconds or microseconds since 1970"
    faults.add_cells(column, "are no time", bad, values, ids, advice)
    return out


def written_out(text: str) -> pd.Timestamp | None:
    """A time in one of FORMS, in which nothing can be taken for something else; None for any other text."""
    text = " ".join(text.split())
    if not OTHER_THAN_ISO.search(text):
        return None
    for form in FORMS:
        try:
            return pd.Timestamp(datetime.strptime(text, form))
        except ValueError:
            continue
    return None


def one_time(value: Any) -> np.datetime64:
    """A number counts from 1970, in the unit that puts it between 1995 and 2100; ValueError for what is no time."""
    if isinstance(value, str):
        value = value.strip()
        digits = value.replace(".", "", 1)
        value = float(value) if digits.isascii() and digits.isdigit() and len(digits) > 8 else value
    if isinstance(value, int) and 19950101 <= value <= 21001231:
        value = str(value)  # 20240131, as a text of it is read
    if isinstance(value, int | float) and not isinstance(value, bool):
        for unit in (1, 1e3, 1e6):
            if 7.9e8 <= value / unit < 4.1e9:
                return np.datetime64(round(value / unit * 1e6), "us")
        raise ValueError("neither seconds nor milliseconds nor microseconds of these years")
    if isinstance(value, str):
        time = written_out(value)
        if time is None:
            if not value[:1].isdigit() or len(value) < 8:  # pandas knows "today" and "now", and takes a year for a time
                raise ValueError("no time")
            time = pd.to_datetime(value, format="ISO8601")
    elif isinstance(value, date):  # a datetime is one too
        time = pd.Timestamp(value)
    else:
        raise TypeError("no time")
    time = time.tz_convert("UTC").tz_localize(None) if time.tzinfo else time
    return time.to_datetime64().astype("M8[us]")
