"""Items that come after a data set was made: their table is read as its was, and says of them what is known of the old.

What is learned of the new is nothing: kinds of columns, scales and vocabularies are those of the data set.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np

from common.console import InputError, listed
from dataloader.importing.columns import ColumnSettings, make_items
from dataloader.importing.data_set import MADE_IDS, TABLE, files_of_videos
from dataloader.importing.metadata import is_blank
from dataloader.importing.settings import TableSettings
from dataloader.importing.splits import SplitSettings
from dataloader.importing.tables import Table, alike, read_table
from dataloader.importing.video_files import write_named
from dataloader.items import Items
from dataloader.metadata import AGE, Metadata
from dataloader.store import FeatureStore

USUAL = {"user": "user_column", "time": "time_column", "label_time": "label_time_column"}  # of the items -> its flag


@dataclass(frozen=True)
class Newcomers:
    """items, their metadata, and their videos' files by id. left_out: rows of the table that are none, and why.

    order: the items' ids in the order of the table's rows, in which a file of features without ids has them.
    """

    items: Items
    metadata: Metadata | None
    videos: dict[str, str] | None
    left_out: list[tuple[str, str]]
    order: np.ndarray

    def take(self, chosen: np.ndarray) -> Newcomers:
        """Of a mask of the items."""
        return replace(self, items=self.items.take(chosen), metadata=self.metadata and self.metadata.take(chosen))


def columns_of(store: FeatureStore) -> ColumnSettings:
    """Which columns of a table are what, as they were for the data set; InputError where its file says nonsense."""
    said = store.description.lineage.get(TABLE)
    if isinstance(said, dict):
        names = {one.name for one in fields(ColumnSettings)}
        return ColumnSettings(**{name: value for name, value in said.items() if name in names})
    usual = {flag: name for name, flag in USUAL.items() if name in store.items.origin}
    return ColumnSettings(text_column=["text"], **usual)


def kinds_of_table(store: FeatureStore) -> dict[str, str]:
    """The columns of metadata that a table says, and their kinds: without those that are made."""
    made = {AGE, *store.description.added_columns}
    return {} if store.metadata is None else {k: v for k, v in store.metadata.kinds.items() if k not in made}


def read_newcomers(
    store: FeatureStore,
    path: Path,
    reading: TableSettings,
    split_of_counted: str,
    horizon: float | None,
    *,
    with_ids: bool = False,
) -> Newcomers:
    """Of the table at `path`: columns that the data set has and the table lacks are unknown, and said.

    split_of_counted: of items with a count or label. horizon: days for which an item's count is meant. with_ids: items
    are told from those of the data set by their ids, which must be there, unless its own were made of other columns.
    """
    named = columns_of(store)
    kinds = kinds_of_table(store)
    optional = {*named.wanted, *kinds}
    how = {"encoding": reading.encoding, "sheet": reading.sheet, "policy": reading.policy}
    table = read_table(path, [*named.wanted], optional, metadata=list(kinds), **how)
    named, missing = present(named, table)
    absent = [name for name in kinds if name not in table.columns]
    if lacking := list(dict.fromkeys(missing + absent)):
        print(f"warning: {path} has no column {listed(lacking, 20)}: unknown of all items", file=sys.stderr)
    known = {alike(name) for name in (*table.columns, *kinds)}
    if unused := [name for name in table.found if alike(name) not in known]:
        print(f"columns that the data set does not have are not used: {listed(unused, 20)}", flush=True)
    asked = [f"{name}={kind}" for name, kind in kinds.items() if name in table.columns]
    has_age = store.metadata is not None and AGE in store.metadata.columns
    horizon = named.horizon if horizon is None else horizon
    said = horizon is not None
    if has_age and not said:
        horizon = usual_age(store)
    named = replace(named, metadata_columns=asked or None, horizon=horizon)
    without_ids = named.id_column not in table.columns
    if without_ids and with_ids and not store.description.lineage.get(MADE_IDS, False):
        raise InputError(
            f"{path}: no column {named.id_column}, by which its items would be told from those of {store.folder} "
            f"(found {', '.join(table.found)})"
        )
    if not without_ids and reading.policy == "skip":
        for row, cell in enumerate(table.columns[named.id_column]):
            if is_blank(cell):
                table.faults.rows.setdefault(row, (table.where(row), f"column {named.id_column}: no id"))
    items, kept, metadata = make_items(
        table,
        named,
        SplitSettings(),
        without_ids=without_ids,
        skip=reading.policy == "skip",
        keep=reading.keep,
        same_video=reading.same_video or (),
        split_of_counted=split_of_counted,
    )
    if not named.targets:  # none is known, of however many there are
        nothing = np.full((len(items), store.items.label_dim), np.nan)
        items = replace(items, popularity=nothing, label=nothing.copy())
    problems = table.faults.told(reading.policy)
    videos = files_of_videos(table, named.video_column, items.item_id, kept, path, problems)
    if not len(items) and table.faults.rows:
        told = (f"{table.where(row)}: {why}" for row, (_, why) in table.faults.rows.items())
        raise InputError(f"--table {path}: no row of it can be used: {listed(told)}")
    if problems:
        raise InputError(f"--table {path}: {'; '.join(problems)}")
    table.faults.say(path)
    columns = {} if metadata is None else dict(metadata.columns)
    typed = Metadata({k: v for k, v in columns.items() if k in kinds or k == AGE}) if columns else None
    left_out = [(item, f"{table.where(row)}: {why}") for row, (item, why) in sorted(table.faults.rows.items())]
    found = typed.take(kept) if typed else None
    if has_age and not said and (unknown := int(np.isnat(items.label_time - items.time).sum())):
        print(
            f"{AGE}: {horizon:.1f} days, the median of the data set, for {unknown} of {len(items)} items that were "
            "published or counted at a time that is not known; --horizon says for how many days a count is meant"
        )
    if found is None and has_age:
        found = Metadata({AGE: np.full(len(items), horizon)})
    order = np.array([f"\0{row}" for row in range(len(kept))], object)
    order[kept] = items.item_id
    return Newcomers(items, found, videos, left_out, order)


def present(named: ColumnSettings, table: Table) -> tuple[ColumnSettings, list[str]]:
    """The columns that are in the table, and those that are not, but for counts and ids, which need not be."""
    there = table.columns
    lists = {name: [c for c in getattr(named, name) or [] if c in there] for name in ("count_column", "label_column")}
    # Counts of some targets alone are no label.
    lists = {name: found if found == list(getattr(named, name) or []) else [] for name, found in lists.items()}
    texts = [column for column in named.text_column if column in there]
    single = {name: getattr(named, name) for name in ("user_column", "time_column", "label_time_column")}
    if named.anonymise:  # who is creator7 was never written down
        print("creators were anonymised, so that those of new items are unknown")
        named, single["user_column"] = replace(named, anonymise=False), None
    some = [c for name in lists for c in getattr(named, name) or [] if c in there]
    if some and not any(lists.values()):
        print(f"counts of {listed(some)} alone are not taken: the data set has {listed(named.targets)}")
    missing = [c for c in named.text_column if c not in there]
    missing += [c for name, c in single.items() if c and c not in there and name != "label_time_column"]
    optional = {name: c if c in there else None for name, c in single.items()}
    optional |= {"video_column": named.video_column if named.video_column in there else None, "split_column": None}
    kept = {name: found or None for name, found in lists.items()}
    return replace(named, text_column=texts or named.text_column, **optional, **kept), missing


def usual_age(store: FeatureStore) -> float:
    """For how many days after publication an item's count is meant: the median of the data set."""
    age = store.metadata.columns[AGE]
    return float(np.nanmedian(age)) if np.isfinite(age).any() else np.nan


def write_newcomers(folder: Path, found: Newcomers, like: FeatureStore) -> FeatureStore:
    """A data set of them alone in `folder`, without features, to be made as those of `like` were."""
    how = {"family": like.family, "label": like.label, "overwrite": False}
    store = FeatureStore.create_or_continue(folder, found.items, **how)
    if found.metadata is not None and store.metadata is None:
        store.add_metadata(found.metadata)
    write_named(folder, found.videos)
    store.finish()
    return store


def one_video(text: str, item_id: str, file: str | None, label_dim: int) -> Newcomers:
    """A single video of which its title and its file are known."""
    nothing = np.full((1, label_dim), np.nan)
    alone = (np.array([value], object) for value in (item_id, text))
    items = Items(*alone, nothing, nothing, np.array(["predict"], object))
    return Newcomers(items, None, {item_id: file} if file else None, [], items.item_id)


def unused_id(items: Items) -> str:
    """The first number that is no item's id."""
    known = set(items.item_id)
    return next(number for number in map(str, itertools.count(1)) if number not in known)


def already_there(store: FeatureStore, items: Items) -> Mapping[str, int]:
    """Item id -> its row in the data set, of those items that are in it."""
    row_of = {item_id: row for row, item_id in enumerate(store.items.item_id)}
    return {item_id: row_of[item_id] for item_id in items.item_id if item_id in row_of}
