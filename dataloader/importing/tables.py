"""A table of items as people have it, read column by column: CSV, TSV, JSON Lines, Parquet."""

from __future__ import annotations

import csv
import json
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from common.console import InputError, listed

MOST_CHARACTERS = 2**31 - 1  # in one CSV field; the csv module's own limit is 131072


def read_table(path: Path, wanted: list[str], optional: Collection[str] = ()) -> tuple[list[str], dict[str, list[Any]]]:
    """The names of all columns, and the wanted ones as plain Python values (text, numbers, None).

    optional: those of the wanted that need not be there, and are left out then.
    """
    wanted = list(dict.fromkeys(wanted))
    readers = {".csv": read_csv, ".tsv": read_csv, ".jsonl": read_jsonl, ".parquet": read_parquet}
    if path.suffix.lower() not in readers:
        raise InputError(f"--table {path}: the name must end in one of {', '.join(readers)}")
    try:
        found, columns = readers[path.suffix.lower()](path, wanted)
    except FileNotFoundError:
        raise InputError(f"--table {path}: no such file") from None
    except UnicodeDecodeError as error:
        raise InputError(f"--table {path}: not UTF-8 ({error}); save it as UTF-8") from None
    if repeated := {name for name in found if found.count(name) > 1}:
        raise InputError(f"--table {path}: several columns of the name {listed(sorted(repeated))}")
    if missing := [name for name in wanted if name not in found and name not in optional]:
        raise InputError(
            f"--table {path}: no column {', '.join(missing)} (found {', '.join(found) or 'none'}); "
            "name yours with --id_column, --text_column, --count_column, --label_column, --split_column, "
            "--user_column, --time_column, --label_time_column"
        )
    if not columns[wanted[0]]:
        raise InputError(f"--table {path}: no items in it")
    return found, columns


def read_csv(path: Path, wanted: list[str]) -> tuple[list[str], dict[str, list]]:
    """Rows as the csv module defines them; quotes keep separators and line ends inside a field."""
    csv.field_size_limit(MOST_CHARACTERS)
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file, delimiter="\t" if path.suffix.lower() == ".tsv" else ",", strict=True)
        try:
            header = next(reader, [])
            places = {name: header.index(name) for name in wanted if name in header}
            columns = {name: [] for name in places}
            for row in reader:
                if not row:  # an empty line
                    continue
                if len(row) != len(header):
                    raise InputError(
                        f"--table {path} line {reader.line_num}: {len(row)} fields, but the header has {len(header)} "
                        f"({', '.join(header)}); text that holds separators or line ends needs quotes"
                    )
                for name, place in places.items():
                    columns[name].append(row[place])
        except csv.Error as error:
            raise InputError(f"--table {path} line {reader.line_num}: {error}; check the quotes") from None
    return header, columns


def read_jsonl(path: Path, wanted: list[str]) -> tuple[list[str], dict[str, list]]:
    found, columns = {}, {name: [] for name in wanted}
    for line, item in json_objects(path):
        found.update(dict.fromkeys(item))
        for name in wanted:
            value = item.get(name)
            if isinstance(value, bool | list | dict):
                raise InputError(f"--table {path} line {line}: {name} is {value!r}, expected text or a number")
            columns[name].append(value)
    return list(found), columns


def json_objects(path: Path) -> Iterator[tuple[int, dict]]:
    # Only \n ends a line here, as texts may hold the other characters that Python takes for line ends.
    with path.open(encoding="utf-8-sig", newline="\n") as file:
        for number_, line in enumerate(file, start=1):
            if not line.strip():
                continue
            try:
                item = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise InputError(f"--table {path} line {number_}: not JSON ({error})") from None
            if not isinstance(item, dict):
                raise InputError(f"--table {path} line {number_}: a JSON object was expected, found {line[:80]!r}")
            yield number_, item


def read_parquet(path: Path, wanted: list[str]) -> tuple[list[str], dict[str, list]]:
    try:
        with pq.ParquetFile(path) as file:
            found = file.schema_arrow.names
            table = file.read([name for name in wanted if name in found])
    except FileNotFoundError:
        raise
    except (pa.ArrowException, ValueError, OSError) as error:
        raise InputError(f"--table {path}: truncated or not a Parquet file ({error})") from None
    columns = {}
    for name in wanted:
        if found.count(name) == 1:
            try:
                columns[name] = table.column(name).to_pylist()
            except Exception as error:  # Dates and time zones raise exceptions of several libraries.
                raise InputError(f"--table {path}: column {name}: its values cannot be read ({error})") from None
    return found, columns


# ---- columns -> arrays --------------------------------------------------------------------------


def as_text(values: list, column: str, problems: list[str], numbers_too: bool = False) -> np.ndarray:
    """(N,) str, None as ""; ids may be whole numbers, but not floats, which have lost digits already."""
    kinds = (str, int, float) if numbers_too else (str, int)
    if bad := [v for v in values if v is not None and v == v and (isinstance(v, bool) or not isinstance(v, kinds))]:
        kind = type(bad[0]).__name__
        problems.append(f"column {column}: {len(bad)} values of type {kind} ({listed(bad)}); write them as text")
    texts = np.array(["" if value is None or value != value else str(value) for value in values], object)
    try:
        pa.array(texts, pa.string())
    except (UnicodeError, pa.ArrowException):  # JSON can hold half of a surrogate pair, which UTF-8 cannot.
        rows = [row for row, value in enumerate(texts, start=1) if value.encode("utf-8", "replace").decode() != value]
        problems.append(f"column {column}: {len(rows)} values hold half a character (items number {listed(rows)})")
    return texts
