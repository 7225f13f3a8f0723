"""Turn any table of items (CSV, TSV, JSON Lines or Parquet) and, if there are any, feature arrays into a data set.

Items without a count or label go to split predict. A data set holds any kinds of features, of which none is needed:
text alone, thumbnails alone (visual features of one frame), ready vectors under a name of their own. With --videos
<folder> all features are made as well: a table and a folder of videos is all that a new data set needs. Without it
features may be added later, by feature_engineering/; the last lines that are printed say how.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import commands
from common.console import InputError, Parser, listed, number, run_script
from common.settings import add_flags, made, setting
from dataloader.description import Label
from dataloader.importing.feature_files import load_features
from dataloader.importing.scaling import add_normalise_flag, add_normalised, check_normalised, modes_by_array
from dataloader.importing.splits import FEWEST, published_split
from dataloader.importing.tables import as_numbers, as_text, read_table
from dataloader.importing.times import as_times
from dataloader.items import Items
from dataloader.modalities import RETRIEVAL, in_order, modality
from dataloader.names import DTYPES, FAMILIES, SPLITS
from dataloader.place import add_dataset_flags, folder_of
from dataloader.store import FeatureStore, refuse_to_overwrite
from feature_engineering.jobs.sequence import add_sequence_flags, check_sequence_flags, run_sequence
from feature_engineering.settings import SequenceSettings

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

    @property
    def targets(self) -> list[str]:
        return self.count_column or self.label_column or []

    @property
    def wanted(self) -> list[str]:
        """All columns that are read."""
        optional = (self.split_column, self.user_column, self.time_column, self.label_time_column)
        return [self.id_column, self.text_column, *self.targets, *filter(None, optional)]


def build_parser() -> Parser:
    parser = Parser(description=__doc__)
    parser.add_argument("--table", type=Path, required=True, help="one item a row: .csv, .tsv, .jsonl or .parquet")
    add_dataset_flags(parser, default_id=None)
    parser.add_argument(
        "--family", default="MicroLens", choices=FAMILIES, help="whose MMRA model --model_id MMRA takes"
    )
    add_flags(parser.add_argument_group("columns of the table"), ColumnSettings)
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
    add_sequence_flags(parser)
    parser.add_argument("--overwrite", action="store_true", help="replace a data set that is already there")
    return parser


def main(args) -> None:
    sequence, named = made(SequenceSettings, vars(args)), made(ColumnSettings, vars(args))
    check_sequence_flags(sequence, args.typed)
    folder, modes = folder_of(args.dataset_path, args.dataset_id), modes_by_array(args.normalise)
    files = named_files(args.visual, args.textual, args.retrieval, args.features)
    # What the retriever compares, where no file of it is given; with videos a script makes it.
    compared = (
        None if args.videos or RETRIEVAL in files else "textual" if "textual" in files else next(iter(files), None)
    )
    refuse_idle_flags(args.typed, named, {*files, *([RETRIEVAL] if compared else [])}, with_videos=bool(args.videos))
    if not args.overwrite and not args.videos and not files:
        refuse_to_overwrite(folder)
    # Features may be all that there is; without them a table without texts is one whose column has another name.
    optional = (named.text_column,) if (files or args.videos) and "text_column" not in args.typed else ()
    found, columns = read_table(args.table, named.wanted, optional)
    items, problems = make_items(args.table, named, found, columns)
    arrays, digests = load_arrays(files, compared, items, modes, args.dtype, problems)
    if problems:
        raise InputError("; ".join(problems))
    if not items.has_text:
        print(f"no texts: no column {named.text_column}, or nothing in it (columns: {', '.join(found)})")
    if not named.targets:
        print(f"no --count_column or --label_column (columns: {', '.join(found)}): all items are of split predict")

    scale, offset = ("log2", named.log_offset) if named.count_column else ("none", 0)
    split_by = f"column {named.split_column}" if named.split_column else "published"
    label = Label(tuple(named.targets or ["label"]), scale, offset, split_by)
    store = FeatureStore.create_or_continue(folder, items, family=args.family, label=label, overwrite=args.overwrite)
    sources = {name: Path(file).name for name, file in files.items()}
    if compared and (RETRIEVAL in store.features or set(store.modalities) - set(arrays)):
        # The features that are here already are compared, or are to be.
        del arrays[RETRIEVAL]
    elif compared:
        sources[RETRIEVAL] = f"{sources[compared]}: the {compared} features, as no --retrieval was given"
        print(f"no --retrieval given: the {compared} features serve as retrieval vectors too")
    there = {name: feature.sha256 for name, feature in store.description.features.items() if name in arrays}
    if other := [name for name, sha256 in there.items() if sha256 != digests[name]]:
        raise InputError(f"{folder}: other {other[0]} features are here already; --overwrite begins the data set anew")
    for name, array in arrays.items():
        if name not in there:
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
    typed: Mapping[str, Any], named: ColumnSettings, given: Collection[str], *, with_videos: bool
) -> None:
    """InputError for a flag of `typed` that does nothing beside the others; given: the features that files bring."""
    if len(set(named.targets)) < len(named.targets):
        raise InputError(f"the columns {', '.join(named.targets)} name a target twice; name each once")
    if "log_offset" in typed and not named.count_column:
        raise InputError("--log_offset belongs to --count_column, which is not given")
    if with_videos:
        given = {*given, "visual", "textual", RETRIEVAL}
    arrays = [mode.partition("=")[0] for mode in typed.get("normalise", []) if "=" in mode]
    if idle := [name for name in arrays if name not in given]:
        raise InputError(f"--normalise {idle[0]}=...: no {idle[0]} features are given")
    if idle := [flag for flag in ("normalise", "dtype") if flag in typed and not given]:
        raise InputError(
            f"--{idle[0]}: no features are given; --visual, --textual, --features, --retrieval or --videos bring them"
        )


def load_arrays(
    files: dict[str, str],
    compared: str | None,
    items: Items,
    modes: dict[str, str],
    dtype: str,
    problems: list[str],
) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Name -> array, checked as it will be stored, and what its digest will be; what is wrong joins the problems.

    compared: the features that serve as retrieval vectors too.
    """
    arrays, digests = {}, {}
    for name, file in [*files.items(), *([(RETRIEVAL, files[compared])] if compared else [])]:
        if name == RETRIEVAL and compared and compared not in arrays:
            continue  # What is wrong with them is in the list already.
        try:
            if name == RETRIEVAL and compared:
                array = as_retrieval(arrays[compared])
            else:
                array = load_features(Path(file), name, items.item_id)
            digests[name] = check_normalised(file, array, modes[name], dtype, items)
            arrays[name] = array
        except InputError as error:
            problems.append(str(error))
    return arrays, digests


# ---- its columns -> items ------------------------------------------------------------------------


def make_items(
    table: Path, named: ColumnSettings, found: list[str], columns: dict[str, list]
) -> tuple[Items, list[str]]:
    """The items, and everything that is wrong with them.

    found: the names of all columns of the table. columns: the values of those that are `named`.
    """
    problems: list[str] = []
    ids = as_text(columns[named.id_column], named.id_column, problems)
    text = np.full(len(ids), "", object)
    if named.text_column in found:
        text = as_text(columns[named.text_column], named.text_column, problems, numbers_too=True)
    values = [as_numbers(columns[name], name, ids, problems) for name in named.targets] or [np.full(len(ids), np.nan)]
    values = np.stack(values, axis=1)  # (N, L)
    popularity, label = np.full_like(values, np.nan), values
    if named.count_column:
        popularity = values
        too_small = (values + named.log_offset <= 0).any(axis=1) & ~(values < 0).any(axis=1)
        if too_small.any():
            problems.append(
                f"{int(too_small.sum())} items with count + {named.log_offset:g} = 0, which has no logarithm "
                f"({listed(ids[too_small])}); --log_offset 1 takes counts of 0"
            )
        with np.errstate(invalid="ignore", divide="ignore"):
            label = np.log2(values + named.log_offset)
            label[~np.isfinite(label)] = np.nan  # The count itself is the problem, and is told of as such.
    if named.split_column:
        split = as_text(columns[named.split_column], named.split_column, problems)
    else:
        split = split_at_random(label, problems)
    origin = {}
    if named.user_column:
        origin["user"] = as_text(columns[named.user_column], named.user_column, problems)
    for name, column in {"time": named.time_column, "label_time": named.label_time_column}.items():
        if column:
            origin[name] = as_times(columns[column], column, ids, problems)
    items = Items(ids, text, popularity, label, split, **origin)
    problems += items.problems()
    if not named.targets and (split != "predict").any():
        problems = [
            "items of split train, valid and test need a target: give --count_column or --label_column "
            f"(columns: {', '.join(found)})"
        ]
    return items, [f"--table {table}: {'; '.join(problems)}"] if problems else []


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
