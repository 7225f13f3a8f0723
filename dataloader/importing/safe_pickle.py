"""Pickled tables read without running them: the columns of a DataFrame, whoever wrote the file.

A pickle is a program: it names classes and functions, and calls them. Here nothing that it names is ever fetched or
called. Names of the allow-list become inert records of "this, called with that"; once the whole file is read, the
few kinds of record that a table consists of are turned into arrays, each checked against its bytes. So there is no
class to patch, no `__setstate__` to feed, no dtype whose flags claim that bytes are pointers. Pickles of pandas 1.3
to 3 with numpy columns are read in protocols 0 to 5, and independently of the pandas that is installed.
"""

from __future__ import annotations

import math
import pickle
import re
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from common.console import InputError, listed
from common.room import naming

# Everything that a file may name -> what it stands for.
ALLOWED = {
    ("pandas.core.frame", "DataFrame"): "frame",
    ("pandas", "DataFrame"): "frame",
    ("pandas.core.internals.managers", "BlockManager"): "manager",
    ("pandas._libs.internals", "_unpickle_block"): "block",
    ("pandas.core.indexes.base", "_new_Index"): "index",
    ("pandas.core.indexes.base", "Index"): "type",
    ("pandas.core.indexes.range", "RangeIndex"): "type",
    ("pandas.core.indexes.numeric", "Int64Index"): "type",  # pandas 1
    ("pandas", "Index"): "type",  # pandas 3
    ("pandas", "RangeIndex"): "type",
    ("numpy", "ndarray"): "type",
    ("numpy", "dtype"): "dtype",
    ("numpy.core.multiarray", "_reconstruct"): "array",  # numpy 1
    ("numpy.core.multiarray", "scalar"): "scalar",
    ("numpy.core.numeric", "_frombuffer"): "buffer",
    ("numpy._core.multiarray", "_reconstruct"): "array",  # numpy 2
    ("numpy._core.multiarray", "scalar"): "scalar",
    ("numpy._core.numeric", "_frombuffer"): "buffer",
    ("builtins", "slice"): "slice",
    ("__builtin__", "slice"): "slice",  # protocols 0 to 2 use Python 2's names
    ("builtins", "object"): "type",
    ("__builtin__", "object"): "type",
    ("_codecs", "encode"): "bytes",  # protocols 0 to 2 write bytes as text
    ("builtins", "bytes"): "bytes",
    ("__builtin__", "bytes"): "bytes",
    ("copyreg", "_reconstructor"): "instance",  # protocols 0 and 1
    ("copy_reg", "_reconstructor"): "instance",
}
# Numbers and text of a fixed width. Never objects or records: for those, numpy would trust what the file says.
NUMBER_OR_TEXT = re.compile(r"b1|[iu][1248]|f[248]|U[1-9]\d{0,6}")
FLOATS_AT_ONCE = 1000  # pickle writes lists in batches of this many

# pickle's instructions that are obeyed. Left out: those for persistent ids, the extension registry, Python 2's
# instances and strings, and buffers outside the file.
OPCODES = """PROTO FRAME STOP MARK POP POP_MARK DUP NONE NEWTRUE NEWFALSE INT BININT BININT1 BININT2 LONG LONG1 LONG4
FLOAT BINFLOAT UNICODE BINUNICODE SHORT_BINUNICODE BINUNICODE8 BINBYTES SHORT_BINBYTES BINBYTES8 BYTEARRAY8
EMPTY_LIST LIST APPEND APPENDS EMPTY_TUPLE TUPLE TUPLE1 TUPLE2 TUPLE3 EMPTY_DICT DICT SETITEM SETITEMS EMPTY_SET
ADDITEMS FROZENSET GET BINGET LONG_BINGET PUT BINPUT LONG_BINPUT MEMOIZE GLOBAL STACK_GLOBAL REDUCE NEWOBJ BUILD"""


class Named:
    """Something that the file named: inert, it cannot be called."""

    __slots__ = ("kind",)

    def __init__(self, kind: str):
        self.kind = kind


class Made:
    """What the file wants made: `kind`, called with `args`, then given `state`. Nothing is made."""

    __slots__ = ("args", "kind", "state")

    def __init__(self, kind: str, args: tuple):
        self.kind, self.args, self.state = kind, args, None

    def __repr__(self):
        return f"<{self.kind}>"


class _Opcodes(dict):
    def __missing__(self, code: int):
        raise pickle.UnpicklingError(f"instruction {bytes([code])!r}, which no table of pandas and numpy needs")


class _Reader(pickle._Unpickler):
    """pickle's stack machine in Python, with calls recorded instead of made.

    In Python because the C one reserves memory for any memo index and length that a damaged file claims.
    """

    def __init__(self, file: BinaryIO, path: Path):
        super().__init__(file)
        self.path, self.size = path, path.stat().st_size
        self._file_read = lambda n: file.read(self._within(n))  # what the machine reads by

    def _within(self, length: int) -> int:
        if length > self.size:
            raise pickle.UnpicklingError(f"a value of {length} bytes in a file of {self.size}")
        return length

    def find_class(self, module: str, name: str) -> Named:
        if (module, name) not in ALLOWED:
            raise InputError(
                f"{self.path}: refuses to load {ascii(f'{module}.{name}')[1:-1]}: only tables of plain numpy and "
                "Python values are read, nothing is run (text that pandas 3 keeps in Arrow: save table.astype(object), "
                "with table.columns = table.columns.astype(object))"
            )
        return Named(ALLOWED[module, name])

    def load_call(self) -> None:
        args, named = self.stack.pop(), self.stack.pop()
        if type(named) is not Named or type(args) is not tuple:
            raise pickle.UnpicklingError(f"a call of a {type(named).__name__} with a {type(args).__name__}")
        if named.kind == "instance":  # copyreg._reconstructor(class, object, None)
            named, args = args[0], ()
            if type(named) is not Named:
                raise pickle.UnpicklingError(f"an instance of a {type(named).__name__}")
        self.append(Made(named.kind, args))

    def load_state(self) -> None:
        state, made = self.stack.pop(), self.stack[-1]
        if type(made) is not Made or made.state is not None:
            raise pickle.UnpicklingError(f"a state for a {type(made).__name__}, or a second one")
        made.state = state

    def load_bytes(self) -> None:
        """BYTEARRAY8, as bytes: the original zeroes the length that the file claims before it reads."""
        self.append(self.read(int.from_bytes(self.read(8), "little")))

    def load_floats(self) -> None:
        """BINFLOAT; the run of them that a list of floats is written as is decoded at once, ten times as fast."""
        frame = self._unframer.current_frame
        if frame is None:  # protocols 0 to 3 have no frames
            return self.load_binfloat()
        start, buffer = frame.tell() - 1, frame.getbuffer()
        count = min((len(buffer) - start) // 9, FLOATS_AT_ONCE)
        if not count:
            return self.load_binfloat()
        block = np.frombuffer(buffer, np.uint8, count * 9, start).reshape(count, 9)  # opcode, 8 bytes
        run = int(np.argmin(np.append(block[:, 0] == pickle.BINFLOAT[0], False)))
        self.stack.extend(block[:run, 1:].copy().view(">f8").ravel().tolist())
        frame.seek(start + run * 9)

    dispatch = _Opcodes(
        {code: pickle._Unpickler.dispatch[code] for code in (getattr(pickle, name)[0] for name in OPCODES.split())}
        | {pickle.REDUCE[0]: load_call, pickle.NEWOBJ[0]: load_call, pickle.BUILD[0]: load_state}
        | {pickle.BYTEARRAY8[0]: load_bytes, pickle.BINFLOAT[0]: load_floats}
    )


def read_columns(path: Path, required: tuple[str, ...], optional: tuple[str, ...] = ()) -> dict[str, np.ndarray]:
    """The named columns of the pickled DataFrame in `path`: (N,) arrays of numbers or objects.

    The objects are as the file holds them: pass what you take out of them through `plain`.
    InputError on anything that is not such a table, and on code (with the name of what it tried to load).
    """
    try:
        with naming(path), path.open("rb") as file:
            columns = _columns(_Reader(file, path).load())
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except InputError as error:
        raise error if str(error).startswith(f"{path}: ") else InputError(f"{path}: {error}") from None
    except OSError:
        raise
    except Exception as error:  # a damaged file can make the machine stumble over anything
        what = str(error) or "it ends too early"
        raise InputError(f"{path}: truncated or not a pickled table ({type(error).__name__}: {what})") from None
    if missing := [name for name in required if name not in columns]:
        raise InputError(f"{path}: no column {', '.join(missing)} (found {', '.join(map(str, columns))})")
    # Copies: a column is a row of a block, and would keep all the others in memory
    return {name: columns[name].copy() for name in (*required, *optional) if name in columns}


def plain(value: Any) -> Any:
    """A value inside an object column -> the numpy array, numpy scalar or plain Python value that it stands for.

    What stands for none of these, or is damaged, is returned as it is: inert, and of no type that is expected.
    """
    if type(value) is not Made:
        return value
    try:
        if value.kind == "scalar":
            dtype, raw = value.args
            return np.frombuffer(_bytes(raw), _dtype(dtype)).reshape(())[()]
        return _bytes(value) if value.kind == "bytes" else _array(value)
    except Exception:  # the file's arguments can be anything
        return value


def _columns(frame: Any) -> dict[Any, np.ndarray]:
    if type(frame) is not Made or frame.kind != "frame":
        raise InputError(f"holds a {_name(frame)}, expected a pandas DataFrame")
    manager = _expect(frame.state.get("_mgr", frame.state.get("_data")), "manager")
    if not manager.args:
        raise InputError("written by pandas before 1.3; load it there and save it with a newer one")
    blocks, axes = manager.args
    names = _array(_expect(axes[0], "index").args[1]["data"]).tolist()
    if len(set(names)) < len(names):
        raise InputError(f"columns of the same name ({listed(sorted({n for n in names if names.count(n) > 1}))})")
    columns = {}
    for block in blocks:
        values, placement, _ = _expect(block, "block").args
        values = _array(values)  # (columns of the block, N)
        if values.ndim != 2:
            raise ValueError(f"a block of {values.ndim} axes, expected 2")
        for position, row in zip(_placement(placement, len(names)), values, strict=True):
            columns[names[position]] = row
    if len(columns) < len(names) or len({column.shape for column in columns.values()}) > 1:
        raise InputError("columns of different lengths")
    return columns


def _placement(placement: Any, count: int) -> list[int]:
    """Which columns a block holds: a slice or an array of positions."""
    if type(placement) is Made and placement.kind == "slice":
        return list(range(count))[slice(*placement.args)]
    return _array(placement).tolist()


def _array(made: Any) -> np.ndarray:
    if type(made) is Made and made.kind == "buffer":
        raw, dtype, shape, order, *axes = made.args
        array = np.frombuffer(_bytes(raw), _dtype(dtype))
        if order == "K":  # numpy 2.3 on: stored with its axes in another order
            return array.reshape(shape).transpose(axes[0])
        return array.reshape(shape, order=order)
    _, shape, dtype, fortran, raw = _expect(made, "array").state
    if dtype.args[0] in ("O8", "O4", "O"):
        if type(raw) is not list or len(raw) != math.prod(shape):
            raise ValueError(f"an array of shape {shape} without its values")
        array = np.empty(len(raw), object)
        for position, value in enumerate(raw):  # one by one: numpy would take lists in it for further axes
            array[position] = value
    else:
        array = np.frombuffer(_bytes(raw), _dtype(dtype))
    return array.reshape(shape, order="F" if fortran else "C")


def _dtype(made: Any) -> np.dtype:
    code, state = _expect(made, "dtype").args[0], made.state or (3, "=", None, None, None)
    if not NUMBER_OR_TEXT.fullmatch(code) or state[1] not in ("<", ">", "=", "|") or any(state[2:5]):
        raise ValueError(f"an array of type {code!r}, expected numbers, text or objects")
    return np.dtype(state[1] + code)


def _bytes(value: Any) -> bytes:
    if type(value) is Made and value.kind == "bytes" and value.args == ():
        return b""
    if type(value) is Made and value.kind == "bytes":
        text, codec = value.args
        if codec != "latin1":  # other codecs would be looked up, and imported, by the name in the file
            raise ValueError(f"bytes written as {codec!r}")
        return text.encode("latin1")
    if type(value) is not bytes:
        raise ValueError(f"a {type(value).__name__} where bytes belong")
    return value


def _expect(value: Any, kind: str) -> Made:
    if type(value) is not Made or value.kind != kind:
        raise ValueError(f"a {_name(value)} where a table has its {kind}")
    return value


def _name(value: Any) -> str:
    return value.kind if type(value) in (Made, Named) else type(value).__name__
