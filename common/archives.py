"""Arrays and tensors that others may have written or damaged: each is looked at before it is read, and nothing in them
is executed. What cannot be read is an InputError that names the file; what a file takes of memory is bounded by what
its headers say and by its own size."""

from __future__ import annotations

import contextlib
import io
import math
import os
import warnings
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from common.console import InputError, in_one_line
from common.room import in_bytes

if TYPE_CHECKING:
    import torch

HEADER = 1 << 14  # bytes at the begin of an array that are looked at; numpy takes headers of up to 10,000
BLOCK_BYTES = 4 << 20  # of an array that is read in parts
KINDS = "biufcUSMm"  # numpy's letters of what has no Python objects in it
DENSEST = 1100  # bytes that a byte of deflated data stands for, at most (zlib: 1,032)
ARCHIVE = "truncated or not an .npz archive of plain arrays"


@dataclass(frozen=True)
class Head:
    """What the header of an array says, and how many bytes it is."""

    shape: tuple[int, ...]
    dtype: np.dtype
    by_columns: bool  # Fortran's order
    start: int

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize


def head_of(file: BinaryIO) -> Head:
    """Of an array in numpy's format; ValueError where it is none, or not of plain values."""
    begin = io.BytesIO(file.read(HEADER))
    try:
        version = np.lib.format.read_magic(begin)
        read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}[version]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what Python 2 wrote
            shape, by_columns, dtype = read(begin)
    except Exception as error:  # numpy has Python's own parser read it, whose errors are no closed list
        raise ValueError(f"no header of an array: {in_one_line(error, 80)}") from None
    if not all(type(size) is int and size >= 0 for size in shape):
        raise ValueError(f"no shape of an array: {shape}")
    if dtype.kind not in KINDS or (dtype.itemsize == 0 and math.prod(shape) > 1):
        raise ValueError(f"values of the type {in_one_line(str(dtype), 80)}")
    return Head(shape, dtype, by_columns, begin.tell())


def check_array(path: Path) -> None:
    """ValueError where a .npy file is none of plain values, or not as long as its header says."""
    with path.open("rb") as file:
        head = head_of(file)
        there = os.fstat(file.fileno()).st_size - head.start
    if head.nbytes != there:
        raise ValueError(f"{in_bytes(there)}, and {in_bytes(head.nbytes)} would be those of an array {head.shape}")


class Archive:
    """An open .npz file: names of its arrays, their headers, and each of them as it is asked for."""

    def __init__(self, path: Path, otherwise: str, archive: zipfile.ZipFile, packed: bool):
        self.path, self.otherwise, self.archive, self.packed = path, otherwise, archive, packed
        self.names = [name.removesuffix(".npy") for name in archive.namelist()]

    def head(self, name: str) -> Head:
        """Without the array itself; InputError where there is none of that name, or it cannot be as it says."""
        with self._open(name) as (file, info):
            head = head_of(file)
            if head.nbytes != info.file_size - head.start:
                raise ValueError(f"{name}: a shape {head.shape} of {in_bytes(info.file_size - head.start)}")
            return head

    def read(self, name: str) -> np.ndarray:
        self.head(name)
        with self._open(name) as (file, _):
            array = np.lib.format.read_array(file, allow_pickle=False)
            file.read(1)  # at its end its check sum is looked at, of an empty array too
            return array

    def rows(self, name: str, rows: np.ndarray) -> np.ndarray:
        """(n, ...) of the array (N, ...), of which no more than these and a block is held."""
        head = self.head(name)
        if head.by_columns or not head.nbytes:
            return self.read(name)[rows]
        out, order = np.empty((len(rows), *head.shape[1:]), head.dtype), np.argsort(rows, kind="stable")
        width = head.nbytes // head.shape[0]
        step, done = max(1, BLOCK_BYTES // width), 0
        with self._open(name) as (file, _):
            file.read(head.start)
            for start in range(0, head.shape[0], step):
                wanted = min(step, head.shape[0] - start) * width
                block = np.frombuffer(_exactly(file, wanted), head.dtype).reshape(-1, *head.shape[1:])
                upto = int(np.searchsorted(rows[order], start + len(block)))
                places = order[done:upto]
                out[places], done = block[rows[places] - start], upto
            file.read(1)
        return out

    def text(self, name: str, most: int = 1 << 20) -> str:
        """An array of one text."""
        head = self.head(name)
        with readable(self.path, self.otherwise):
            if head.shape or head.dtype.kind != "U" or head.nbytes > most:
                raise ValueError(f"{name}: {head.dtype} {head.shape}, expected a text")
            return str(self.read(name))

    @contextlib.contextmanager
    def _open(self, name: str) -> Iterator[tuple[BinaryIO, zipfile.ZipInfo]]:
        with readable(self.path, self.otherwise):
            if f"{name}.npy" not in self.archive.NameToInfo:
                raise ValueError(f"no array {name!r}" + (", but something else" if name in self.names else ""))
            info = self.archive.getinfo(f"{name}.npy")
            check_member(info, self.packed)
            with self.archive.open(info) as file:
                yield file, info


@contextlib.contextmanager
def opened(path: Path, otherwise: str = ARCHIVE, packed: bool = False) -> Iterator[Archive]:
    """The .npz file in `path`; FileNotFoundError where there is none.

    otherwise: what a file is that cannot be read, in words. packed: whether its arrays may be compressed. What is
    written here is not, so that it takes no more memory than it has bytes.
    """
    with contextlib.ExitStack() as stack:
        with readable(path, otherwise):
            archive = stack.enter_context(zipfile.ZipFile(path))
        yield Archive(path, otherwise, archive, packed)


def check_member(info: zipfile.ZipInfo, packed: bool) -> None:
    """ValueError where a member of an archive is encrypted, or cannot be as large as it says."""
    stored = info.compress_type == zipfile.ZIP_STORED
    if info.flag_bits & 1 or not (stored or (packed and info.compress_type == zipfile.ZIP_DEFLATED)):
        raise ValueError(f"{info.filename}: encrypted, or compressed in another way than numpy does")
    if info.file_size > (info.compress_size if stored else DENSEST * info.compress_size):
        raise ValueError(f"{info.filename}: shorter than it says")


@contextlib.contextmanager
def readable(path: Path, otherwise: str) -> Iterator[None]:
    """Whatever a library raises of the content of a file becomes an InputError that says what it is `otherwise`."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:  # zipfile, zlib, struct, pickle, numpy and torch each have their own
        if isinstance(error, FileNotFoundError) or getattr(error, "filename", None) is not None:
            raise
        raise InputError(f"{path}: {otherwise} ({in_one_line(error)})") from None


def read_tensors(path: Path, otherwise: str, device: torch.device | str = "cpu") -> Any:
    """What torch saved, of tensors and plain values alone; FileNotFoundError where there is no such file.

    Its check sums are compared first, which torch does not. The tensors of a file of today's format are parts of the
    mapped file: torch reads beyond the end of one that is shorter than it says, but not of a mapped one.
    """
    import torch

    with readable(path, otherwise):
        with path.open("rb") as file:
            of_today = file.read(4) == b"PK\3\4"
        if of_today:
            with zipfile.ZipFile(path) as archive:
                for info in archive.infolist():
                    check_member(info, packed=False)
                if bad := archive.testzip():
                    raise ValueError(f"{bad}: not what was written")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of other ways to pickle
            return torch.load(str(path), map_location=device, weights_only=True, mmap=of_today)


def _exactly(file: BinaryIO, size: int) -> bytearray:
    out = bytearray()
    while len(out) < size:
        part = file.read(size - len(out))
        if not part:
            raise EOFError("it ends too early")
        out += part
    return out
