"""What is done to whole arrays of features: one pass that finds what is wrong, their digest, room on the disk."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from common.room import no_room

BLOCK_BYTES = 16 << 20  # how much of an array a pass holds at a time


class Rows:
    """Rows of an array, in any order, without a copy of it: what slices and index arrays ask for is read."""

    def __init__(self, array: np.ndarray, rows: np.ndarray):
        self.array, self.rows, self.shape = array, rows, (len(rows), *array.shape[1:])
        self.dtype = array.dtype

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, key) -> np.ndarray:
        return self.array[self.rows[key]]


class Joined:
    """Rows of one array (N, ...), and behind them those of another (M, ...), without a copy of either."""

    def __init__(self, first: np.ndarray, then: np.ndarray):
        self.first, self.then = first, then
        self.shape, self.dtype, self.ndim = (len(first) + len(then), *first.shape[1:]), first.dtype, first.ndim

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key) -> np.ndarray:
        rows, *rest = key if isinstance(key, tuple) else (key,)
        if isinstance(rows, slice):
            rows = np.arange(*rows.indices(len(self)))
        rows = np.asarray(rows)
        rows = np.flatnonzero(rows) if rows.dtype == bool else rows
        if rest and all(isinstance(one, np.ndarray) for one in rest):
            rows, *rest = np.broadcast_arrays(rows, *rest)
        late = rows >= len(self.first)
        out = None
        for array, chosen, start in ((self.first, ~late, 0), (self.then, late, len(self.first))):
            others = [one[chosen] if isinstance(one, np.ndarray) else one for one in rest]
            part = np.asarray(array[(rows[chosen] - start, *others)], self.dtype)
            out = np.empty((*rows.shape, *part.shape[1:]), self.dtype) if out is None else out
            out[chosen] = part
        return out

    def __array__(self, dtype=None, copy=None) -> np.ndarray:
        return np.concatenate([self.first, self.then]).astype(dtype or self.dtype)


@dataclass(frozen=True)
class OfRows:
    """Values (n, ...) of `rows` (n,), ascending, of an array of `length` rows of which no others are asked for."""

    rows: np.ndarray
    values: np.ndarray
    length: int

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.length, *self.values.shape[1:])

    def __getitem__(self, key) -> np.ndarray:
        rows, *rest = key if isinstance(key, tuple) else (key,)
        place = np.searchsorted(self.rows, rows)
        if not np.array_equal(self.rows[np.minimum(place, len(self.rows) - 1)], rows):
            raise IndexError("rows that nobody has searched for")
        return self.values[(place, *rest)]


class Derived:
    """An array (N, D) that is made as it is read: `make` gives the rows of a slice or of an index array.

    values: how many values are held to make a row, which may be more than D.
    """

    def __init__(self, shape: tuple[int, int], values: int, make: Callable):
        self.shape, self.values, self.make = shape, values, make

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key) -> np.ndarray:
        return self.make(key)


def blocks(array: np.ndarray | Rows | Derived, count: int | None = None) -> Iterator[slice]:
    """Slices of (the first `count`) rows of `array` that hold some BLOCK_BYTES each, as float64."""
    count = len(array) if count is None else count
    values = array.values if isinstance(array, Derived) else int(np.prod(array.shape[1:]))
    step = max(1, BLOCK_BYTES // max(1, 8 * values))
    for start in range(0, count, step):
        yield slice(start, min(start + step, count))


def scan(array: np.ndarray) -> tuple[np.ndarray, float, np.ndarray]:
    """One pass over (N, ...): which rows hold NaN or infinity, the root mean square, which rows are all zero."""
    bad, zero, squares = np.zeros(len(array), bool), np.zeros(len(array), bool), 0.0
    axes = tuple(range(1, array.ndim))
    step = max(1, BLOCK_BYTES // max(1, 4 * int(np.prod(array.shape[1:]))))
    for start in range(0, len(array), step):
        # What is beyond float32 is infinite, and found so; squares are from 1e19 on, which is warning enough.
        with np.errstate(over="ignore", invalid="ignore"):
            block = np.asarray(array[start : start + step], dtype=np.float32)
            rows = slice(start, start + len(block))
            bad[rows] = ~np.isfinite(block).all(axis=axes)
            zero[rows] = ~block.any(axis=axes)
            squares += float(np.dot(block.ravel(), block.ravel()))
    return bad, float(np.sqrt(squares / max(1, array.size))), zero


def reserve(path: Path) -> None:
    """Take the disk space of a sparse file now: a memory map that runs out of it dies without a word."""
    size = path.stat().st_size
    try:
        with path.open("r+b") as file:
            os.posix_fallocate(file.fileno(), 0, size)
    except AttributeError:  # not on this system
        pass
    except OSError as error:
        raise no_room(path.with_name(path.name.removesuffix(".partial")), os.strerror(error.errno), size) from None


def digest_of(shape: tuple[int, ...], dtype: np.dtype):
    """The digest of an array of this shape and type, whose rows are still to be given to `update`."""
    return hashlib.sha256(f"{shape} {dtype.str}".encode())


def digest(array: np.ndarray) -> str:
    sha = digest_of(array.shape, array.dtype)
    step = max(1, BLOCK_BYTES // max(1, array[:1].nbytes))
    for start in range(0, len(array), step):
        sha.update(np.ascontiguousarray(array[start : start + step]))
    return sha.hexdigest()
