"""Turn any table of items (CSV, TSV, JSON Lines or Parquet) and, if there are any, feature arrays into a data set.

Items without a count or label go to split predict. With --videos <folder> all features are made as well: a table and a
folder of videos is all that a new data set needs. Without it features may be added later, by feature_engineering/.
"""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from common.console import InputError, Parser, listed, number, run_script
from dataloader.feature_files import load_features
from dataloader.items import Items
from dataloader.names import DTYPES, FAMILIES, SPLITS
from dataloader.place import add_dataset_flags, dataset_folder
from dataloader.scaling import add_normalise_flag, add_normalised, check_normalised, modes_by_array
from dataloader.splits import FEWEST, published_split
from dataloader.store import FeatureStore, refuse_to_overwrite
from dataloader.times import as_times
from feature_engineering.sequence import add_sequence_flags, check_sequence_flags, run_sequence

MOST_CHARACTERS = 2**31 - 1  # in one CSV field; the csv module's own limit is 131072


def build_parser() -> Parser:
    parser = Parser(description=__doc__)
    parser.add_argument("--table", type=Path, required=True, help="one item a row: .csv, .tsv, .jsonl or .parquet")
    add_dataset_flags(parser, default_id=None)
    parser.add_argument(
        "--family", default="MicroLens", choices=FAMILIES, help="whose MMRA model --model_id MMRA takes"
    )
    columns = parser.add_argument_group("columns of the table")
    columns.add_argument("--id_column", default="item_id", help="the items' ids, read as text")
    columns.add_argument("--text_column", default="text", help="title or caption")
    target = columns.add_mutually_exclusive_group()
    target.add_argument("--count_column", nargs="+", metavar="C", help="raw counts; label: log2(count + offset)")
    target.add_argument("--label_column", nargs="+", metavar="L", help="labels, to be trained on as they are")
    columns.add_argument("--log_offset", type=number(0), default=1.0, help="offset of --count_column; published: 0")
    columns.add_argument("--user_column", metavar="U", help="who made the item: its creator's id or name")
    times = "as ISO 8601, or as seconds, milliseconds or microseconds since 1970; without a zone taken as UTC"
    columns.add_argument("--time_column", metavar="T", help=f"when the item was published, {times}")
    columns.add_argument("--label_time_column", metavar="T", help="when its count was taken, in the same forms")
    columns.add_argument(
        "--split_column", metavar="S", help=f"{', '.join(SPLITS)}; the published random 80/10/10 split if not given"
    )
    features = parser.add_argument_group("features (.npy or .npz, one row an item)")
    features.add_argument("--visual", metavar="FILE", help="(items, frames, dimension) or (items, dimension)")
    features.add_argument("--textual", metavar="FILE", help="(items, dimension)")
    features.add_argument("--retrieval", metavar="FILE", help="(items, dimension); the textual features if not given")
    add_normalise_flag(features, default=["none"])
    features.add_argument("--dtype", default="float32", choices=DTYPES, help="precision of the stored features")
    add_sequence_flags(parser)
    parser.add_argument("--overwrite", action="store_true", help="replace a data set that is already there")
    return parser


def main(args) -> None:
    check_sequence_flags(args)
    folder, modes = dataset_folder(args), modes_by_array(args.normalise)
    files = feature_files(args)
    refuse_idle_flags(args, files)
    if not args.overwrite and not args.videos:
        refuse_to_overwrite(folder)
    targets = args.count_column or args.label_column or []
    origin = [args.user_column, args.time_column, args.label_time_column]
    wanted = [args.id_column, args.text_column, *targets, *filter(None, [args.split_column, *origin])]
    found, columns = read_table(args.table, wanted)
    items, problems = make_items(args, found, columns, targets)
    arrays = load_arrays(files, items, modes, args.dtype, problems)
    if problems:
        raise InputError("; ".join(problems))
    if not targets:
        print(f"no --count_column or --label_column (columns: {', '.join(found)}): all items are of split predict")

    transform, offset = ("log2", args.log_offset) if args.count_column else ("none", 0)
    label = {"names": targets or ["label"], "transform": transform, "offset": offset}
    label["split_by"] = f"column {args.split_column}" if args.split_column else "published"
    store = FeatureStore.create_or_continue(folder, items, family=args.family, label=label, overwrite=args.overwrite)
    for name, array in arrays.items():
        if name in store.arrays:
            continue
        source = Path(files[name]).name
        if name == "retrieval" and not args.retrieval:
            source += ": the textual features, as no --retrieval was given"
            print("no --retrieval given: the textual features serve as retrieval vectors too")
        add_normalised(store, name, array, modes[name], dtype=args.dtype, source=source)
    for warning in store.check_features(*(name for name in ("visual", "textual") if name in arrays)):
        print(f"warning: {warning}", file=sys.stderr)
    run_sequence(store, args, modes, given=arrays)


def feature_files(args) -> dict[str, str]:
    """Array of the store -> the file it comes from."""
    # With --videos retrieval vectors are made as well; else the textual features serve there.
    retrieval = args.retrieval or (None if args.videos else args.textual)
    files = {"visual": args.visual, "textual": args.textual, "retrieval": retrieval}
    return {name: file for name, file in files.items() if file}


def refuse_idle_flags(args, files: dict[str, str]) -> None:
    targets = args.count_column or args.label_column or []
    if len(set(targets)) < len(targets):
        raise InputError(f"the columns {', '.join(targets)} name a target twice; name each once")
    if "log_offset" in args.typed and not args.count_column:
        raise InputError("--log_offset belongs to --count_column, which is not given")
    if args.videos:
        return
    named = [setting.partition("=")[0] for setting in args.normalise if "=" in setting]
    if idle := [name for name in named if name not in files]:
        raise InputError(f"--normalise {idle[0]}=...: no --{idle[0]} features are given")
    if idle := [flag for flag in ("normalise", "dtype") if flag in args.typed and not files]:
        raise InputError(f"--{idle[0]}: no features are given; --visual, --textual, --retrieval or --videos bring them")


def load_arrays(files: dict[str, str], items: Items, modes: dict[str, str], dtype: str, problems: list[str]) -> dict:
    """Name -> array, checked as it will be stored; what is wrong with them joins the problems."""
    arrays = {}
    for name, file in files.items():
        shared = name == "retrieval" and file == files.get("textual")
        if shared and "textual" not in arrays:
            continue  # complained of already
        try:
            array = arrays["textual"] if shared else load_features(Path(file), name, items.item_id)
            check_normalised(file, array, modes[name], dtype, items)
            arrays[name] = array
        except InputError as error:
            problems.append(str(error))
    return arrays


# ---- the table ---------------------------------------------------------------------------------


def read_table(path: Path, wanted: list[str]) -> tuple[list[str], dict[str, list[Any]]]:
    """The names of all columns, and the wanted ones as plain Python values (text, numbers, None)."""
    wanted = list(dict.fromkeys(wanted))
    readers = {".csv": read_csv, ".tsv": read_csv, ".jsonl": read_jsonl, ".parquet": read_parquet}
    if path.suffix.lower() not in readers:
        raise InputError(f"--table {path}: the name must end in one of {', '.join(readers)}")
    try:
        found, columns = readers[path.suffix.lower()](path, wanted)
    except FileNotFoundError:
        raise InputError(f"--table {path}: no such file") from None
    except UnicodeDecodeError as error:
        raise InputError(f"--table {path}: not UTF-8 ({error}); save it as UTF-8") from None
    if repeated := {name for name in found if found.count(name) > 1}:
        raise InputError(f"--table {path}: several columns of the name {listed(sorted(repeated))}")
    if missing := [name for name in wanted if name not in found]:
        raise InputError(
            f"--table {path}: no column {', '.join(missing)} (found {', '.join(found) or 'none'}); "
            "name yours with --id_column, --text_column, --count_column, --label_column, --split_column, "
            "--user_column, --time_column, --label_time_column"
        )
    if not columns[wanted[0]]:
        raise InputError(f"--table {path}: no items in it")
    return found, columns


def read_csv(path: Path, wanted: list[str]) -> tuple[list[str], dict[str, list]]:
    """Rows as the csv module defines them; quotes keep separators and line ends inside a field."""
    csv.field_size_limit(MOST_CHARACTERS)
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file, delimiter="\t" if path.suffix.lower() == ".tsv" else ",", strict=True)
        try:
            header = next(reader, [])
            places = {name: header.index(name) for name in wanted if name in header}
            columns = {name: [] for name in places}
            for row in reader:
                if not row:  # an empty line
                    continue
                if len(row) != len(header):
                    raise InputError(
                        f"--table {path} line {reader.line_num}: {len(row)} fields, but the header has {len(header)} "
                        f"({', '.join(header)}); text that holds separators or line ends needs quotes"
                    )
                for name, place in places.items():
                    columns[name].append(row[place])
        except csv.Error as error:
            raise InputError(f"--table {path} line {reader.line_num}: {error}; check the quotes") from None
    return header, columns


def read_jsonl(path: Path, wanted: list[str]) -> tuple[list[str], dict[str, list]]:
    found, columns = {}, {name: [] for name in wanted}
    for line, item in json_objects(path):
        found.update(dict.fromkeys(item))
        for name in wanted:
            value = item.get(name)
            if isinstance(value, bool | list | dict):
                raise InputError(f"--table {path} line {line}: {name} is {value!r}, expected text or a number")
            columns[name].append(value)
    return list(found), columns


def json_objects(path: Path) -> Iterator[tuple[int, dict]]:
    with path.open(encoding="utf-8-sig", newline="\n") as file:  # only \n ends a line: texts hold other separators
        for number_, line in enumerate(file, start=1):
            if not line.strip():
                continue
            try:
                item = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise InputError(f"--table {path} line {number_}: not JSON ({error})") from None
            if not isinstance(item, dict):
                raise InputError(f"--table {path} line {number_}: a JSON object was expected, found {line[:80]!r}")
            yield number_, item


def read_parquet(path: Path, wanted: list[str]) -> tuple[list[str], dict[str, list]]:
    try:
        with pq.ParquetFile(path) as file:
            found = file.schema_arrow.names
            table = file.read([name for name in wanted if name in found])
    except FileNotFoundError:
        raise
    except (pa.ArrowException, ValueError, OSError) as error:
        raise InputError(f"--table {path}: truncated or not a Parquet file ({error})") from None
    columns = {}
    for name in wanted:
        if found.count(name) == 1:
            try:
                columns[name] = table.column(name).to_pylist()
            except Exception as error:  # of Python's dates and of time zones: each library has its own
                raise InputError(f"--table {path}: column {name}: its values cannot be read ({error})") from None
    return found, columns


# ---- its columns -> items ------------------------------------------------------------------------


def make_items(args, found: list[str], columns: dict[str, list], targets: list[str]) -> tuple[Items, list[str]]:
    """The items, and everything that is wrong with them."""
    problems: list[str] = []
    ids = as_text(columns[args.id_column], args.id_column, problems)
    text = as_text(columns[args.text_column], args.text_column, problems, numbers_too=True)
    values = [as_numbers(columns[name], name, ids, problems) for name in targets] or [np.full(len(ids), np.nan)]
    values = np.stack(values, axis=1)  # (N, L)
    popularity, label = np.full_like(values, np.nan), values
    if args.count_column:
        popularity = values
        too_small = (values + args.log_offset <= 0).any(axis=1) & ~(values < 0).any(axis=1)
        if too_small.any():
            problems.append(
                f"{int(too_small.sum())} items with count + {args.log_offset:g} = 0, which has no logarithm "
                f"({listed(ids[too_small])}); --log_offset 1 takes counts of 0"
            )
        with np.errstate(invalid="ignore", divide="ignore"):
            label = np.log2(values + args.log_offset)
            label[~np.isfinite(label)] = np.nan  # of a count that is complained of as such
    split = split_of(args, columns, label, problems)
    made = {}
    if args.user_column:
        made["user"] = as_text(columns[args.user_column], args.user_column, problems)
    for name, column in {"time": args.time_column, "label_time": args.label_time_column}.items():
        if column:
            made[name] = as_times(columns[column], column, ids, problems)
    items = Items(ids, text, popularity, label, split, **made)
    problems += items.problems()
    if not targets and (split != "predict").any():
        problems = [
            "items of split train, valid and test need a target: give --count_column or --label_column "
            f"(columns: {', '.join(found)})"
        ]
    return items, [f"--table {args.table}: {'; '.join(problems)}"] if problems else []


def as_text(values: list, column: str, problems: list[str], numbers_too: bool = False) -> np.ndarray:
    """(N,) str, None as ""; ids may be whole numbers, but not floats, which have lost digits already."""
    kinds = (str, int, float) if numbers_too else (str, int)
    if bad := [v for v in values if v is not None and v == v and (isinstance(v, bool) or not isinstance(v, kinds))]:
        kind = type(bad[0]).__name__
        problems.append(f"column {column}: {len(bad)} values of type {kind} ({listed(bad)}); write them as text")
    texts = np.array(["" if value is None or value != value else str(value) for value in values], object)
    try:
        pa.array(texts, pa.string())
    except (UnicodeError, pa.ArrowException):  # JSON can say half of a surrogate pair, UTF-8 cannot
        rows = [row for row, value in enumerate(texts, start=1) if value.encode("utf-8", "replace").decode() != value]
        problems.append(f"column {column}: {len(rows)} values hold half a character (items number {listed(rows)})")
    return texts


def as_numbers(values: list, column: str, ids: np.ndarray, problems: list[str]) -> np.ndarray:
    """(N,) float64, NaN where there is nothing; text that is no finite number is a problem."""
    out, bad = np.full(len(values), np.nan), []
    for row, value in enumerate(values):
        if value is None or value == "" or value != value:
            continue
        try:
            out[row] = float(value)
        except (TypeError, ValueError, OverflowError):
            bad.append(row)
            continue
        if not np.isfinite(out[row]):
            bad.append(row)
            out[row] = np.nan
    if bad:
        shown = listed(f"{ids[row]}: {str(values[row])[:40]!r}" for row in bad)
        problems.append(f"column {column}: {len(bad)} values are no finite number ({shown}); leave unknown ones empty")
    return out


def split_of(args, columns: dict[str, list], label: np.ndarray, problems: list[str]) -> np.ndarray:
    if args.split_column:
        return as_text(columns[args.split_column], args.split_column, problems)
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
    run_script(build_parser(), main)
