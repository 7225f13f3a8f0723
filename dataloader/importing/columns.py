"""The columns of a table: which is what, and the items that they become."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from common.console import InputError, listed, number
from common.settings import setting
from dataloader.importing.faults import Faults
from dataloader.importing.ids import as_ids, made_ids
from dataloader.importing.metadata import Chosen, choose_metadata
from dataloader.importing.numbers import as_numbers
from dataloader.importing.snapshots import settle
from dataloader.importing.splits import SplitSettings, make_split
from dataloader.importing.tables import Table, as_text
from dataloader.importing.times import as_times
from dataloader.items import Items
from dataloader.metadata import AGE
from dataloader.names import SPLITS

TIMES = (
    "as ISO 8601, 2024/5/31 18:00, 31 May 2024 or 2024年5月31日, or as seconds, milliseconds or microseconds since "
    "1970; without a zone taken as UTC"
)


@dataclass(frozen=True)
class ColumnSettings:
    """Which columns of the table are what; None where there is no such column."""

    id_column: str = setting("item_id", "the items' ids, read as text")
    text_column: list[str] = setting(
        ("text",),
        "title or caption, or several columns whose texts are joined by blanks, as title tags; not needed beside "
        "features or videos",
        nargs="+",
        metavar="TEXT_COLUMN",
    )
    count_column: list[str] | None = setting(
        None, "raw counts; label: log2(count + offset)", kind=list, nargs="+", metavar="C", either=True
    )
    label_column: list[str] | None = setting(
        None, "labels, to be trained on as they are", kind=list, nargs="+", metavar="L", either=True
    )
    log_offset: float = setting(1.0, "offset of --count_column; published: 0", number(0))
    user_column: str | None = setting(None, "who made the item: its creator's id or name", kind=str, metavar="U")
    time_column: str | None = setting(None, f"when the item was published, {TIMES}", kind=str, metavar="T")
    label_time_column: str | None = setting(None, "when its count was taken, in the same forms", kind=str, metavar="T")
    split_column: str | None = setting(None, f"the split of each item: {', '.join(SPLITS)}", kind=str, metavar="S")
    video_column: str | None = setting(
        None,
        "each video's file, relative to --videos and in subfolders too; without it files are named by the ids",
        kind=str,
        metavar="V",
    )
    anonymise: bool = setting(
        False, "write ids in place of creators' names, in the order in which they appear in the table"
    )
    metadata_columns: list[str] | None = setting(
        None,
        "what else is known of an item: columns for methods that take metadata, each as what it looks like, or as "
        "NAME=KIND says (number, category, time, yes/no); all: every column but ids, texts, targets and counts made "
        "after publication, and each is printed with what it is taken for or why it is left out. A left-out one that "
        "is named is taken; a count made after publication then marks every result",
        kind=list,
        nargs="+",
        metavar="M",
    )
    horizon: float | None = setting(
        None,
        "days after its publication for which an item's count is meant, where --label_time_column does not say it; "
        f"with --metadata_columns it becomes part of the metadata ({AGE})",
        number(0),
        kind=float,
        metavar="DAYS",
    )
    decimal: str | None = setting(
        None,
        "the decimal mark of numbers that could mean two things, as 1.234 and 1,5 do; without it what the other "
        "numbers of the column prove, else such a number is refused",
        str,
        (".", ","),
        kind=str,
    )

    @property
    def targets(self) -> list[str]:
        return self.count_column or self.label_column or []

    @property
    def wanted(self) -> list[str]:
        """All columns that are read."""
        optional = (self.split_column, self.user_column, self.time_column, self.label_time_column, self.video_column)
        return [self.id_column, *self.text_column, *self.targets, *filter(None, optional)]

    @property
    def used(self) -> dict[str, str]:
        """Column -> why it is no metadata."""
        why = {self.id_column: "the items' ids", self.user_column: "creators' ids"}
        why |= dict.fromkeys(self.text_column, "their text")
        why |= {self.label_time_column: f"when the count was taken; with the time of publication it makes {AGE}"}
        why |= {self.split_column: "which split", self.video_column: "the videos' files"}
        return why | dict.fromkeys(self.targets, "what is predicted")


def refuse_rows_without_ids(path: Path, table: Table, named: ColumnSettings) -> None:
    """Ids can be made of texts, creators and times alone."""
    of = (named.id_column, *named.text_column, named.user_column, named.time_column)
    if not any(column in table.columns for column in of):
        raise InputError(
            f"--table {path}: no column {named.id_column}, and no text, user or time of which ids could be made (found "
            f"{', '.join(table.found)}); name the column of ids with --id_column"
        )


def make_items(
    table: Table,
    named: ColumnSettings,
    splitting: SplitSettings,
    *,
    without_ids: bool = False,
    skip: bool = False,
    keep: str | None = None,
    same_video: Sequence[str] = (),
    split_of_counted: str | None = None,
) -> tuple[Items, np.ndarray, Chosen]:
    """The items, the mask of the table's rows that they are, and the metadata; what is wrong joins `table.faults`.

    without_ids: the items may have ids made for them, as nobody has named a column of ids. skip: leave rows with a
    cell that cannot be read out. keep: which of several snapshots of a video is an item; same_video: see there.
    split_of_counted: of all items with a label, where they are not split.
    """
    faults, columns, n = table.faults, table.columns, len(table)
    problems = faults.problems

    def names(column: str | None) -> np.ndarray:
        return as_ids(columns[column], column, faults) if column else np.full(n, "", object)

    texts = [as_text(columns[c], c, problems, numbers_too=True) for c in named.text_column if c in columns]
    text = texts[0] if texts else np.full(n, "", object)
    if len(texts) > 1:
        text = np.array([" ".join(filter(None, map(str.strip, row))) for row in zip(*texts, strict=True)], object)
    user, given = names(named.user_column), named.id_column in columns or not without_ids
    if named.anonymise:
        user = columns[named.user_column] = anonymous(user)
    places = [table.where(row) for row in range(n)]
    ids = names(named.id_column) if given else np.array(places, object)
    at = {"time": named.time_column, "label_time": named.label_time_column}
    times = {
        name: as_times(columns[column], column, ids, faults) if column else np.full(n, "NaT", "M8[us]")
        for name, column in at.items()
    }
    if not given:
        ids = made_ids(text, user, times["time"], numbered=not keep)
        faults.rows = {row: (ids[row] if place else "", why) for row, (place, why) in faults.rows.items()}
        faults.notes.append(
            f"no column {named.id_column}: ids were made of text, user and time (--id_column of the import says which "
            "column has them)"
        )
    reading = {"counts": bool(named.count_column), "decimal": named.decimal}
    values = [as_numbers(columns[name], name, ids, faults, **reading) for name in named.targets]
    values = np.stack(values or [np.full(n, np.nan)], axis=1)  # (N, L)
    split = as_text(columns[named.split_column], named.split_column, problems) if named.split_column else None
    if early := int((times["label_time"] < times["time"]).sum()):  # NaT is before nothing
        faults.notes.append(
            f"warning: {early} items were counted before they were published ({named.label_time_column} before "
            f"{named.time_column}): are these swapped, or in other time zones?"
        )
    age = (times["label_time"] - times["time"]) / np.timedelta64(1, "D")  # (N,) NaN where a time is unknown
    horizon = named.horizon if np.isnan(age).all() else None
    if named.horizon is not None:
        age = np.where(np.isnan(age), named.horizon, age)
    how = {"anonymous": user if named.anonymise else None, "horizon": horizon}
    metadata = choose_metadata(table, named.metadata_columns or [], named.used, ids, age, named.decimal, **how)

    kept = np.ones(n, bool)
    kept[[row for row in faults.rows if skip]] = False
    if keep:
        same = [as_text(columns[column], column, problems, numbers_too=True) for column in same_video]
        keep_one_of_each(faults, kept, ids, same, keep, values[:, 0], times["label_time"])
    ids, values = ids[kept], values[kept]
    label, popularity = values, np.full_like(values, np.nan)
    if named.count_column:
        label, popularity = log_counts(values, named.log_offset, ids, problems), values
    for name, column in zip(named.label_column or [], values.T if named.label_column else (), strict=True):
        if looks_like_counts(column):
            faults.notes.append(
                f"warning: the labels {name} look like raw counts (whole, the largest {np.nanmax(column):,.0f}, the "
                f"median {np.nanmedian(column):,.0f}), of which few videos decide all; --count_column {name} makes the "
                "label of them, log2(count + 1)"
            )
    if split_of_counted:
        split = np.where(np.isfinite(label).all(axis=1), split_of_counted, "predict").astype(object)
    elif split is None:
        split = made_split(splitting, label, times["time"][kept], user[kept], faults)
    else:
        split = split[kept]
    origin = {"user": user[kept]} | {name: column[kept] for name, column in times.items()}
    items = Items(ids, text[kept], popularity, label, split, **origin)
    problems += items.problems()
    if given and not keep and len(set(ids)) < len(ids):
        problems.append("--keep first, last or max settles which of several snapshots of a video is kept")
    if not named.targets and (split != "predict").any():
        problems[:] = [
            "items of split train, valid and test need a target: give --count_column or --label_column "
            f"(columns: {', '.join(table.found)})"
        ]
    return items, kept, metadata


def anonymous(user: np.ndarray) -> np.ndarray:
    """(N,) names -> creator1, creator2 ... in the order in which they appear, so that rows may be appended."""
    ids = {
        name: f"creator{number}" for number, name in enumerate(dict.fromkeys(name for name in user if name), start=1)
    }
    return np.array([ids.get(name, "") for name in user], object)


def keep_one_of_each(
    faults: Faults,
    kept: np.ndarray,
    ids: np.ndarray,
    same: list[np.ndarray],
    keep: str,
    count: np.ndarray,
    time: np.ndarray,
) -> None:
    """Of the rows of a video `kept` (N,) keeps one: of the same id first, then of what is the `same` (columns (N,))."""
    alike = [tuple(row) if all(row) else None for row in zip(*same, strict=True)] if same else []
    settled = {}
    for keys in ([item_id or None for item_id in ids], alike):
        left_out = settle(keys, keep, np.flatnonzero(kept), count, time) if keys else {}
        kept[list(left_out)] = False
        settled |= left_out
    for row, other in settled.items():
        faults.rows.setdefault(
            row, (ids[row], f"a snapshot of the video of item {ids[other]}, of which --keep {keep} keeps another")
        )
    if settled:
        faults.notes.append(
            f"--keep {keep}: {len(settled)} rows are other snapshots of {len(set(settled.values()))} videos"
        )


def made_split(how: SplitSettings, label: np.ndarray, time: np.ndarray, user: np.ndarray, faults: Faults) -> np.ndarray:
    """(N,) split names; items without all labels (N, L) are to be predicted."""
    by, labelled = how.kind(None), np.isfinite(label).all(axis=1)
    if not labelled.any():
        return np.full(len(label), "predict", object)
    if by == "time" and (unknown := int((labelled & np.isnat(time)).sum())):
        faults.notes.append(f"--split_by time: {unknown} items of an unknown time are of split predict")
    if by == "user" and (unknown := int((labelled & (user == "")).sum())):
        faults.notes.append(f"--split_by user: {unknown} items of unknown creators are taken one by one")
    try:
        return make_split(how, by, labelled, time, user)
    except InputError as error:
        faults.problems.append(f"{error}; other --shares, another --split_by, or --split_column with your own")
        return np.full(len(label), "predict", object)


def looks_like_counts(values: np.ndarray) -> bool:
    """Whether (n,) labels are whole numbers from 0 whose largest is far from what is usual."""
    there = values[np.isfinite(values)]
    return len(there) > 0 and bool(
        (there >= 0).all() and (there % 1 == 0).all() and there.max() > 20 * max(np.median(there), 5)
    )


def log_counts(counts: np.ndarray, offset: float, ids: np.ndarray, problems: list[str]) -> np.ndarray:
    """(N, L) -> log2(counts + offset), NaN where a count is unknown; what has no logarithm is a problem."""
    too_small = (counts + offset <= 0).any(axis=1)
    if too_small.any():
        problems.append(
            f"{int(too_small.sum())} items with count + {offset:g} = 0, which has no logarithm "
            f"({listed(ids[too_small])}); --log_offset 1 takes counts of 0"
        )
    with np.errstate(invalid="ignore", divide="ignore"):
        label = np.log2(counts + offset)
    label[~np.isfinite(label)] = np.nan  # The count itself is the problem, and is told of as such.
    return label
