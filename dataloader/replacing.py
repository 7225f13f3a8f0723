"""The files of a data set without some of its items: written beside the old ones, then all put in their place."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from common.arrays import blocks, digest, reserve
from common.files import written_beside
from dataloader.description import FILE, Feature
from dataloader.metadata import FILE as METADATA_FILE
from dataloader.modalities import METADATA
from dataloader.thumbnails import FILE as THUMBNAILS
from dataloader.thumbnails import keep_thumbnails

if TYPE_CHECKING:
    from dataloader.store import FeatureStore

UNSCALED = "unscaled"  # <name>.unscaled.npy: features before statistics of split train scaled them
NEXT = ".next"  # behind the names of files that wait to replace those of a data set


def write_next(store: FeatureStore, kept: np.ndarray) -> None:
    """Write the data set of the items in the mask `kept` (N,) beside that of `store`; finish_replacement does the rest.

    A kill before the last line leaves the old data set, one after it the new one, which the next opening puts in place.
    """
    for stale in store.folder.glob(f"*{NEXT}"):  # of a killed attempt
        stale.unlink()
    items, rows = store.items.take(kept), np.flatnonzero(kept)
    description = replace(store.description, items=items.digest())
    for name, array in store.features.items():
        feature = store.description.features[name]
        shape, sha256 = _write_rows(array, rows, store.folder / f"{name}.npy{NEXT}")
        made = dict(feature.made)
        if UNSCALED in made:
            unscaled = store.unscaled(name)
            made[UNSCALED] = _write_rows(unscaled, rows, store.folder / f"{name}.{UNSCALED}.npy{NEXT}")[1]
        description = description.with_feature(name, Feature(shape, feature.dtype, sha256, made))
    if store.metadata is not None:
        metadata, feature = store.metadata.take(rows), store.description.features[METADATA]
        metadata.write(store.folder / f"{METADATA_FILE}{NEXT}")
        shape = (len(rows), *feature.shape[1:])
        description = description.with_feature(METADATA, replace(feature, shape=shape, sha256=metadata.digest()))
    keep_thumbnails(store.folder / THUMBNAILS, store.folder / f"{THUMBNAILS}{NEXT}", items.item_id)
    items.write(store.folder / f"items.parquet{NEXT}")
    description.write(store.folder / f"{FILE}{NEXT}")


def finish_replacement(folder: Path) -> None:
    """Put the files that write_next wrote into place: dataset.json.next, written last, says that they are complete."""
    if not (folder / f"{FILE}{NEXT}").exists():
        return
    # dataset.json comes last, as long as its .next stands the replacement is not finished.
    for new in sorted(folder.glob(f"*{NEXT}"), key=lambda path: path.name == f"{FILE}{NEXT}"):
        for neighbours in (folder / "neighbours.npz", *folder.glob("neighbours/*.npz")):
            neighbours.unlink(missing_ok=True)  # their rows are the old ones
        new.replace(new.with_name(new.name.removesuffix(NEXT)))


def _write_rows(array: np.ndarray, rows: np.ndarray, path: Path) -> tuple[tuple[int, ...], str]:
    """Write these rows of `array` to `path`; their shape and digest."""
    with written_beside(path) as partial:
        shape = (len(rows), *array.shape[1:])
        out = np.lib.format.open_memmap(partial, mode="w+", dtype=array.dtype, shape=shape)
        reserve(partial)
        for block in blocks(array, len(rows)):
            out[block] = array[rows[block]]
        out.flush()
        return shape, digest(out)
