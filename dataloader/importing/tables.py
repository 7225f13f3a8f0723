"""A table of items as people have it, read column by column: CSV, TSV, JSON, Excel, Parquet, compressed or not."""

from __future__ import annotations

import gzip
import io
import json
import unicodedata
import zlib
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from common.console import InputError, listed
from common.room import naming
from dataloader.importing.delimited import delimited
from dataloader.importing.encodings import decoded
from dataloader.importing.faults import MOST_NAMED, Faults
from dataloader.importing.numbers import INVISIBLE
from dataloader.names import KINDS

USUAL_SEPARATOR = {".csv": ",", ".tsv": "\t", ".txt": "\t"}
JSON = (".jsonl", ".ndjson", ".json")
SUFFIXES = (*USUAL_SEPARATOR, *JSON, ".parquet", ".xlsx")
Places = Callable[[list[str]], dict[str, int]]  # names of all columns -> wanted name -> its place


@dataclass
class Table:
    """The rows of a file: those of its columns that are wanted, as plain Python values (text, numbers, None)."""

    unit: str  # what `lines` count: lines, or rows
    found: list[str] = field(default_factory=list)  # the names of all columns
    columns: dict[str, list[Any]] = field(default_factory=dict)
    lines: list[int] = field(default_factory=list)  # where in the file each row is
    faults: Faults = field(default_factory=Faults)  # rows that have no values are among its rows

    def __len__(self) -> int:
        return len(self.lines)

    def where(self, row: int) -> str:
        return f"{self.unit} {self.lines[row]}"

    def add(self, line: int, values: dict[str, Any]) -> None:
        self.lines.append(line)
        for name, column in self.columns.items():
            column.append(values.get(name))


def read_table(
    path: Path,
    wanted: list[str],
    optional: Collection[str] = (),
    *,
    encoding: str | None = None,
    sheet: str | None = None,
    policy: str = "fail",
    metadata: Collection[str] = (),
    every: bool = False,
) -> Table:
    """The wanted columns of a file; InputError for what cannot be read.

    metadata: further columns that are wanted, of values of any type; every: all others too.

    optional: those of the wanted that need not be there, and are left out then. encoding: of a text. sheet: of an
    Excel file. policy: "skip" takes lines that do not fit the header as rows without values.
    """
    plain, wanted = set(wanted), list(dict.fromkeys([*wanted, *metadata]))
    suffixes = [suffix.lower() for suffix in path.suffixes]
    packed = suffixes[-1:] == [".gz"]
    suffix = (suffixes[:-1] if packed else suffixes)[-1:]
    if not suffix or suffix[0] not in SUFFIXES:
        raise InputError(f"--table {path}: the name must end in one of {', '.join(SUFFIXES)}, or in these and .gz")
    (suffix,) = suffix
    for flag, value, acts in (("encoding", encoding, {*SUFFIXES} - {".parquet", ".xlsx"}), ("sheet", sheet, {".xlsx"})):
        if value and suffix not in acts:
            raise InputError(f"--table {path}: --{flag} does nothing for {suffix} files")
    try:
        with naming(f"--table {path}"):
            data = unpacked(path) if packed else path.read_bytes()
        table = Table("line" if suffix in (*USUAL_SEPARATOR, ".jsonl", ".ndjson") else "row")

        def places(found: list[str]) -> dict[str, int]:
            return places_of(found, wanted, optional, table.faults, every)

        if suffix == ".parquet":
            read_parquet(table, data, places)
        elif suffix == ".xlsx":
            read_excel(table, data, places, sheet)
        else:
            text, note = decoded(data, encoding)
            table.faults.notes += [note] if note else []
            if suffix in JSON:
                read_json(table, text, places, plain)
            else:
                wishes = {alike(name) for name in wanted}
                read_delimited(table, text, USUAL_SEPARATOR[suffix], places, wishes)
    except FileNotFoundError:
        raise InputError(f"--table {path}: no such file") from None
    except Unreadable as error:
        raise InputError(f"--table {path}{error}") from None
    except ValueError as error:
        raise InputError(f"--table {path}: {error}") from None
    if table.faults.rows and policy == "fail":
        (row, (_, why)), *others = table.faults.rows.items()
        more = listed((table.where(other) for other, _ in others), MOST_NAMED)
        more = f"; {len(others)} more do not fit ({more})" if others else ""
        raise InputError(f"--table {path} {table.where(row)}: {why}{more}")
    if not len(table):
        raise InputError(f"--table {path}: no items in it")
    return table


class Unreadable(ValueError):
    """What is wrong at a place of the file: the message begins behind its name."""


def unpacked(path: Path) -> bytes:
    try:
        with gzip.open(path) as file:
            return file.read()
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise ValueError(f"truncated or not a .gz file ({error})") from None


# ---- names of columns ----------------------------------------------------------------------------


def alike(name: str) -> str:
    """What names that differ only in case, surrounding or invisible spaces have in common."""
    return unicodedata.normalize("NFKC", name.translate(INVISIBLE)).strip().casefold()


def places_of(
    found: list[str], wanted: list[str], optional: Collection[str], faults: Faults, every: bool = False
) -> dict[str, int]:
    """Wanted name -> place among all names; one that differs only in case or spaces is taken, and said.

    every: and of each other column whose name is its own.
    """
    places, missing = {}, []
    if halves := [repr(name) for name in found if name != name.encode("utf-8", "replace").decode()]:
        raise ValueError(f"names of columns hold half a character ({listed(halves)})")
    for name in wanted:
        hits = [place for place, other in enumerate(found) if other == name]
        if not hits:
            hits = [place for place, other in enumerate(found) if alike(other) == alike(name)]
            if len(hits) == 1:
                faults.notes.append(f"column {name} is called {found[hits[0]]!r} here")
        if len(hits) > 1:
            raise ValueError(f"several columns of the name {listed(found[place] for place in hits)}")
        if hits:
            places[name] = hits[0]
        else:
            missing.append(name)
    if set(missing) - set(optional):
        raise ValueError(
            f"no column {', '.join(missing)} (found {', '.join(found) or 'none'}); "
            "name yours with --id_column, --text_column, --count_column, --label_column, --split_column, "
            "--user_column, --time_column, --label_time_column, --metadata_columns (NAME or NAME=KIND, of "
            f"{', '.join(KINDS)})"
        )
    if every:
        often = Counter(map(alike, found))
        taken = set(places.values())
        places |= {name: at for at, name in enumerate(found) if at not in taken and name and often[alike(name)] == 1}
    return places


# ---- formats -------------------------------------------------------------------------------------


def read_delimited(table: Table, text: str, usual: str, places: Places, wishes: set[str]) -> None:
    """wishes: the wanted names, as `alike` has them."""
    source = delimited(text, usual, lambda header: len(wishes & set(map(alike, header))))
    table.found = source.header
    where = places(table.found)
    table.columns = {name: [] for name in where}
    empty = 0
    for line, fields in source.rows():
        if isinstance(fields, str):
            table.faults.rows[len(table)] = "", fields
            table.add(line, {})
        elif len(fields) > 1 and not any(fields):
            empty += 1
        else:
            table.add(line, {name: fields[place] for name, place in where.items()})
    _say_empty(table, empty)
    if source.separator != usual:
        table.faults.notes.append(f"separated by {source.separator!r}")
    if source.stray:
        table.faults.notes.append(
            f"{len(source.stray)} lines with stray quotes, which were taken as characters of the text "
            f"(lines {listed(source.stray)})"
        )


def read_json(table: Table, text: str, places: Places, plain: set[str]) -> None:
    """An array of objects, or an object a line. plain: columns that hold texts and numbers alone."""
    items = list(json_array(text) if text.lstrip()[:1] == "[" else json_lines(text))
    table.found = list(dict.fromkeys(name for _, item in items for name in item))
    where = {name: table.found[place] for name, place in places(table.found).items()}
    table.columns = {name: [] for name in where}
    for line, item in items:
        for name in (key for wanted, key in where.items() if wanted in plain):
            if isinstance(item.get(name), bool | list | dict):
                raise Unreadable(f" {table.unit} {line}: {name} is {item[name]!r}, expected text or a number")
        table.add(line, {name: item.get(key) for name, key in where.items()})


def json_array(text: str) -> Iterator[tuple[int, dict]]:
    try:
        items = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise Unreadable(f" line {getattr(error, 'lineno', 1)}: not JSON ({error})") from None
    for number, item in enumerate(items, start=1):
        if not isinstance(item, dict):
            raise Unreadable(f" line 1: a JSON object was expected, found {text[:80]!r}, whose item {number} is none")
        yield number, item


def json_lines(text: str) -> Iterator[tuple[int, dict]]:
    # Only \n ends a line here, as texts may hold the other characters that Python takes for line ends.
    for number, line in enumerate(io.StringIO(text, newline="\n"), start=1):
        if not line.strip():
            continue
        try:
            item = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise Unreadable(f" line {number}: not JSON ({error})") from None
        if not isinstance(item, dict):
            raise Unreadable(f" line {number}: a JSON object was expected, found {line[:80]!r}")
        yield number, item


def read_parquet(table: Table, data: bytes, places: Places) -> None:
    try:
        with pq.ParquetFile(io.BytesIO(data)) as file:
            table.found = file.schema_arrow.names
            where = places(table.found)
            content = file.read([table.found[place] for place in where.values()])
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"truncated or not a Parquet file ({error})") from None
    for name, place in where.items():
        try:
            table.columns[name] = content.column(table.found[place]).to_pylist()
        except Exception as error:  # Dates and time zones raise exceptions of several libraries.
            raise ValueError(f"column {name}: its values cannot be read ({error})") from None
    table.lines = list(range(1, content.num_rows + 1)) if where else []


def read_excel(table: Table, data: bytes, places: Places, sheet: str | None) -> None:
    """One sheet, whose first row that is not empty has the names of the columns."""
    from python_calamine import CalamineError, CalamineWorkbook, SheetTypeEnum

    try:
        book = CalamineWorkbook.from_filelike(io.BytesIO(data))
        names = [found.name for found in book.sheets_metadata if found.typ == SheetTypeEnum.WorkSheet]
        sheets = {name: book.get_sheet_by_name(name).to_python(skip_empty_area=False) for name in names}
    except (CalamineError, OSError) as error:
        raise ValueError(f"truncated or not an Excel file ({error})") from None
    filled = [name for name, rows in sheets.items() if any(map(any, rows))]
    if sheet is None and len(filled) > 1:
        raise ValueError(f"{len(filled)} sheets ({', '.join(filled)}); say which with --sheet")
    if sheet is not None and sheet not in sheets:
        raise ValueError(f"no sheet {sheet!r} (found {', '.join(sheets)})")
    rows = enumerate(sheets[sheet or filled[0]] if sheet or filled else [], start=1)
    table.found = next(([str(plain(cell) or "") for cell in row] for _, row in rows if any(map(filling, row))), [])
    where = places(table.found)
    table.columns = {name: [] for name in where}
    empty = []
    for number, row in rows:
        if any(map(filling, row)):
            table.add(number, {name: plain(row[place]) for name, place in where.items()})
        else:
            empty.append(number)
    _say_empty(table, sum(number < table.lines[-1] for number in empty) if len(table) else 0)


def filling(cell: Any) -> bool:
    return cell != ""


def plain(cell: Any) -> Any:
    """An Excel cell: empty as None, and a whole number as one; Excel keeps 15 digits, so longer ones stay floats."""
    if isinstance(cell, float) and cell.is_integer() and abs(cell) < 1e15:
        return int(cell)
    return None if cell == "" else cell


def _say_empty(table: Table, empty: int) -> None:
    if empty:
        table.faults.notes.append(f"{empty} rows with nothing in them are passed over")


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
