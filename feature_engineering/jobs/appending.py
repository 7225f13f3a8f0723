"""Items that arrive, and counts that become known, into a data set that is there: features of the new ones are made."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from common.console import InputError, listed
from common.files import read_json, require_writable
from dataloader.growing import CAME, additions, grow
from dataloader.importing.newcomers import Newcomers, already_there, read_newcomers
from dataloader.importing.settings import TableSettings
from dataloader.items import Items
from dataloader.skipped import SOUND, lost_items, read_skipped, write_skipped
from dataloader.store import FeatureStore
from feature_engineering.jobs.likewise import WORK, Encoders, OtherWork, begin_likewise, make_likewise
from feature_engineering.jobs.skipped import NothingUsable
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
    found, folder = read_newcomers(store, table, reading, split, horizon, with_ids=True), store.folder / FOLDER
    if came_in(store, folder):  # killed when it was done but for this
        shutil.rmtree(folder)
    there, items = already_there(store, found.items), found.items
    rows = np.array([there.get(item_id, -1) for item_id in items.item_id])
    new, counted = rows < 0, np.isfinite(items.label).all(axis=1)
    waiting = (rows >= 0) & (store.items.split[rows] == "predict")
    filled, came = items.take(waiting & counted), items.take(new).digest() if new.any() else ""
    say_what_stays(store, items, rows, ~new & ~waiting & counted)
    encoded = None
    if new.any():
        encoded = encode(store, folder, found.take(new), encoders, given, frames, decoding)
    if encoded is None and not len(filled):
        why = (
            "nothing new can be used" if new.any() else f"all {len(items)} items of {table} are in the data set already"
        )
        print(f"{store.folder}: {why}; nothing is written")
        return store
    grown = grow(store, encoded, filled, split, came)
    shutil.rmtree(folder, ignore_errors=True)
    if store.label.by_time and split != "test":
        print(
            "note: the data set is split by time, and what came to train may be newer than what is tested; "
            "--append_split test, or an import of the longer table, keeps what is tested the newest",
            file=sys.stderr,
        )
    counts = {name: int((grown.items.split == name).sum()) for name in dict.fromkeys(grown.items.split)}
    print(
        f"{store.folder}: {len(grown) - len(store)} new items, {len(filled)} counts filled in; now "
        f"{', '.join(f'{name} {count}' for name, count in counts.items())}"
    )
    return grown


def encode(
    store: FeatureStore,
    folder: Path,
    found: Newcomers,
    encoders: Encoders,
    given: Mapping[str, str],
    frames: FrameSettings,
    decoding: DecodingSettings,
) -> FeatureStore | None:
    """The new items with their features; None where none could be used. What could not is listed in skipped.csv."""
    names, place = list(store.features), folder / ITEMS
    try:
        begun = begin_likewise(place, found, encoders, names, given, frames)
    except OtherWork as error:
        raise InputError(
            f"{folder}: the unfinished work of another --append ({error}); type that command again, or remove the "
            "folder"
        ) from None
    try:
        encoded = make_likewise(begun, encoders, names, given, frames, decoding, found.order)
    except NothingUsable as error:
        print(f"warning: {error}", file=sys.stderr)
        encoded = None
    without_sound = {row["item_id"]: row["reason"] for row in read_skipped(place) if row["stage"] == SOUND}
    for stage, reasons in (("append", lost_items(place)), (SOUND, without_sound)):
        write_skipped(store.folder, stage, reasons, tried=found.items.item_id)
    if encoded is None:
        shutil.rmtree(folder)
    return encoded


def came_in(store: FeatureStore, folder: Path) -> bool:
    """Whether the new items in `folder` are those of the last addition, which is in the data set."""
    path, last = folder / ITEMS / WORK, additions(store)[-1:]
    return path.exists() and bool(last) and read_json(path).get("items") == last[0].get(CAME)


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
