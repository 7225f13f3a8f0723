"""The items of a data set: ids, texts, counts, labels and splits, as `items.parquet` holds them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from common.console import InputError, listed
from common.files import written_beside
from dataloader.names import SPLITS

ORIGIN = ("user", "time", "label_time")  # columns that may be there: who made an item, when, and when it was counted


@dataclass(frozen=True)
class Items:
    """N items, row i of each array is item i; L is `label_dim`, the number of targets."""

    item_id: np.ndarray  # (N,) str
    text: np.ndarray  # (N,) str
    popularity: np.ndarray  # (N, L) raw counts, NaN where unknown
    label: np.ndarray  # (N, L) what is trained on, NaN where there is none
    split: np.ndarray  # (N,) one of SPLITS
    extra: dict[str, np.ndarray] = field(default_factory=dict)  # further counts (N,), kept and not trained on
    user: np.ndarray | None = None  # (N,) str, the creator, "" where unknown
    time: np.ndarray | None = None  # (N,) datetime64[us] of publication, NaT where unknown
    label_time: np.ndarray | None = None  # (N,) datetime64[us] when the count was taken, NaT where unknown

    def __post_init__(self):
        """What is not given is unknown of every item; frozen, so set around the dataclass."""
        n = len(self.item_id)
        if self.user is None:
            object.__setattr__(self, "user", np.full(n, "", object))
        for name in ("time", "label_time"):
            given = getattr(self, name)
            times = np.full(n, "NaT", "M8[us]") if given is None else np.asarray(given, "M8[us]")
            object.__setattr__(self, name, times)

    def __len__(self) -> int:
        return len(self.item_id)

    @property
    def label_dim(self) -> int:
        return self.label.shape[1]

    @property
    def has_text(self) -> bool:
        return bool((self.text != "").any())

    @property
    def day(self) -> np.ndarray:
        """(N,) days since 1970 at publication, NaN where unknown."""
        return np.where(np.isnat(self.time), np.nan, self.time.astype(np.int64) / 8.64e10)

    def rows(self, split: str) -> np.ndarray:
        return np.flatnonzero(self.split == split)

    def take(self, kept: np.ndarray) -> Items:
        """The items of a mask or of rows, in this order."""
        columns = (self.item_id, self.text, self.popularity, self.label, self.split)
        extra = {name: values[kept] for name, values in self.extra.items()}
        return Items(*(c[kept] for c in columns), extra, **{name: getattr(self, name)[kept] for name in self.origin})

    @property
    def origin(self) -> tuple[str, ...]:
        """Which columns of ORIGIN are known of any item."""
        known = {"user": self.user != "", "time": ~np.isnat(self.time), "label_time": ~np.isnat(self.label_time)}
        return tuple(name for name in ORIGIN if known[name].any())

    def problems(self) -> list[str]:
        """Everything that is wrong with these items, a clause each; empty where they are fit to be stored."""
        if not len(self):
            return ["there are no items"]
        found = []
        if duplicates := self.item_id[pd.Series(self.item_id).duplicated()].tolist():
            found.append(f"{len(duplicates)} duplicate item ids ({listed(dict.fromkeys(duplicates))})")
        if empty := int((self.item_id == "").sum()):
            found.append(f"{empty} empty item ids (rows {listed(np.flatnonzero(self.item_id == ''))})")
        unknown = ~np.isin(self.split, SPLITS)
        if unknown.any():
            names = listed(dict.fromkeys(self.split[unknown]))
            found.append(f"{int(unknown.sum())} items of an unknown split ({names}; known: {', '.join(SPLITS)})")
        for split in SPLITS[:3]:
            bad = (self.split == split) & ~np.isfinite(self.label).all(axis=1)
            if bad.any():
                found.append(
                    f"{int(bad.sum())} items of split {split} without a finite label ({listed(self.item_id[bad])}); "
                    "only split predict needs none"
                )
        if np.isinf(self.label).any():
            found.append(f"infinite labels ({listed(self.item_id[np.isinf(self.label).any(axis=1)])})")
        bad = ((self.popularity < 0) | np.isinf(self.popularity)).any(axis=1)
        if bad.any():
            found.append(f"{int(bad.sum())} items with a negative or infinite count ({listed(self.item_id[bad])})")
        return found

    def digest(self) -> str:
        """SHA-256 of the content, the same however the Parquet file was written."""
        sha = hashlib.sha256(f"{len(self)} {self.label_dim}".encode())
        for column in (self.item_id, self.text, self.split):
            encoded = [value.encode("utf-8", "surrogatepass") for value in column]
            sha.update(np.array([len(value) for value in encoded], dtype="<i8").tobytes())
            sha.update(b"".join(encoded))
        for values in (self.popularity, self.label):
            values = values.astype("<f8")
            values[np.isnan(values)] = np.nan  # one bit pattern for all NaN
            sha.update(values.tobytes())
        for name, values in sorted(self.extra.items()):
            sha.update(name.encode() + values.astype("<f8").tobytes())
        for name in self.origin:  # those that are known alone: data sets of before these columns keep their digest
            values = getattr(self, name)
            if name == "user":
                encoded = [value.encode("utf-8", "surrogatepass") for value in values]
                values = np.array([len(value) for value in encoded])
                sha.update(b"".join(encoded))
            sha.update(name.encode() + values.astype("<i8").tobytes())
        return sha.hexdigest()

    def write(self, path: Path) -> None:
        table = pa.table(
            {
                "item_id": pa.array(self.item_id, pa.string()),
                "text": pa.array(self.text, pa.string()),
                "popularity": _column(self.popularity),
                "label": _column(self.label),
                "split": pa.array(self.split, pa.string()),
            }
            | {name: _column(values[:, None]) for name, values in self.extra.items()}
            | {name: self._origin_column(name) for name in self.origin}
        )
        with written_beside(path) as partial:
            pq.write_table(table, partial)

    def _origin_column(self, name: str) -> pa.Array:
        """Null where unknown."""
        if name == "user":
            return pa.array(self.user, pa.string(), mask=self.user == "")
        return pa.array(getattr(self, name), pa.timestamp("us"))

    @classmethod
    def read(cls, path: Path) -> Items:
        try:
            table = pq.read_table(path)
        except FileNotFoundError:
            raise InputError(f"{path}: no such file") from None
        except (pa.ArrowException, OSError, ValueError) as error:
            raise InputError(f"{path}: truncated or not a Parquet file ({error})") from None
        columns = ("item_id", "text", "popularity", "label", "split")
        if missing := [name for name in columns if name not in table.column_names]:
            raise InputError(f"{path}: no column {', '.join(missing)} (found {', '.join(table.column_names)})")
        try:
            strings = [_strings(table.column(name)) for name in ("item_id", "text", "split")]
            popularity, label = (_matrix(table.column(name)) for name in ("popularity", "label"))
            others = [name for name in table.column_names if name not in (*columns, *ORIGIN)]
            extra = {name: _matrix(table.column(name))[:, 0] for name in others}
            origin = {name: _origin(name, table.column(name)) for name in ORIGIN if name in table.column_names}
        except (pa.ArrowException, ValueError, TypeError) as error:
            raise InputError(f"{path}: a column has the wrong type ({error})") from None
        if popularity.shape != label.shape:
            raise InputError(f"{path}: popularity has {popularity.shape[1]} values an item, label {label.shape[1]}")
        return cls(strings[0], strings[1], popularity, label, strings[2], extra, **origin)


def creators(user: np.ndarray) -> np.ndarray:
    """(n,) names -> (n,) whole numbers from 0, equal for videos of one creator; one of an unknown creator is alone."""
    number, names = pd.factorize(user)
    unknown = user == ""
    number[unknown] = len(names) + np.arange(unknown.sum())
    return np.unique(number, return_inverse=True)[1]


def _column(values: np.ndarray) -> pa.Array:
    """(N, L) -> a column of numbers (L = 1) or of fixed-size lists; NaN becomes null."""
    flat = pa.array(values.ravel(), pa.float64(), mask=np.isnan(values.ravel()))
    return flat if values.shape[1] == 1 else pa.FixedSizeListArray.from_arrays(flat, values.shape[1])


def _strings(column: pa.ChunkedArray) -> np.ndarray:
    return np.array(column.cast(pa.string()).fill_null("").to_pylist(), dtype=object)


def _origin(name: str, column: pa.ChunkedArray) -> np.ndarray:
    """A column of ORIGIN; ValueError where it is of another type, as a number called `time` would be."""
    if name == "user":
        return _strings(column)
    if not pa.types.is_timestamp(column.type):
        raise ValueError(f"{name} is {column.type}, expected a timestamp")
    return column.cast(pa.timestamp("us")).to_numpy().astype("M8[us]")


def _matrix(column: pa.ChunkedArray) -> np.ndarray:
    """A column of numbers or fixed-size lists -> (N, L) float64, null as NaN."""
    width, column = 1, column.combine_chunks()
    if pa.types.is_fixed_size_list(column.type):
        width, column = column.type.list_size, column.flatten()
    values = column.cast(pa.float64()).fill_null(np.nan).to_numpy(zero_copy_only=False)
    return values.reshape(-1, width)
