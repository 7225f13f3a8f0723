"""A table, and the feature files and videos beside it -> a data set: all is read and checked before any is written."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from common.console import InputError, listed
from common.lock import locked
from dataloader.description import Label
from dataloader.importing.columns import ColumnSettings, make_items, refuse_rows_without_ids
from dataloader.importing.feature_files import load_arrays
from dataloader.importing.metadata import ALL, Chosen, name_of
from dataloader.importing.scaling import add_normalised, refuse_other
from dataloader.importing.settings import FileSettings, TableSettings, refuse_idle_flags, refuse_split
from dataloader.importing.splits import SplitSettings
from dataloader.importing.tables import Table, as_text, read_table
from dataloader.importing.video_files import check_videos, leads_away, write_named
from dataloader.items import Items
from dataloader.modalities import RETRIEVAL
from dataloader.replacing import add_column
from dataloader.skipped import write_skipped_rows
from dataloader.store import FeatureStore

MADE_IDS = "made_ids"  # in dataset.json: the table had no ids, so that they were made of what else it says
TABLE = "table"  # in dataset.json: which columns of the table were what, so that further tables are read alike


@dataclass(frozen=True)
class Given:
    """What the user said of the data set in `folder`.

    typed: the flags that stood on the command line. keep_frames: the frames of videos are kept as files.
    """

    table: Path
    folder: Path
    columns: ColumnSettings
    splits: SplitSettings
    reading: TableSettings
    files: FileSettings
    typed: Mapping[str, Any]
    family: str
    keep_frames: bool
    overwrite: bool


@dataclass(frozen=True)
class Gathered:
    """What the data set is made of. kept: mask of the table's rows that are items; digests: of the arrays as they will
    be stored; videos: item id -> its file, where a column says it."""

    table: Table
    items: Items
    kept: np.ndarray
    metadata: Chosen
    arrays: dict[str, np.ndarray]
    digests: dict[str, str]
    videos: dict[str, str] | None


def import_table(given: Given) -> tuple[FeatureStore, list[str]]:
    """The data set, made or gone on with, and the features that files of this import brought.

    InputError with all that is wrong, before anything is written.
    """
    refuse_split(given.splits, given.columns)
    compared = [RETRIEVAL] if given.files.compared else []
    with_videos = given.files.videos is not None
    refuse_idle_flags(given.typed, given.columns, {*given.files.named, *compared}, with_videos=with_videos)
    gathered = gather(given)
    say_what_was_found(given, gathered)
    with locked(given.folder):
        return write(given, gathered)


def gather(given: Given) -> Gathered:
    named, how, files = given.columns, given.reading, given.files
    without_ids, asked = "id_column" not in given.typed, named.metadata_columns or []
    # Features may be all that there is; without them a table without texts is one whose column has another name.
    others = named.metadata_columns or files.named or files.videos
    optional = {*named.text_column} if others and "text_column" not in given.typed else set()
    table = read_table(
        given.table,
        [*named.wanted, *(how.same_video or [])],
        optional | ({named.id_column} if without_ids else set()),
        encoding=how.encoding,
        sheet=how.sheet,
        policy=how.policy,
        metadata=[name_of(text) for text in asked if text != ALL],
        every=ALL in asked,
    )
    refuse_rows_without_ids(given.table, table, named)
    keeping = {"skip": how.policy == "skip", "keep": how.keep, "same_video": how.same_video or ()}
    items, kept, metadata = make_items(table, named, given.splits, without_ids=without_ids, **keeping)
    told = table.faults.told(how.policy)
    problems = [f"--table {given.table}: {'; '.join(told)}"] if told else []
    arrays, digests = load_arrays(files.named, files.compared, items, kept, files.modes, files.dtype, problems)
    videos = files_of_videos(table, named.video_column, items.item_id, kept, given.table, problems)
    if files.videos and not problems:
        check_videos(files.videos, videos, items.item_id, given.table, keep_frames=given.keep_frames)
    if problems:
        raise InputError("; ".join(problems))
    return Gathered(table, items, kept, metadata, arrays, digests, videos)


def say_what_was_found(given: Given, gathered: Gathered) -> None:
    named, found = given.columns, ", ".join(gathered.table.found)
    gathered.table.faults.say(given.table)
    if gathered.metadata.said:
        print("\n".join(["metadata:", *(f"  {line}" for line in gathered.metadata.said)]))
    if not gathered.items.has_text:
        print(f"no texts: no column {' or '.join(named.text_column)}, or nothing in it (columns: {found})")
    if not named.targets:
        print(f"no --count_column or --label_column (columns: {found}): all items are of split predict")


def write(given: Given, gathered: Gathered) -> tuple[FeatureStore, list[str]]:
    folder, named, files, arrays = given.folder, given.columns, given.files, dict(gathered.arrays)
    scale, offset = ("log2", named.log_offset) if named.count_column else ("none", 0)
    label = Label(tuple(named.targets or ["label"]), scale, offset, given.splits.in_words(named.split_column))
    how = {"family": given.family, "label": label, "overwrite": given.overwrite}
    store = FeatureStore.create_or_continue(folder, gathered.items, **how)
    before = store.description
    sources, compared = {name: Path(file).name for name, file in files.named.items()}, files.compared
    if compared and (RETRIEVAL in store.features or set(store.arrays) - set(arrays)):
        # The features that are here already are compared, or are to be.
        del arrays[RETRIEVAL]
    elif compared:
        sources[RETRIEVAL] = f"{sources[compared]}: the {compared} features, as no --retrieval was given"
        print(f"no --retrieval given: the {compared} features serve as retrieval vectors too")
    there = {name for name in arrays if name in store.features}
    for name in there:
        refuse_other(store, name, gathered.digests[name], gathered.items)
    add_metadata(store, gathered.metadata, gathered.kept)
    made_ids = {MADE_IDS: True} if named.id_column not in gathered.table.columns else {}
    store.note(**made_ids, **{TABLE: {name: value for name, value in asdict(named).items() if value is not None}})
    table = gathered.table
    rows = [(item, f"{table.where(row)}: {why}") for row, (item, why) in sorted(table.faults.rows.items())]
    skipped = write_skipped_rows(folder, rows)
    if rows:
        print(f"{len(rows)} of {len(gathered.kept)} rows left out, listed in {skipped}")
    if files.videos or given.overwrite:  # features that are added later leave the names of the videos as they are
        write_named(folder, gathered.videos)
    for name in [name for name in arrays if name not in there]:
        add_normalised(store, name, arrays[name], files.modes[name], dtype=files.dtype, source=sources[name])
    for warning in store.check_features(*(name for name in arrays if name != RETRIEVAL)):
        print(f"warning: {warning}", file=sys.stderr)
    store.finish()
    if store.description == before and not files.videos:
        print(f"{folder}: finished already, nothing was missing")
    return store, list(arrays)


def add_metadata(store: FeatureStore, chosen: Chosen, kept: np.ndarray) -> None:
    """Write the metadata; those that are here already must be the same."""
    metadata = chosen.of(kept)
    there = store.metadata and store.metadata.without(store.description.added_columns)
    if there is not None and metadata is not None:
        if metadata.digest() != there.digest():
            raise InputError(f"{store.folder}: other metadata are here already; --overwrite begins the data set anew")
    elif metadata is not None:
        added = {name: store.metadata.columns[name] for name in store.description.added_columns}
        store.add_metadata(metadata, consequences=chosen.consequences)
        for name, values in added.items():
            add_column(store, name, values)
    if chosen.consequences:
        print(
            f"warning: {listed(chosen.consequences)}: counted after publication, so no prediction before it can have "
            "them; every result of this data set says so",
            file=sys.stderr,
        )


def files_of_videos(
    table: Table, column: str | None, item_ids: np.ndarray, kept: np.ndarray, path: Path, problems: list[str]
) -> dict[str, str] | None:
    """Item id -> its video's file, as the column says; None without one. Paths that lead elsewhere are problems."""
    if not column:
        return None
    told: list[str] = []
    names = as_text(table.columns[column], column, told)[kept]
    files = {item: name.strip().replace("\\", "/") for item, name in zip(item_ids, names, strict=True)}
    outside = [f"{item}: {file}" for item, file in files.items() if ".." in Path(file).parts or leads_away(file)]
    if outside:
        told.append(
            f"column {column}: {len(outside)} files are not in the folder --videos ({listed(outside)}); name them "
            "relative to it"
        )
    problems += [f"--table {path}: {problem}" for problem in told]
    return files
