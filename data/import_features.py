"""Turn any table of items (CSV, TSV, JSON Lines or Parquet) and, if there are any, feature arrays into a data set.

Items without a count or label go to split predict. A data set holds any kinds of features, of which none is needed:
text alone, thumbnails alone (visual features of one frame), ready vectors under a name of their own. With --videos
<folder> all features are made as well: a table and a folder of videos is all that a new data set needs. Without it
features may be added later, by feature_engineering/; the last lines that are printed say how.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import commands
from common.console import InputError, Parser, listed, number, run_script
from common.settings import add_flags, made, setting
from dataloader.description import Label
from dataloader.importing.faults import Faults
from dataloader.importing.feature_files import load_features
from dataloader.importing.numbers import as_numbers
from dataloader.importing.scaling import add_normalise_flag, add_normalised, check_normalised, modes_by_array
from dataloader.importing.splits import FEWEST, published_split
from dataloader.importing.tables import as_text, read_table
from dataloader.importing.times import as_times
from dataloader.items import Items
from dataloader.modalities import RETRIEVAL, in_order, modality
from dataloader.names import DTYPES, FAMILIES, SPLITS
from dataloader.place import add_dataset_flags, folder_of
from dataloader.store import FeatureStore, refuse_to_overwrite
from feature_engineering.jobs.sequence import add_sequence_flags, check_sequence_flags, run_sequence
from feature_engineering.jobs.skipped import write_skipped_rows
from feature_engineering.settings import ON_ERROR, SequenceSettings

TIMES = "as ISO 8601, or as seconds, milliseconds or microseconds since 1970; without a zone taken as UTC"


@dataclass(frozen=True)
class ColumnSettings:
    """Which columns of the table are what; None where there is no such column."""

    id_column: str = setting("item_id", "the items' ids, read as text")
    text_column: str = setting("text", "title or caption; not needed beside features or videos")
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
    split_column: str | None = setting(
        None, f"{', '.join(SPLITS)}; the published random 80/10/10 split if not given", kind=str, metavar="S"
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
        optional = (self.split_column, self.user_column, self.time_column, self.label_time_column)
        return [self.id_column, self.text_column, *self.targets, *filter(None, optional)]


@dataclass(frozen=True)
class TableSettings:
    """How the table is read, and what becomes of rows that cannot be used."""

    on_error: str | None = setting(
        None,
        "a row with a cell that cannot be read, and with --videos an item whose video cannot be: fail: name the rows "
        f"and write nothing, stop at the video; skip: {ON_ERROR['skip']}; zero, for videos alone: {ON_ERROR['zero']}; "
        "without this flag rows fail and videos are skipped",
        str,
        ("skip", "fail", "zero"),
        kind=str,
    )


def build_parser() -> Parser:
    parser = Parser(description=__doc__)
    parser.add_argument("--table", type=Path, required=True, help="one item a row: .csv, .tsv, .jsonl or .parquet")
    add_dataset_flags(parser, default_id=None)
    parser.add_argument(
        "--family", default="MicroLens", choices=FAMILIES, help="whose MMRA model --model_id MMRA takes"
    )
    add_flags(parser.add_argument_group("columns of the table"), ColumnSettings)
    add_flags(parser.add_argument_group("reading the table"), TableSettings)
    features = parser.add_argument_group("features (.npy or .npz, one row an item)")
    features.add_argument("--visual", metavar="FILE", help="(items, frames, dimension) or (items, dimension)")
    features.add_argument("--textual", metavar="FILE", help="(items, dimension)")
    features.add_argument(
        "--features",
        nargs="+",
        action="extend",
        default=[],
        metavar="NAME=FILE",
        help="features of any other kind under a name of their own, as in audio=a.npy: (items, dimension) or (items, "
        "frames, dimension)",
    )
    features.add_argument(
        "--retrieval",
        metavar="FILE",
        help="(items, dimension): what the retriever compares; the textual features if not given, else the others",
    )
    add_normalise_flag(features, default=["none"])
    features.add_argument("--dtype", default="float32", choices=DTYPES, help="precision of the stored features")
    add_sequence_flags(parser, without=["on_error"])
    parser.add_argument("--overwrite", action="store_true", help="replace a data set that is already there")
    return parser


def main(args) -> None:
    sequence, named = made(SequenceSettings, vars(args)), made(ColumnSettings, vars(args))
    policy = "skip" if args.on_error == "skip" else "fail"  # of rows; videos: as it was typed
    check_sequence_flags(sequence, {flag: value for flag, value in args.typed.items() if flag != "on_error"})
    folder, modes = folder_of(args.dataset_path, args.dataset_id), modes_by_array(args.normalise)
    files = named_files(args.visual, args.textual, args.retrieval, args.features)
    refuse_idle_flags(args.typed, named, files, with_videos=bool(args.videos))
    if not args.overwrite and not args.videos:
        refuse_to_overwrite(folder)
    # Features may be all that there is; without them a table without texts is one whose column has another name.
    optional = (named.text_column,) if (files or args.videos) and "text_column" not in args.typed else ()
    found, columns = read_table(args.table, named.wanted, optional)
    items, faults, kept = make_items(named, found, columns, policy)
    problems = [f"--table {args.table}: {'; '.join(told)}"] if (told := faults.told(policy)) else []
    arrays = load_arrays(files, items, kept, modes, args.dtype, problems)
    if problems:
        raise InputError("; ".join(problems))
    faults.say(args.table)
    if not items.has_text:
        print(f"no texts: no column {named.text_column}, or nothing in it (columns: {', '.join(found)})")
    if not named.targets:
        print(f"no --count_column or --label_column (columns: {', '.join(found)}): all items are of split predict")

    scale, offset = ("log2", named.log_offset) if named.count_column else ("none", 0)
    split_by = f"column {named.split_column}" if named.split_column else "published"
    label = Label(tuple(named.targets or ["label"]), scale, offset, split_by)
    store = FeatureStore.create_or_continue(folder, items, family=args.family, label=label, overwrite=args.overwrite)
    skipped = write_skipped_rows(folder, list(faults.rows.values()))
    if faults.rows:
        print(f"{len(faults.rows)} of {len(kept)} rows left out, listed in {skipped}")
    sources = {name: Path(file).name for name, file in files.items()}
    if arrays and RETRIEVAL not in arrays and not args.videos:  # with videos a script makes them
        name = "textual" if "textual" in arrays else in_order(arrays)[0]
        arrays[RETRIEVAL] = as_retrieval(arrays[name])
        sources[RETRIEVAL] = f"{sources[name]}: the {name} features, as no --retrieval was given"
        print(f"no --retrieval given: the {name} features serve as retrieval vectors too")
    for name, array in arrays.items():
        if name not in store.features:
            add_normalised(store, name, array, modes[name], dtype=args.dtype, source=sources[name])
    for warning in store.check_features(*(name for name in arrays if name != RETRIEVAL)):
        print(f"warning: {warning}", file=sys.stderr)
    print(commands.next_steps(run_sequence(store, sequence, args.typed, modes, given=arrays)))


def named_files(visual: str | None, textual: str | None, retrieval: str | None, features: list[str]) -> dict[str, str]:
    """Name of the features -> the file they come from."""
    files = {"visual": visual, "textual": textual, RETRIEVAL: retrieval}
    files = {name: file for name, file in files.items() if file}
    for text in features:
        name, mark, file = text.partition("=")
        try:
            modality(name)
        except argparse.ArgumentTypeError as error:
            raise InputError(f"--features {text}: {error}") from None
        if not mark or not file:
            raise InputError(f"--features {text}: NAME=FILE is expected, as in audio=a.npy")
        if name in files:
            raise InputError(f"--features {text}: {name} features are given twice")
        files[name] = file
    return {name: files[name] for name in in_order(files)}


def as_retrieval(array: np.ndarray) -> np.ndarray:
    """(N, D), or of frames (N, F, D) their mean -> (N, D)."""
    return array if array.ndim == 2 else array.mean(axis=1, dtype=np.float32)


def refuse_idle_flags(
    typed: Mapping[str, Any], named: ColumnSettings, files: dict[str, str], *, with_videos: bool
) -> None:
    """InputError for a flag of `typed` that does nothing beside the others; files: array -> the file it comes from."""
    if len(set(named.targets)) < len(named.targets):
        raise InputError(f"the columns {', '.join(named.targets)} name a target twice; name each once")
    if "log_offset" in typed and not named.count_column:
        raise InputError("--log_offset belongs to --count_column, which is not given")
    if "decimal" in typed and not named.targets:
        raise InputError("--decimal belongs to numbers: --count_column or --label_column, which are not given")
    if with_videos:
        return
    if typed.get("on_error") == "zero":
        raise InputError("--on_error zero is for videos, and does nothing without --videos")
    arrays = [mode.partition("=")[0] for mode in typed.get("normalise", []) if "=" in mode]
    if idle := [name for name in arrays if name not in files]:
        raise InputError(f"--normalise {idle[0]}=...: no --{idle[0]} features are given")
    if idle := [flag for flag in ("normalise", "dtype") if flag in typed and not files]:
        raise InputError(
            f"--{idle[0]}: no features are given; --visual, --textual, --features, --retrieval or --videos bring them"
        )


def load_arrays(
    files: dict[str, str], items: Items, kept: np.ndarray, modes: dict[str, str], dtype: str, problems: list[str]
) -> dict:
    """Name -> array, checked as it will be stored; what is wrong with them joins the problems.

    kept: mask of the table's rows that are items. Rows of a file without ids are those of the table.
    """
    arrays = {}
    for name, file in files.items():
        try:
            array = load_features(Path(file), name, items.item_id, kept=kept)
            check_normalised(file, array, modes[name], dtype, items)
            arrays[name] = array
        except InputError as error:
            problems.append(str(error))
    return arrays


# ---- its columns -> items ------------------------------------------------------------------------


def make_items(
    named: ColumnSettings, found: list[str], columns: dict[str, list], policy: str = "fail"
) -> tuple[Items, Faults, np.ndarray]:
    """The items, everything that is wrong with them, and the mask of the table's rows that they are.

    found: the names of all columns of the table. columns: the values of those that are `named`. policy: "skip" leaves
    out rows with a cell that cannot be read.
    """
    faults = Faults()
    problems = faults.problems
    ids = as_text(columns[named.id_column], named.id_column, problems)
    text = np.full(len(ids), "", object)
    if named.text_column in found:
        text = as_text(columns[named.text_column], named.text_column, problems, numbers_too=True)
    how = {"counts": bool(named.count_column), "decimal": named.decimal}
    values = [as_numbers(columns[name], name, ids, faults, **how) for name in named.targets]
    values = np.stack(values or [np.full(len(ids), np.nan)], axis=1)  # (N, L)
    origin = {}
    if named.user_column:
        origin["user"] = as_text(columns[named.user_column], named.user_column, problems)
    for name, column in {"time": named.time_column, "label_time": named.label_time_column}.items():
        if column:
            origin[name] = as_times(columns[column], column, ids, faults)
    split = None
    if named.split_column:
        split = as_text(columns[named.split_column], named.split_column, problems)

    kept = np.ones(len(ids), bool)
    kept[[row for row in faults.rows if policy == "skip"]] = False
    ids, text, values = ids[kept], text[kept], values[kept]
    label, popularity = values, np.full_like(values, np.nan)
    if named.count_column:
        label, popularity = log_counts(values, named.log_offset, ids, problems), values
    split = split_at_random(label, problems) if split is None else split[kept]
    items = Items(ids, text, popularity, label, split, **{name: column[kept] for name, column in origin.items()})
    problems += items.problems()
    if not named.targets and (split != "predict").any():
        problems[:] = [
            "items of split train, valid and test need a target: give --count_column or --label_column "
            f"(columns: {', '.join(found)})"
        ]
    return items, faults, kept


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


def split_at_random(label: np.ndarray, problems: list[str]) -> np.ndarray:
    """(N,) the published split of the items that have all labels; the others are to be predicted."""
    labelled = np.isfinite(label).all(axis=1)
    split = np.full(len(label), "predict", dtype=object)
    if 0 < labelled.sum() < FEWEST:
        problems.append(
            f"{int(labelled.sum())} labelled items are too few for the published 80/10/10 split (at least {FEWEST}); "
            "give your own with --split_column"
        )
    elif labelled.any():
        split[labelled] = published_split(int(labelled.sum()))
    return split


if __name__ == "__main__":
    run_script(build_parser(), main, commands.remedy)
