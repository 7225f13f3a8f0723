"""`--normalise none|l2|standard|standard+l2`: bring imported features to the scale that the networks expect."""

from __future__ import annotations

import argparse
import collections
from collections.abc import Iterator, Sequence

import numpy as np

from common.arrays import blocks, digest, digest_of, reserve
from common.console import InputError
from common.files import written_beside
from dataloader.checks import not_finite
from dataloader.description import Feature
from dataloader.items import Items
from dataloader.modalities import MODALITIES, RETRIEVAL, is_name
from dataloader.names import MODES
from dataloader.store import UNSCALED, FeatureStore


def add_normalise_flag(parser: argparse.ArgumentParser, default: list[str]) -> None:
    parser.add_argument(
        "--normalise",
        nargs="+",
        default=default,
        metavar="[ARRAY=]MODE",
        help="none, l2 (each vector to length 1), standard (each dimension to mean 0 and variance 1, by statistics "
        "of split train alone) or standard+l2 (one after the other); one mode for all "
        "arrays, or one an array: visual=standard textual=l2",
    )


def modes_by_array(settings: Sequence[str]) -> dict[str, str]:
    """`["l2"]` or `["visual=standard", "textual=l2"]` -> the mode of each array; "none" of those that are not named."""
    modes: dict[str, str] = collections.defaultdict(lambda: "none")
    for setting in settings:
        name, _, mode = setting.rpartition("=")
        if mode not in MODES or (name and not is_name(name)):
            raise InputError(
                f"--normalise {setting}: expected one of {', '.join(MODES)}, alone or after the name of an array, as "
                f"in {', '.join(f'{array}=' for array in (*MODALITIES, RETRIEVAL))}"
            )
        if name:
            modes[name] = mode
        else:
            modes = collections.defaultdict(lambda mode=mode: mode)
    return modes


def check_normalised(file: str, array: np.ndarray, mode: str, dtype: str, items: Items) -> str:
    """The digest of what `add_normalised` would write; InputError where it would fail, before anything is written."""
    if "standard" in mode and not len(items.rows("train")):
        raise InputError(f"{file}: --normalise standard takes its statistics from split train, which is empty")
    bad, sha = np.zeros(len(array), bool), digest_of(array.shape, np.dtype(dtype))
    for rows, block in _normalised(array, mode, _statistics(array, mode, items.rows("train"))):
        with np.errstate(over="ignore"):
            stored = block.astype(dtype)
        bad[rows] = ~np.isfinite(stored).reshape(len(stored), -1).all(axis=1)
        sha.update(np.ascontiguousarray(stored))
    if bad.any():
        raise InputError(f"{file}: as {dtype} with --normalise {mode}, {not_finite(bad, items.item_id)}")
    return sha.hexdigest()


def refuse_other(store: FeatureStore, name: str, sha256: str, items: Items) -> None:
    """InputError where the features `name` of the store are not those of this digest, made for `items`.

    Of a data set of which items were left out since nobody can tell, and they are taken for those.
    """
    if len(store) == len(items) and store.description.features[name].sha256 != sha256:
        raise InputError(
            f"{store.folder}: other {name} features are here already; --overwrite begins the data set anew"
        )


def add_normalised(
    store: FeatureStore,
    name: str,
    array: np.ndarray,
    mode: str,
    *,
    dtype: str = "float32",
    overwrite: bool = False,
    keep_unscaled: bool = True,
    like: Feature | None = None,
    **source,
) -> None:
    """Write `array` (N, ..., D) into the store as `name`, normalised by `mode`, in blocks of rows.

    keep_unscaled: what split train's statistics scale is kept beside it, as another split of the same items
    (as folds are) scales by another train. like: other features, whose statistics scale these in place of train's.
    """
    if "standard" in mode and like is None:
        store.rows("train")  # raises an InputError where it is empty
    unscaled = store.folder / f"{name}.{UNSCALED}.npy"
    statistics = _statistics(array, mode, store.items.rows("train")) if like is None else scale_of(like)
    if statistics:
        source["statistics"] = {"mean": statistics[0].tolist(), "std": statistics[1].tolist()}
    if statistics and keep_unscaled:
        with written_beside(unscaled) as partial:
            kept = np.lib.format.open_memmap(partial, mode="w+", dtype="float32", shape=array.shape)
            reserve(partial)
            for rows in blocks(array):
                kept[rows] = array[rows]
            kept.flush()
            source[UNSCALED] = digest(kept)
    with store.add_array(name, array.shape, dtype, normalise=mode, overwrite=overwrite, **source) as out:
        for rows, block in _normalised(array, mode, statistics):
            out[rows] = block
    if UNSCALED not in source:
        unscaled.unlink(missing_ok=True)  # of features that were there before


def scale_of(feature: Feature) -> tuple[np.ndarray, np.ndarray] | None:
    """Mean and standard deviation (D,) by which features were scaled; None where they were not."""
    said = feature.made.get("statistics")
    return said and (np.asarray(said["mean"], np.float32), np.asarray(said["std"], np.float32))


def _normalised(array: np.ndarray, mode: str, statistics) -> Iterator[tuple[slice, np.ndarray]]:
    """Blocks of rows, float32, normalised."""
    for rows in blocks(array):
        with np.errstate(over="ignore", invalid="ignore"):  # what is not finite then is refused by whoever stores it
            block = np.asarray(array[rows], dtype=np.float32)
            if "standard" in mode:
                mean, std = statistics
                block = (block - mean) / std
            if "l2" in mode:
                length = np.linalg.norm(block, axis=-1, keepdims=True)
                if np.isinf(length).any():  # squares beyond float32, of values that are not
                    block = block.astype(np.float64)
                    length = np.linalg.norm(block, axis=-1, keepdims=True)
                block = (block / np.where(length > 0, length, 1)).astype(np.float32)
        yield rows, block


def _statistics(array: np.ndarray, mode: str, train: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """Mean and standard deviation (D,) float32 over the items (and frames) of split train; constants get std 1."""
    if "standard" not in mode:
        return None
    total, squares, count = 0.0, 0.0, 0
    for rows in blocks(array, len(train)):
        values = (
            np.asarray(array[train[rows]], dtype=np.float32).astype(np.float64).reshape(-1, array.shape[-1])
        )  # (n, D)
        total, squares, count = total + values.sum(axis=0), squares + (values**2).sum(axis=0), count + len(values)
    mean = total / count
    std = np.sqrt(np.maximum(squares / count - mean**2, 0))
    return mean.astype(np.float32), np.where(std > 1e-6 * np.abs(mean), std, 1).astype(np.float32)
