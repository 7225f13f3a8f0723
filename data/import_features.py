"""Turn any table of items (CSV, TSV, JSON, Excel or Parquet) and, if there are any, feature arrays into a data set.

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
from common.console import InputError, Parser, listed, run_script
from common.settings import add_flags, made, setting
from dataloader.description import Label
from dataloader.importing.columns import ColumnSettings, make_items, refuse_rows_without_ids
from dataloader.importing.feature_files import load_features
from dataloader.importing.metadata import ALL, Chosen, name_of
from dataloader.importing.scaling import add_normalise_flag, add_normalised, check_normalised, modes_by_array
from dataloader.importing.snapshots import KEEP
from dataloader.importing.splits import SplitSettings
from dataloader.importing.tables import SUFFIXES, Table, alike, as_text, read_table
from dataloader.items import Items
from dataloader.modalities import RETRIEVAL, in_order, modality
from dataloader.names import DTYPES, FAMILIES
from dataloader.place import add_dataset_flags, folder_of
from dataloader.store import FeatureStore, refuse_to_overwrite
from feature_engineering.decoding.files import Videos, write_named
from feature_engineering.decoding.naming import hostile_ids
from feature_engineering.jobs.sequence import add_sequence_flags, check_sequence_flags, run_sequence
from feature_engineering.jobs.skipped import write_skipped_rows
from feature_engineering.settings import ON_ERROR, SequenceSettings


def encoding_name(name: str) -> str:
    """An argparse type: an encoding that Python knows."""
    try:
        "".encode(name)
    except (LookupError, ValueError):
        raise argparse.ArgumentTypeError(f"{name!r} is no encoding; utf-8, gb18030 and latin-1 are some") from None
    return name


@dataclass(frozen=True)
class TableSettings:
    """How the table is read, and what becomes of rows that cannot be used."""

    sheet: str | None = setting(None, "of an Excel file, which needs it where several are filled", kind=str)
    encoding: str | None = setting(
        None, "of a text file; UTF-8, UTF-16 or what its characters show, without it", encoding_name, kind=str
    )
    keep: str | None = setting(
        None,
        "which of several snapshots of one video, which are rows of the same id, becomes the item: the first or last "
        "by --label_time_column, or without it by their order, or the one with the largest count or label; the others "
        "are listed in skipped.csv; without it they are refused",
        str,
        KEEP,
        kind=str,
    )
    same_video: list[str] | None = setting(
        None,
        "beside --keep: rows that are alike in all of these columns are snapshots of one video too",
        kind=list,
        nargs="+",
        metavar="C",
    )
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
    parser.add_argument(
        "--table", type=Path, required=True, help=f"one item a row: {', '.join(SUFFIXES)}, or these and .gz"
    )
    add_dataset_flags(parser, default_id=None)
    parser.add_argument(
        "--family", default="MicroLens", choices=FAMILIES, help="whose MMRA model --model_id MMRA takes"
    )
    add_flags(parser.add_argument_group("columns of the table"), ColumnSettings)
    add_flags(parser.add_argument_group("splits"), SplitSettings)
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
    sequence, named, how = (made(of, vars(args)) for of in (SequenceSettings, ColumnSettings, TableSettings))
    splitting = made(SplitSettings, vars(args))
    refuse_split(splitting, named)
    policy = "skip" if how.on_error == "skip" else "fail"  # of rows; videos: as it was typed
    check_sequence_flags(sequence, {flag: value for flag, value in args.typed.items() if flag != "on_error"})
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
    optional = (
        {*named.text_column}
        if (named.metadata_columns or files or args.videos) and "text_column" not in args.typed
        else set()
    )
    without_ids = "id_column" not in args.typed
    if without_ids:
        optional.add(named.id_column)
    wanted, asked = [*named.wanted, *(how.same_video or [])], named.metadata_columns or []
    table = read_table(
        args.table,
        wanted,
        optional,
        encoding=how.encoding,
        sheet=how.sheet,
        policy=policy,
        metadata=[name_of(text) for text in asked if text != ALL],
        every=ALL in asked,
    )
    refuse_rows_without_ids(args.table, table, named)
    keeping = {"skip": policy == "skip", "keep": how.keep, "same_video": how.same_video or ()}
    items, kept, chosen = make_items(table, named, splitting, without_ids=without_ids, **keeping)
    faults, found = table.faults, table.found
    problems = [f"--table {args.table}: {'; '.join(told)}"] if (told := faults.told(policy)) else []
    arrays, digests = load_arrays(files, compared, items, kept, modes, args.dtype, problems)
    videos = video_files(table, named.video_column, items.item_id, kept, args.table, problems)
    if args.videos and not problems:
        check_videos(args.videos, videos, items.item_id, args.table, keep_frames=sequence.keep_frames)
    if problems:
        raise InputError("; ".join(problems))
    faults.say(args.table)
    if chosen.said:
        print("\n".join(["metadata:", *(f"  {line}" for line in chosen.said)]))
    if not items.has_text:
        print(f"no texts: no column {' or '.join(named.text_column)}, or nothing in it (columns: {', '.join(found)})")
    if not named.targets:
        print(f"no --count_column or --label_column (columns: {', '.join(found)}): all items are of split predict")

    scale, offset = ("log2", named.log_offset) if named.count_column else ("none", 0)
    label = Label(tuple(named.targets or ["label"]), scale, offset, splitting.in_words(named.split_column))
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
    add_metadata(store, chosen, kept)
    rows = [(item, f"{table.where(row)}: {why}") for row, (item, why) in sorted(faults.rows.items())]
    skipped = write_skipped_rows(folder, rows)
    if rows:
        print(f"{len(rows)} of {len(kept)} rows left out, listed in {skipped}")
    if args.videos or args.overwrite:  # features that are added later leave the names of the videos as they are
        write_named(folder, videos)
    for name, array in arrays.items():
        if name not in there:
            add_normalised(store, name, array, modes[name], dtype=args.dtype, source=sources[name])
    for warning in store.check_features(*(name for name in arrays if name != RETRIEVAL)):
        print(f"warning: {warning}", file=sys.stderr)
    print(commands.next_steps(run_sequence(store, sequence, args.typed, modes, given=arrays)))


def add_metadata(store: FeatureStore, chosen: Chosen, kept: np.ndarray) -> None:
    """Write the metadata; those that are here already must be the same."""
    metadata = chosen.of(kept)
    if store.metadata is not None and metadata is not None:
        if metadata.digest() != store.metadata.digest():
            raise InputError(f"{store.folder}: other metadata are here already; --overwrite begins the data set anew")
    elif metadata is not None:
        store.add_metadata(metadata, consequences=chosen.consequences)
    if chosen.consequences:
        print(
            f"warning: {listed(chosen.consequences)}: counted after publication, so no prediction before it can have "
            "them; every result of this data set says so",
            file=sys.stderr,
        )


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


def refuse_split(splitting: SplitSettings, named: ColumnSettings) -> None:
    by = splitting.kind(named.split_column)
    if by == "time" and not named.time_column:
        raise InputError("--split_by time: --time_column says when an item was published, and is not given")
    if by == "user" and not named.user_column:
        raise InputError("--split_by user: --user_column says who made an item, and is not given")


def refuse_idle_flags(
    typed: Mapping[str, Any], named: ColumnSettings, given: Collection[str], *, with_videos: bool
) -> None:
    """InputError for a flag of `typed` that does nothing beside the others; given: the features that files bring."""
    if len(set(named.targets)) < len(named.targets):
        raise InputError(f"the columns {', '.join(named.targets)} name a target twice; name each once")
    if "log_offset" in typed and not named.count_column:
        raise InputError("--log_offset belongs to --count_column, which is not given")
    if named.anonymise and not named.user_column:
        raise InputError("--anonymise is for creators' names, and --user_column is not given")
    if "decimal" in typed and not named.targets and not named.metadata_columns:
        raise InputError("--decimal belongs to numbers: --count_column or --label_column, which are not given")
    targets = set(map(alike, named.targets))
    if leaks := [name for name in map(name_of, named.metadata_columns or []) if alike(name) in targets]:
        raise InputError(f"--metadata_columns {leaks[0]}: that is what is predicted")
    if "horizon" in typed and not named.metadata_columns:
        raise InputError("--horizon is for the age among the metadata, and --metadata_columns is not given")
    if "same_video" in typed and "keep" not in typed:
        raise InputError("--same_video needs --keep, which says which of the rows of a video becomes the item")
    if typed.get("keep") == "max" and not named.targets:
        raise InputError("--keep max needs the counts or labels that it compares: --count_column or --label_column")
    if with_videos:
        given = {*given, "visual", "textual", RETRIEVAL}
    elif "video_column" in typed:
        raise InputError("--video_column does nothing without --videos")
    elif typed.get("on_error") == "zero":
        raise InputError("--on_error zero is for videos, and does nothing without --videos")
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
    kept: np.ndarray,
    modes: dict[str, str],
    dtype: str,
    problems: list[str],
) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Name -> array, checked as it will be stored, and what its digest will be; what is wrong joins the problems.

    compared: the features that serve as retrieval vectors too. kept: mask of the table's rows that are items; rows of a
    file without ids are those of the table.
    """
    arrays, digests = {}, {}
    for name, file in [*files.items(), *([(RETRIEVAL, files[compared])] if compared else [])]:
        if name == RETRIEVAL and compared and compared not in arrays:
            continue  # What is wrong with them is in the list already.
        try:
            if name == RETRIEVAL and compared:
                array = as_retrieval(arrays[compared])
            else:
                array = load_features(Path(file), name, items.item_id, kept=kept)
            digests[name] = check_normalised(file, array, modes[name], dtype, items)
            arrays[name] = array
        except InputError as error:
            problems.append(str(error))
    return arrays, digests


def video_files(
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


def leads_away(file: str) -> bool:
    """Whether it is a whole path, of whatever system, or an address."""
    return file.startswith("/") or ":/" in file or "\0" in file


def check_videos(
    folder: Path, files: dict[str, str] | None, item_ids: np.ndarray, table: Path, *, keep_frames: bool
) -> None:
    """InputError where ids are to name files and cannot, or no file is there that the table names."""
    if (files is None or keep_frames) and (problem := hostile_ids(item_ids)):
        raise InputError(f"--table {table}: {problem}; --video_column names files of other names")
    if files is not None:
        found = Videos(folder, files)
        reasons = {item: found.of(item)[1] for item in item_ids}
        if all(reasons.values()):
            shown = listed(f"{item}: {why}" for item, why in reasons.items())
            raise InputError(
                f"--table {table}, --videos {folder}: nothing for any of the {len(item_ids)} items ({shown})"
            )


if __name__ == "__main__":
    run_script(build_parser(), main, commands.remedy)
