"""Metadata: what a table says of each item beside text and videos, as typed columns in metadata.parquet."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from common.console import InputError, listed
from common.files import written_beside
from dataloader.names import KINDS

FILE = "metadata.parquet"
LETTERS = dict(zip(KINDS, "fOMi", strict=True))  # kind -> numpy's letter of its array; unknown: NaN, None, NaT, -1
AGE = "age_days"  # of an item when it was counted: made of its times
HAS_SOUND = "has_sound"  # yes/no, unknown of a broken one: made of its video, when the sound is encoded


@dataclass(frozen=True)
class Metadata:
    """N items: name of a column -> (N,) float64 numbers, str categories, datetime64[us] times, int8 yes/no (1, 0)."""

    columns: dict[str, np.ndarray]

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))

    @property
    def kinds(self) -> dict[str, str]:
        of = {letter: kind for kind, letter in LETTERS.items()}
        return {name: of[values.dtype.kind] for name, values in self.columns.items()}

    def take(self, rows: np.ndarray) -> Metadata:
        """The items of a mask or of rows, in this order."""
        return Metadata({name: values[rows] for name, values in self.columns.items()})

    def without(self, names: Collection[str]) -> Metadata | None:
        """The other columns; None where there are none."""
        columns = {name: values for name, values in self.columns.items() if name not in names}
        return Metadata(columns) if columns else None

    def only(self, kinds: Mapping[str, str], where: Path) -> Metadata:
        """The columns of these names and kinds, in this order; InputError where one is not there.

        where: what these columns were read from, for the message.
        """
        if missing := [name for name in kinds if name not in self.columns]:
            raise InputError(f"{where}: no metadata column {', '.join(missing)} (has {', '.join(self.columns)})")
        if other := [
            f"{name} ({self.kinds[name]} for {kind})" for name, kind in kinds.items() if self.kinds[name] != kind
        ]:
            raise InputError(f"{where}: metadata columns of another kind than trained with: {listed(other)}")
        return Metadata({name: self.columns[name] for name in kinds})

    def digest(self) -> str:
        """SHA-256 of names, kinds and values, the same however the file was written."""
        sha = hashlib.sha256()
        for name, values in self.columns.items():
            sha.update(f"{len(name)} {name} {self.kinds[name]} {len(values)}".encode("utf-8", "surrogatepass"))
            if values.dtype.kind == "O":
                encoded = [None if value is None else value.encode("utf-8", "surrogatepass") for value in values]
                sha.update(np.array([-1 if value is None else len(value) for value in encoded], "<i8").tobytes())
                sha.update(b"".join(filter(None, encoded)))
            else:
                values = np.where(np.isnan(values), np.nan, values) if values.dtype.kind == "f" else values
                sha.update(values.astype("<f8" if values.dtype.kind == "f" else "<i8").tobytes())
        return sha.hexdigest()

    def write(self, path: Path) -> None:
        table = pa.table({name: _arrow(values) for name, values in self.columns.items()})
        with written_beside(path) as partial:
            pq.write_table(table, partial)

    @classmethod
    def read(cls, path: Path) -> Metadata:
        try:
            table = pq.read_table(path)
            columns = {name: _numpy(table.column(name)) for name in table.column_names}
        except FileNotFoundError:
            raise InputError(f"{path}: no such file") from None
        except (pa.ArrowException, OSError, ValueError, TypeError) as error:
            raise InputError(f"{path}: truncated or not a file of typed columns ({error})") from None
        if not columns:
            raise InputError(f"{path}: no columns in it")
        return cls(columns)


def known(values: np.ndarray) -> np.ndarray:
    """(n,) of a column -> (n,) whether the value is known."""
    if values.dtype.kind == "O":
        return np.array([value is not None for value in values], bool)
    return values >= 0 if values.dtype.kind == "i" else ~np.isnan(values)


def as_category(texts: Iterable[str]) -> np.ndarray:
    """Texts -> (n,) str, None where there is nothing in it."""
    return np.array([text.strip() or None for text in texts], object)


def _arrow(values: np.ndarray) -> pa.Array:
    unknown = ~known(values)
    kind = values.dtype.kind
    type_ = {"f": pa.float64(), "O": pa.string(), "M": pa.timestamp("us"), "i": pa.bool_()}[kind]
    return pa.array(values > 0 if kind == "i" else values, type_, mask=unknown)


def _numpy(column: pa.ChunkedArray) -> np.ndarray:
    kind = column.type
    if pa.types.is_boolean(kind):
        return np.array([-1 if value is None else int(value) for value in column.to_pylist()], np.int8)
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return np.array([*column.to_pylist(), None], object)[:-1]  # with None, so that numpy sees objects in any case
    if pa.types.is_timestamp(kind):
        return column.cast(pa.timestamp("us")).to_numpy().astype("M8[us]")
    if pa.types.is_float64(kind):
        return column.to_numpy().astype(np.float64)
    raise ValueError(f"a column of {kind}")
