"""`skipped.csv` in the data set's folder: rows of the table and items that were left out, each with the reason."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from pathlib import Path

from common.cells import guarded, unguarded
from common.console import InputError
from common.files import written_beside
from common.room import naming

COLUMNS = ("item_id", "stage", "reason")
ROWS = "table"  # The stage of rows of the table that became no item; another row of the same id may have become one.
SOUND = "audio"  # The stage of items that lost their sound alone, and are items all the same.


def write_skipped(folder: Path, stage: str, reasons: dict[str, str], tried: Iterable[str] | None = None) -> Path:
    """Put the items of this stage into `folder`/skipped.csv; the first stage that an item failed in counts.

    Rows of other stages stay, and of this one those of items that were not `tried` now (None: all were).
    """
    tried = None if tried is None else set(tried)
    old = read_skipped(folder)
    rows = [row for row in old if row["stage"] != stage or (tried is not None and row["item_id"] not in tried)]
    before = {row["item_id"] for row in rows if row["stage"] not in (ROWS, SOUND)} if stage != SOUND else set()
    rows += [dict(zip(COLUMNS, (item, stage, why), strict=True)) for item, why in reasons.items() if item not in before]
    return _write(folder, rows)


def write_skipped_rows(folder: Path, reasons: list[tuple[str, str]]) -> Path:
    """Put each row of the table that became no item, as (its item id, why), into `folder`/skipped.csv."""
    rows = [row for row in read_skipped(folder) if row["stage"] != ROWS]
    return _write(folder, rows + [dict(zip(COLUMNS, (item, ROWS, why), strict=True)) for item, why in reasons])


def _write(folder: Path, rows: list[dict[str, str]]) -> Path:
    path = folder / "skipped.csv"
    if rows or path.exists():
        with written_beside(path) as partial, partial.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS)
            writer.writeheader()
            writer.writerows({name: guarded(text) for name, text in row.items()} for row in rows)
    return path


def lost_items(folder: Path) -> dict[str, str]:
    """Item id -> why it was left out, or has no frames; without rows of the table, and what lost its sound alone."""
    return {row["item_id"]: row["reason"] for row in read_skipped(folder) if row["stage"] not in (ROWS, SOUND)}


def read_skipped(folder: Path) -> list[dict[str, str]]:
    path = folder / "skipped.csv"
    if not path.exists():
        return []
    try:
        with naming(path), path.open(encoding="utf-8", newline="") as file:
            rows = [{name: unguarded(text) for name, text in row.items()} for row in csv.DictReader(file)]
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: not a CSV file ({error}); move it away") from None
    if any(set(row) != set(COLUMNS) or None in row.values() for row in rows):
        raise InputError(f"{path}: its columns are not {', '.join(COLUMNS)}; move it away")
    return rows
