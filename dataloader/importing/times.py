"""A table's column of times, in the forms that tables have, as times in UTC."""

from __future__ import annotations

from datetime import date
from typing import Any

import numpy as np
import pandas as pd

from dataloader.importing.faults import Faults


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


def one_time(value: Any) -> np.datetime64:
    """A number counts from 1970, in the unit that puts it between 1995 and 2100; ValueError for what is no time."""
    if isinstance(value, str):
        value = value.strip()
        digits = value.replace(".", "", 1)
        value = float(value) if digits.isascii() and digits.isdigit() and len(digits) > 8 else value
    if isinstance(value, int | float) and not isinstance(value, bool):
        for unit in (1, 1e3, 1e6):
            if 7.9e8 <= value / unit < 4.1e9:
                return np.datetime64(round(value / unit * 1e6), "us")
        raise ValueError("neither seconds nor milliseconds nor microseconds of these years")
    if isinstance(value, str):
        if not value[:1].isdigit() or len(value) < 8:  # pandas knows "today" and "now", and takes a year for a time
            raise ValueError("no time")
        time = pd.to_datetime(value, format="ISO8601")
    elif isinstance(value, date):  # a datetime is one too
        time = pd.Timestamp(value)
    else:
        raise TypeError("no time")
    time = time.tz_convert("UTC").tz_localize(None) if time.tzinfo else time
    return time.to_datetime64().astype("M8[us]")
