"""The files of a data set without some of its items: written beside the old ones, then all put in their place."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from common.arrays import Joined, Rows, blocks, digest, reserve
from common.files import put_in_place, written_beside
from common.lock import locked
from common.room import naming
from dataloader.description import FILE, Description, Feature
from dataloader.items import Items
from dataloader.metadata import FILE as METADATA_FILE
from dataloader.metadata import Metadata
from dataloader.modalities import METADATA
from dataloader.thumbnails import FILE as THUMBNAILS
from dataloader.thumbnails import keep_thumbnails

if TYPE_CHECKING:
    from dataloader.store import FeatureStore

Array = np.ndarray | Rows | Joined
LINES = ("captions.jsonl", "captured.jsonl")  # beside the arrays, a line an item
UNSCALED = "unscaled"  # <name>.unscaled.npy: features before statistics of split train scaled them
NEXT = ".next"  # behind the names of files that wait to replace those of a data set


def write_next(store: FeatureStore, kept: np.ndarray) -> None:
    """Write the data set of the items in the mask `kept` (N,) beside that of `store`; finish_replacement does the rest.

    A kill before the last line leaves the old data set, one after it the new one, which the next opening puts in place.
    """
    clear(store.folder)
    rows = np.flatnonzero(kept)
    unscaled = {name: Rows(store.unscaled(name), rows) for name in scaled(store)}
    write_beside(
        store,
        store.items.take(kept),
        {name: Rows(array, rows) for name, array in store.features.items()},
        unscaled,
        store.metadata and store.metadata.take(rows),
        lambda _: store.description.lineage,
        [store.folder],
    )


def write_grown(
    store: FeatureStore,
    new: FeatureStore | None,
    items: Items,
    metadata: Metadata | None,
    lineage: Callable[[Description], dict],
) -> None:
    """The same of all its items and of those of `new` behind them, which are scaled as they are.

    lineage: what it is to say of where it comes from, given what it says else.
    """
    from dataloader.importing.video_files import NAMED, read_named, write_named

    clear(store.folder)
    features, unscaled = dict(store.features), {name: store.unscaled(name) for name in scaled(store)}
    if new is not None:
        features = {name: Joined(array, new.features[name]) for name, array in features.items()}
        unscaled = {name: Joined(array, new.unscaled(name)) for name, array in unscaled.items()}
        for name in LINES:
            append_lines(store.folder / name, new.folder / name)
        if (named := read_named(store.folder)) is not None and (more := read_named(new.folder)):
            write_named(store.folder, named | more, f"{NAMED}{NEXT}")
    folders = [store.folder] if new is None else [store.folder, new.folder]
    write_beside(store, items, features, unscaled, metadata, lineage, folders)


def add_column(store: FeatureStore, name: str, values: np.ndarray) -> None:
    """Put a column (N,) that was made of the videos behind the metadata of `store`, in place of one of before.

    A kill leaves the old metadata or the new ones, which the next opening puts into place.
    """
    there, described = store.metadata, store.description.features.get(METADATA)
    columns = there.columns if there is not None else {}
    metadata = Metadata({key: column for key, column in columns.items() if key != name} | {name: values})
    made = described.made if described is not None else {}
    made = made | {"columns": metadata.kinds, "added": sorted({*store.description.added_columns, name})}
    feature = Feature((len(metadata), len(metadata.columns)), "columns", metadata.digest(), made)
    if feature == described:
        return
    changed = store.described_now(METADATA).with_feature(METADATA, feature)
    clear(store.folder)
    metadata.write(store.folder / f"{METADATA_FILE}{NEXT}")
    changed.write(store.folder / f"{FILE}{NEXT}")
    finish_replacement(store.folder)
    store.description, store.metadata = replace(store.description, features=changed.features), metadata


def scaled(store: FeatureStore) -> list[str]:
    """The features that split train's statistics scaled, and that are kept as they were before."""
    return [name for name in store.features if UNSCALED in store.description.features[name].made]


def clear(folder: Path) -> None:
    for stale in folder.glob(f"*{NEXT}"):  # of a killed attempt
        stale.unlink()


def append_lines(path: Path, more: Path) -> None:
    """Of JSON lines: those of `more` behind those of `path`, but for a first line that says what made them."""
    if not (path.exists() and more.exists()):
        return
    with naming(more):
        lines = more.read_bytes().split(b"\n")
    if lines[0].startswith(b'{"encoder"'):
        del lines[0]
    with naming(path):
        content = path.read_bytes()
    with written_beside(path.with_name(path.name + NEXT)) as partial:
        partial.write_bytes(content + b"\n" * (not content.endswith(b"\n")) + b"\n".join(lines))


def write_beside(
    store: FeatureStore,
    items: Items,
    features: Mapping[str, Array],
    unscaled: Mapping[str, Array],
    metadata: Metadata | None,
    lineage: Callable[[Description], dict],
    folders: Sequence[Path],
) -> None:
    """folders: of the data sets whose items they are."""
    description = replace(store.description, items=items.digest())
    for name, array in features.items():
        feature = store.description.features[name]
        shape, sha256 = _write(array, store.folder / f"{name}.npy{NEXT}")
        made = dict(feature.made)
        if name in unscaled:
            made[UNSCALED] = _write(unscaled[name], store.folder / f"{name}.{UNSCALED}.npy{NEXT}")[1]
        description = description.with_feature(name, Feature(shape, feature.dtype, sha256, made))
    now = {store.description.features[name].sha256: feature.sha256 for name, feature in description.features.items()}
    for name, feature in description.features.items():  # what vectors were made of is what it has become
        if made_of := feature.made.get("made_of"):
            made = feature.made | {"made_of": {side: now.get(sha256, sha256) for side, sha256 in made_of.items()}}
            description = description.with_feature(name, replace(feature, made=made))
    if metadata is not None:
        feature = store.description.features[METADATA]
        metadata.write(store.folder / f"{METADATA_FILE}{NEXT}")
        shape = (len(metadata), *feature.shape[1:])
        description = description.with_feature(METADATA, replace(feature, shape=shape, sha256=metadata.digest()))
    keep_thumbnails(folders, store.folder / f"{THUMBNAILS}{NEXT}", items.item_id)
    items.write(store.folder / f"items.parquet{NEXT}")
    replace(description, lineage=lineage(description)).write(store.folder / f"{FILE}{NEXT}")


def finish_replacement(folder: Path) -> None:
    """Put the files of write_next or write_grown in place: dataset.json.next, written last, says that they are all."""
    if not (folder / f"{FILE}{NEXT}").exists():
        return
    with locked(folder):
        if (folder / f"items.parquet{NEXT}").exists():
            for neighbours in (folder / "neighbours.npz", *folder.glob("neighbours/*.npz")):
                neighbours.unlink(missing_ok=True)  # their rows are the old ones
        # dataset.json comes last, as long as its .next stands the replacement is not finished.
        for new in sorted(folder.glob(f"*{NEXT}"), key=lambda path: path.name == f"{FILE}{NEXT}"):
            put_in_place(new, new.with_name(new.name.removesuffix(NEXT)))


def _write(array: Array, path: Path) -> tuple[tuple[int, ...], str]:
    """Write an array to `path`; its shape and digest."""
    with written_beside(path) as partial:
        out = np.lib.format.open_memmap(partial, mode="w+", dtype=array.dtype, shape=array.shape)
        reserve(partial)
        for block in blocks(array):
            out[block] = array[block]
        out.flush()
        return array.shape, digest(out)
