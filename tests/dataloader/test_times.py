"""dataloader/importing/times.py: what a table writes as a time, against the clock's own arithmetic."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataloader.importing.faults import Faults
from dataloader.importing.times import as_times

MOMENTS = st.datetimes(datetime(1995, 2, 1), datetime(2090, 1, 1))
ZONES = st.integers(-14 * 60, 14 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))


def read(*values) -> tuple[list, Faults]:
    faults = Faults()
    return as_times(list(values), "t", np.arange(len(values)), faults).tolist(), faults


@given(MOMENTS)
def test_a_moment_in_every_form_is_one_moment(moment):
    second, seconds = moment.replace(microsecond=0), (moment - datetime(1970, 1, 1)) // timedelta(seconds=1)
    forms = [
        second.isoformat(),
        second.isoformat(" "),
        f"{second:%Y/%m/%d %H:%M:%S}",
        f"{second:%Y年%m月%d日 %H:%M:%S}",
    ]
    forms += [f"{second:%d %b %Y %H:%M:%S}", f"{second:%a %b %d %H:%M:%S +0000 %Y}", f"  {second.isoformat()}Z "]
    forms += [
        f"{second:%a, %d %b %Y %H:%M:%S GMT}",
        seconds,
        str(seconds),
        float(seconds),
        seconds * 1000,
        seconds * 10**6,
    ]
    times, faults = read(*forms, second, second.replace(tzinfo=UTC))
    assert times == [second] * len(times) and not faults.cells
    assert read(moment.isoformat())[0] == [moment]  # microseconds survive
    assert read(second.date(), f"{second:%Y-%m-%d}")[0] == [datetime.combine(second, datetime.min.time())] * 2


@given(MOMENTS, ZONES)
def test_zones_become_utc(moment, zone):
    here = moment.replace(tzinfo=zone)
    assert read(here.isoformat(), here)[0] == [here.astimezone(UTC).replace(tzinfo=None)] * 2


@given(st.one_of(st.text(), st.integers(), st.floats(), st.booleans(), st.dates()))
def test_anything_is_a_time_a_fault_or_nothing(value):
    (time,), faults = read(value)
    unknown = value != value or (isinstance(value, str) and not value.strip())
    assert (time is not None) + bool(faults.cells) + unknown == 1
    if isinstance(value, date):
        assert time == datetime.combine(value, datetime.min.time())


@pytest.mark.parametrize(
    "value", ["today", "now", "2024", "05/06/2024", "31.12.2024", "May 2024", "12:30", 5, True, "²"]
)
def test_what_could_be_several_times_is_none(value):
    assert read(value)[1].cells
