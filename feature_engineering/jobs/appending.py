"""Items that arrive, and counts that become known, into a data set that is there: features of the new ones are made."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from common.console import InputError, listed
from common.files import require_writable
from dataloader.growing import grow
from dataloader.importing.newcomers import already_there, read_newcomers, write_newcomers
from dataloader.importing.settings import TableSettings
from dataloader.items import Items
from dataloader.skipped import ROWS, read_skipped, write_skipped
from dataloader.store import FeatureStore
from feature_engineering.jobs.likewise import Encoders, make_likewise
from feature_engineering.settings import DecodingSettings, FrameSettings

FOLDER = "append.progress"  # in the data set's folder: the new items and their features, until they are in it
ITEMS = "items"


def append(
    store: FeatureStore,
    table: Path,
    reading: TableSettings,
    split: str,
    given: Mapping[str, str],
    frames: FrameSettings,
    decoding: DecodingSettings,
    encoders: Encoders,
    horizon: float | None,
) -> FeatureStore:
    """The data set with what the table has beyond it: new items, and counts of items of split predict.

    split: of what has a count. given: name of features -> a file with those of the new items, or of the whole table. A
    killed call is gone on with by the same one; where everything is there already nothing is written.
    """
    require_writable(store.folder)
    found = read_newcomers(store, table, reading, split, horizon)
    there, items = already_there(store, found.items), found.items
    rows = np.array([there.get(item_id, -1) for item_id in items.item_id])
    new, counted = rows < 0, np.isfinite(items.label).all(axis=1)
    waiting = (rows >= 0) & (store.items.split[rows] == "predict")
    filled = items.take(waiting & counted)
    say_what_stays(store, items, rows, ~new & ~waiting & counted)
    folder, encoded = store.folder / FOLDER, None
    if new.any():
        newcomers = found.take(new)
        try:
            encoded = write_newcomers(folder / ITEMS, newcomers, store)
        except InputError:
            raise InputError(
                f"{folder}: the unfinished work of another --append; type that command again, or remove the folder"
            ) from None
        encoded = make_likewise(encoded, encoders, list(store.features), given, frames, decoding, found.order)
    elif not len(filled):
        print(f"{store.folder}: all {len(items)} items of {table} are in the data set already; nothing is written")
        return store
    grown = grow(store, encoded, filled, split)
    if encoded is not None:
        lost = {row["item_id"]: row["reason"] for row in read_skipped(encoded.folder) if row["stage"] != ROWS}
        write_skipped(store.folder, "append", lost, tried=items.item_id[new])
        shutil.rmtree(folder)
    counts = {name: int((grown.items.split == name).sum()) for name in dict.fromkeys(grown.items.split)}
    print(
        f"{store.folder}: {len(grown) - len(store)} new items, {len(filled)} counts filled in; now "
        f"{', '.join(f'{name} {count}' for name, count in counts.items())}"
    )
    return grown


def say_what_stays(store: FeatureStore, items: Items, rows: np.ndarray, there: np.ndarray) -> None:
    """Of rows of the table whose items have a count in the data set already."""
    if not there.any():
        return
    same = np.isclose(items.label[there], store.items.label[rows[there]], equal_nan=True).all(axis=1)
    other = items.item_id[there][~same]
    print(
        f"{int(there.sum())} items have a count in the data set already and stay as they are"
        + (f"; of {len(other)} the table has another ({listed(other)})" if len(other) else "")
    )
