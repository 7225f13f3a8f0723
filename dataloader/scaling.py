"""`--normalise none|l2|standard`: bring imported features to the scale that the networks expect."""

from __future__ import annotations

import argparse
from collections.abc import Iterator

import numpy as np

from dataloader.console import InputError
from dataloader.store import ARRAYS, BLOCK_BYTES, FeatureStore

MODES = ("none", "l2", "standard")


def add_normalise_flag(parser: argparse.ArgumentParser, default: list[str]) -> None:
    parser.add_argument(
        "--normalise",
        nargs="+",
        default=default,
        metavar="[ARRAY=]MODE",
        help="none, l2 (each vector to length 1) or standard (each dimension to mean 0 and variance 1, by statistics "
        "of split train alone); one mode for all arrays, or one an array: visual=standard textual=l2",
    )


def modes_by_array(settings: list[str]) -> dict[str, str]:
    """`["l2"]` or `["visual=standard", "textual=l2"]` -> the mode of each array."""
    modes = dict.fromkeys(ARRAYS, "none")
    for setting in settings:
        name, _, mode = setting.rpartition("=")
        if mode not in MODES or (name and name not in ARRAYS):
            raise InputError(
                f"--normalise {setting}: expected one of {', '.join(MODES)}, alone or after one of "
                f"{', '.join(f'{array}=' for array in ARRAYS)}"
            )
        modes.update({name: mode} if name else dict.fromkeys(ARRAYS, mode))
    return modes


def add_normalised(
    store: FeatureStore, name: str, array: np.ndarray, mode: str, *, dtype="float32", overwrite=False, **source
) -> None:
    """Write `array` (N, ..., D) into the store as `name`, normalised by `mode`, in blocks of rows."""
    if mode == "standard":
        mean, std = _train_statistics(array, store.rows("train"))
        source["statistics"] = {"mean": mean.tolist(), "std": std.tolist()}
    with store.add_array(name, array.shape, dtype, normalise=mode, overwrite=overwrite, **source) as out:
        for rows in _blocks(array):
            block = np.asarray(array[rows], dtype=np.float32)
            if mode == "standard":
                block = (block - mean) / std
            elif mode == "l2":
                length = np.linalg.norm(block, axis=-1, keepdims=True)
                block = block / np.where(length > 0, length, 1)
            out[rows] = block


def _train_statistics(array: np.ndarray, train: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation (D,) float32 over the items (and frames) of split train; constants get std 1."""
    total, squares, count = 0.0, 0.0, 0
    for rows in _blocks(array[: len(train)]):
        values = np.asarray(array[train[rows]], dtype=np.float64).reshape(-1, array.shape[-1])  # (n, D)
        total, squares, count = total + values.sum(axis=0), squares + (values**2).sum(axis=0), count + len(values)
    mean = total / count
    std = np.sqrt(np.maximum(squares / count - mean**2, 0))
    return mean.astype(np.float32), np.where(std > 1e-6 * np.abs(mean), std, 1).astype(np.float32)


def _blocks(array: np.ndarray) -> Iterator[slice]:
    step = max(1, BLOCK_BYTES // max(1, 8 * int(np.prod(array.shape[1:]))))
    for start in range(0, len(array), step):
        yield slice(start, start + step)
