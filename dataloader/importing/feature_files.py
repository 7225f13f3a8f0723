"""Feature arrays from files: `.npy`; `.npz` with one array, a named one (`file.npz:key`), ids beside it, or an array of
each item under its id; `.pt` and `.pth` of plain tensors, one for all items or one under each id."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from common.archives import Archive, Head, opened, read_tensors, readable
from common.arrays import scan
from common.console import InputError, listed
from common.files import open_array
from common.room import in_bytes
from dataloader.checks import not_finite
from dataloader.importing.scaling import check_normalised
from dataloader.items import Items
from dataloader.modalities import RETRIEVAL, axes, shape_in_words

if TYPE_CHECKING:
    import torch

TORCH = (".pt", ".pth")
ID_KEYS = ("item_id", "item_ids", "ids")
MOST_IDS = 1 << 30  # bytes of the ids of a file


def load_features(
    path: Path, name: str, item_ids: np.ndarray, order: np.ndarray | None = None, kept: np.ndarray | None = None
) -> np.ndarray:
    """The array for `name`, row i belonging to `item_ids[i]`, with the axes that dataloader/modalities.py says.

    (N, Dv) is taken for visual too, as one frame. A file may hold `item_id` beside its array, or an array of each item
    under its id; rows are then matched by id (more rows than items are allowed), else they must stand in the order of
    the items, or of the ids `order`. kept: mask of the rows of a file without ids whose items these are; without it
    all. InputError on anything that is not finite numbers of that shape, all problems in one message.
    """
    array, ids = _read(Path(path), item_ids)
    if ids is None and order is not None and array.ndim and len(array) == len(order):
        ids = order.tolist()
    problems, rows = [], None  # of the file, those of the items; None: all
    if array.dtype.kind not in "fiu":
        raise InputError(f"{path}: {array.dtype} values, expected numbers")
    framed = name == "visual" and array.ndim == 2
    shape = (*array.shape[:1], 1, *array.shape[1:]) if framed else array.shape  # (N, 1, Dv)
    if len(shape) not in axes(name) or 0 in shape[1:]:
        frame = " or (items, dimension)" if name == "visual" else ""
        problems.append(f"shape {array.shape}, expected {shape_in_words(name)}{frame}")
    elif ids is not None and len(ids) != len(array):
        problems.append(f"{len(ids)} ids beside {len(array)} rows")
    elif ids is not None:
        row_of = {item_id: row for row, item_id in enumerate(ids)}
        if len(row_of) < len(ids):
            problems.append(f"{len(ids) - len(row_of)} duplicate ids in it")
        if missing := [item_id for item_id in item_ids if item_id not in row_of]:
            problems.append(f"no row for {len(missing)} items ({listed(missing)})")
        if not problems:
            rows = np.array([row_of[item_id] for item_id in item_ids], np.int64)
    elif len(array) != (len(item_ids) if kept is None else len(kept)):
        of = f"{len(item_ids)} items" if kept is None or kept.all() else f"{len(kept)} rows in the table"
        problems.append(f"{len(array)} rows, but there are {of}")
    elif kept is not None and not kept.all():
        rows = np.flatnonzero(kept)
    if problems:
        raise InputError(f"{path}: {'; '.join(problems)}")
    if isinstance(array, Packed) or rows is not None:
        array = array[np.arange(len(array)) if rows is None else rows]
    array = array[:, None, :] if framed else array
    bad, _, _ = scan(array)
    if bad.any():
        raise InputError(f"{path}: {not_finite(bad, item_ids)}{beyond_float32(array, bad)}")
    return array


def beyond_float32(array: np.ndarray, bad: np.ndarray) -> str:
    """What to add where what is not finite as float32 is in the file: of (N, ...), and which rows are not, (N,)."""
    if array.dtype.itemsize <= 4 or not np.isfinite(array[bad]).all():
        return ""
    return (
        f": its {array.dtype} values lie beyond float32, which ends at {np.finfo(np.float32).max:.1e}; scale them down"
    )


class Packed:
    """An array of an .npz file, which is not read before its rows are asked for."""

    def __init__(self, path: Path, name: str, head: Head):
        self.path, self.name, self.shape, self.dtype, self.ndim = path, name, head.shape, head.dtype, len(head.shape)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: np.ndarray) -> np.ndarray:
        with opened(self.path, packed=True) as archive:
            return archive.rows(self.name, rows)


def has_ids(path: Path) -> bool:
    """Whether the file says whose its rows are; for one that load_features has read."""
    path, key = _split_key(path)
    if path.suffix in TORCH:
        return isinstance(_tensors(path), dict)
    if path.suffix != ".npz":
        return False
    with opened(path, packed=True) as archive:
        return any(name in archive.names for name in ID_KEYS) or (key is None and len(archive.names) > 1)


def _read(path: Path, item_ids: np.ndarray) -> tuple[np.ndarray | Packed, list[str] | None]:
    """The array of a file and, where it says so, the ids of its rows."""
    path, key = _split_key(path)
    if path.suffix == ".npy":
        return open_array(path), None
    if path.suffix in TORCH:
        content = _tensors(path)
        return _stacked(path, content, item_ids) if isinstance(content, dict) else (content, None)
    if path.suffix != ".npz":
        raise InputError(f"{path}: features are read from .npy, .npz, .pt and .pth files")
    try:
        with opened(path, packed=True) as archive:
            names = archive.names
            of_ids = next((name for name in ID_KEYS if name in names), None)
            arrays = [name for name in names if name not in ID_KEYS]
            if key is None and of_ids is None and (there := set(arrays) & set(item_ids.tolist())):
                _same_shapes(path, {name: archive.head(name).shape for name in arrays if name in there})
                return _stacked(path, {name: archive.read(name) for name in arrays if name in there}, item_ids)
            if key is None:
                key = arrays[0] if len(arrays) == 1 else "arr_0"
            if key in names:
                found = Packed(path, key, archive.head(key))
                return found, None if of_ids is None else _ids(archive, of_ids, found)
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    raise InputError(f"{path}: which of its arrays ({', '.join(names)})? name it: {path.name}:<array>")


def _ids(archive: Archive, name: str, of: Packed) -> list[str]:
    head = archive.head(name)
    number = math.prod(head.shape)
    if of.ndim and number != len(of):
        raise InputError(f"{archive.path}: {number} ids beside {len(of)} rows")
    if head.nbytes > MOST_IDS:
        raise InputError(f"{archive.path}: ids of {in_bytes(head.nbytes)}; at most {in_bytes(MOST_IDS)} are read")
    return [as_text(value) for value in archive.read(name).ravel()]


def _stacked(path: Path, of: Mapping[str, np.ndarray], item_ids: np.ndarray) -> tuple[np.ndarray, list[str]]:
    """The arrays under the ids of the items, as one, and these ids; InputError where their shapes differ."""
    found = {item_id: of[item_id] for item_id in item_ids.tolist() if item_id in of}
    _same_shapes(path, {item_id: array.shape for item_id, array in found.items()})
    return np.stack(list(found.values())), list(found)


def _same_shapes(path: Path, of: Mapping[str, tuple[int, ...]]) -> None:
    if len(set(of.values())) != 1:
        shown = listed(f"{item_id}: {shape}" for item_id, shape in of.items())
        raise InputError(f"{path}: {f'arrays of several shapes ({shown})' if of else 'no item has an array in it'}")


def _tensors(path: Path) -> np.ndarray | dict[str, np.ndarray]:
    """A file that torch saved: one tensor, or a dictionary of them by their names. Nothing but tensors is read."""
    import torch

    try:
        content = read_tensors(path, "truncated, or not a file of plain tensors")
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    if isinstance(content, torch.Tensor):
        return _plain(path, content)
    if isinstance(content, dict) and content and all(isinstance(one, torch.Tensor) for one in content.values()):
        return {str(name): _plain(path, tensor) for name, tensor in content.items()}
    raise InputError(f"{path}: a tensor was expected, or a dictionary of item ids and tensors")


def _plain(path: Path, tensor: torch.Tensor) -> np.ndarray:
    import torch

    with readable(path, "a tensor that is no plain array"):
        tensor = tensor.detach()
        if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
            raise ValueError(f"a view of shape {tuple(tensor.shape)} of fewer values")
        # numpy knows no bfloat16
        known = not tensor.is_floating_point() or tensor.dtype in (torch.float16, torch.float32, torch.float64)
        return (tensor if known else tensor.float()).numpy()


def as_text(value: object) -> str:
    """An id; numpy may hold text as bytes."""
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _split_key(path: Path) -> tuple[Path, str | None]:
    name, colon, key = path.name.partition(".npz:")
    return (path.with_name(name + ".npz"), key) if colon else (path, None)


def as_retrieval(array: np.ndarray) -> np.ndarray:
    """(N, D), or of frames (N, F, D) their mean -> (N, D)."""
    return array if array.ndim == 2 else array.mean(axis=1, dtype=np.float32)


def load_arrays(
    files: dict[str, str],
    compared: str | None,
    items: Items,
    kept: np.ndarray,
    modes: dict[str, str],
    dtype: str,
    problems: list[str],
) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Name -> array, checked as it will be stored, and what its digest will be; what is wrong joins the problems.

    compared: the features that serve as retrieval vectors too. kept: mask of the table's rows that are items; rows of a
    file without ids are those of the table.
    """
    arrays, digests = {}, {}
    for name, file in [*files.items(), *([(RETRIEVAL, files[compared])] if compared else [])]:
        if name == RETRIEVAL and compared and compared not in arrays:
            continue  # What is wrong with them is in the list already.
        try:
            if name == RETRIEVAL and compared:
                array = as_retrieval(arrays[compared])
            else:
                array = load_features(Path(file), name, items.item_id, kept=kept)
            digests[name] = check_normalised(file, array, modes[name], dtype, items)
            arrays[name] = array
        except InputError as error:
            problems.append(str(error))
    return arrays, digests
