"""Numbers and durations as people and platforms write them: 541.2K, 1,234, 12 345, 3万, N/A, 1:02:03, PT1M5S.

A cell is parsed alone first (`parsed`). Where that leaves two numbers (1.234, 1,5), the mark that the user named
decides, else what the other cells of the column prove; what is still open is refused with an example.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import time, timedelta
from decimal import Decimal
from typing import Any

import numpy as np

from dataloader.importing.faults import Faults, brief

UNKNOWN = {"", "-", "--", "–", "—", "n/a", "#n/a", "na", "<na>", "nan", "null", "none", "\\n"}
INVISIBLE = dict.fromkeys(map(ord, "\u200b\u200c\u200d\u2060\ufeff\u200e\u200f"))  # deleted by str.translate
TEN_TO = {  # what stands behind a number -> its power of ten
    **{"k": 3, "m": 6, "b": 9, "bn": 9},
    **{"千": 3, "万": 4, "萬": 4, "w": 4, "亿": 8, "億": 8},
    **{"천": 3, "만": 4, "억": 8},
}
CELL = re.compile(rf"([+-]?)([\d.,' ]+?)(?:e([+-]?\d{{1,6}})| ?({'|'.join(TEN_TO)}))?", re.IGNORECASE | re.ASCII)
OTHER = {".": ",", ",": "."}
GROUPED = {  # separator -> whole part with groups of three digits; commas also as in India: 12,34,567
    ",": r"\d{1,3}(?:,\d{3})+|\d{1,2}(?:,\d{2})+,\d{3}",
    ".": r"\d{1,3}(?:\.\d{3})+",
    " ": r"\d{1,3}(?: \d{3})+",
    "'": r"\d{1,3}(?:'\d{3})+",
}
ISO = re.compile(
    r"P(?:(\d+)W)?(?:(\d+)D)?(?:T(?:(\d+)H)?(?:(\d+)M)?(?:(\d+(?:[.,]\d+)?)S)?)?", re.IGNORECASE | re.ASCII
)
CLOCK = re.compile(r"(?:(\d+) days?,? )?(?:(\d+):(?=[0-5]\d:))?(\d+):([0-5]\d(?:\.\d+)?)", re.ASCII)


def cleaned(text: str) -> str:
    """In one form: full-width characters as their plain ones, every blank a space, no invisible ones."""
    return unicodedata.normalize("NFKC", text.translate(INVISIBLE)).replace("−", "-").replace("’", "'").strip()


def is_unknown(value: Any) -> bool:
    """Whether a cell of a column of numbers says that its number is not known."""
    return value is None or value != value or (isinstance(value, str) and cleaned(value).lower() in UNKNOWN)


# ---- one cell ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Parsed:
    """What a cell says by itself."""

    sign: str
    whole: str  # digits alone
    fraction: str  # digits alone
    power: int = 0  # of ten, by a suffix or an exponent
    lone: str = ""  # its one separator, which may group thousands or be the decimal point
    groups: bool = False  # a lone separator that three digits follow, as groups of thousands have them
    scaled: bool = False  # has a suffix such as K
    proves: str = ""  # the decimal mark, where no other is possible

    def value(self, grouped: bool = False) -> float:
        """grouped: the lone separator groups thousands. Rounded once, by float."""
        point = "" if grouped else "."
        return float(f"{self.sign}{self.whole}{point}{self.fraction}e{self.power}")


def parsed(text: str) -> Parsed | None:
    """None where it is no number."""
    match = CELL.fullmatch(text)
    if not match or not any(map(str.isdigit, match[2])):
        return None
    sign, body, exponent, suffix = match.groups()
    power = int(exponent) if exponent else TEN_TO[suffix.lower()] if suffix else 0
    if body.isdigit():
        return Parsed(sign, body, "", power)
    lone = re.fullmatch(r"(\d*)(?:(\.)(\d*)|(,)(\d+))", body)
    if lone:
        whole, mark, fraction = lone[1], lone[2] or lone[4], lone[3] or lone[5] or ""
        groups = not exponent and bool(re.fullmatch(r"[1-9]\d{0,2}", whole)) and len(fraction) == 3
        sure = not groups and (mark == "." or bool(suffix or exponent) or whole.strip("0") == "")
        return Parsed(sign, whole or "0", fraction, power, mark, groups, bool(suffix), mark if sure else "")
    for separator, pattern in GROUPED.items():
        if exponent:
            break
        point = re.escape(OTHER[separator]) if separator in OTHER else "[.,]"
        if grouped := re.fullmatch(rf"({pattern})(?:({point})(\d+))?", body):
            proves = grouped[2] or OTHER.get(separator, "")
            whole = grouped[1].replace(separator, "")
            return Parsed(sign, whole, grouped[3] or "", power, scaled=bool(suffix), proves=proves)
    return None


def one_duration(value: Any) -> float | None:
    """Seconds of 00:31, 1:02:03, PT1M5S or a timedelta; None where it is no duration."""
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, time):  # as Excel and Parquet hold 00:31
        return timedelta(hours=value.hour, minutes=value.minute, seconds=value.second).total_seconds()
    text = cleaned(value) if isinstance(value, str) else ""
    if match := CLOCK.fullmatch(text):
        days, hours, minutes, seconds = (float(part or 0) for part in match.groups())
        weeks = 0.0
    elif (match := ISO.fullmatch(text)) and any(match.groups()) and text[-1:] not in "Tt":
        weeks, days, hours, minutes, seconds = (float((part or "0").replace(",", ".")) for part in match.groups())
    else:
        return None
    return 60 * (60 * (24 * (7 * weeks + days) + hours) + minutes) + seconds


# ---- a column ------------------------------------------------------------------------------------


def as_numbers(
    values: list, column: str, ids: Sequence, faults: Faults, *, counts: bool = False, decimal: str | None = None
) -> np.ndarray:
    """(N,) float64, NaN where nothing is known, or where the cell is a fault.

    counts: whole numbers from 0 are expected: what is negative is a fault, and three digits behind every dot show
    that dots group thousands; of other columns it is said that they may. A column of durations, which counts are not,
    becomes seconds. decimal: the decimal mark.
    """
    out = np.full(len(values), np.nan)
    known = [row for row, value in enumerate(values) if not is_unknown(value)]
    if not counts and (seconds := as_durations([values[row] for row in known])) is not None:
        faults.notes.append(f"column {column}: durations, read as seconds ({values[known[0]]} is {seconds[0]:g})")
        out[known] = seconds
        return out
    cells, bad = {}, []
    for row in known:
        value = values[row]
        if isinstance(value, str):
            cells[row] = parsed(cleaned(value))
            if cells[row] is None:
                bad.append(row)
                del cells[row]
        elif isinstance(value, int | float | Decimal) and not isinstance(value, bool):
            out[row] = as_float(value)
        else:
            bad.append(row)
    mark, open_ = decimal_mark(list(cells.values()), counts, decimal)
    unclear = []
    for row, cell in cells.items():
        if not cell.lone and cell.proves and decimal and cell.proves != decimal:
            bad.append(row)  # 1.234,5 where the user says that the decimal mark is a dot
            continue
        meant = meaning(cell, mark, open_)
        if meant is None:
            (bad if mark else unclear).append(row)
        else:
            out[row] = meant
    bad += [row for row in known if np.isinf(out[row])]
    out[bad] = np.nan
    if unclear:
        row = unclear[0]
        faults.problems.append(
            f"column {column}: {len(unclear)} values could mean two things ({ids[row]}: {brief(values[row])} is "
            f"{cells[row].value():.12g}, or {cells[row].value(grouped=True):.12g} with groups of thousands); write "
            "them without such groups, or tell the import what the decimal mark is: --decimal . or --decimal ,"
        )
    faults.add_cells(column, "are no finite number", sorted(bad), values, ids, "leave unknown ones empty")
    if counts:
        negative = np.flatnonzero(out < 0)
        faults.add_cells(column, "are negative counts", negative, values, ids, "leave unknown ones empty")
        out[negative] = np.nan
        dots = [row for row, cell in cells.items() if cell.lone == "." and not np.isnan(out[row])]
        if dots and mark == "," and not decimal:
            faults.notes.append(
                f"column {column}: dots group thousands ({brief(values[dots[0]])} is {out[dots[0]]:.12g}); --decimal . "
                "makes them decimal points"
            )
    elif not mark and not open_ and (dots := [r for r, cell in cells.items() if cell.lone == "." and not cell.scaled]):
        faults.notes.append(
            f"column {column}: dots are decimal points, though three digits follow each ({brief(values[dots[0]])} is "
            f"{out[dots[0]]:.12g}); --decimal , makes them groups of thousands"
        )
    return out


def as_durations(values: list) -> list[float] | None:
    """Seconds, where every one of the values is a duration, and there is one; else None."""
    seconds = []
    for value in values:
        one = one_duration(value)
        if one is None:
            return None
        seconds.append(one)
    return seconds or None


def as_float(value: Any) -> float:
    try:
        return float(value)
    except OverflowError:
        return float("inf")


def decimal_mark(cells: list[Parsed], counts: bool, decimal: str | None) -> tuple[str | None, bool]:
    """The decimal mark of a column, None where nothing says it; and whether its cells speak against each other."""
    if decimal:
        return decimal, False
    proven = {cell.proves for cell in cells} - {""}
    if len(proven) == 1:
        return proven.pop(), False
    if proven:
        return None, True
    lone = [cell for cell in cells if cell.lone]
    if counts and any(cell.lone == "." and not cell.scaled for cell in lone):
        # All of these have three digits behind their dot, as any other dot would have proven a decimal point.
        alike = all(cell.lone == "." and not cell.scaled for cell in lone)
        return ("," if alike else None), not alike
    return None, False


def meaning(cell: Parsed, mark: str | None, contradictory: bool) -> float | None:
    """The number of a cell; None where it has two, or where `mark` makes it no number."""
    if not cell.lone:
        return cell.value()
    if mark:
        return cell.value(grouped=cell.lone != mark) if cell.lone == mark or cell.groups else None
    if contradictory:
        return None if not cell.proves else cell.value()
    if cell.lone == ".":
        return cell.value()
    if cell.groups and not cell.scaled:
        return cell.value(grouped=True)
    return cell.value() if cell.proves else None
