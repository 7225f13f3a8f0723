"""Features of single pictures, made elsewhere and keyed <item id>_<i>.jpg -> visual features (N, F, Dv) of a data set.

The table: .npz with `names` (P,) and `features` (P, Dv), or .parquet, .csv or .tsv with a column of names and either
one column of vectors (Parquet) or Dv columns of numbers. Rows of other items are passed over and counted.
"""

from __future__ import annotations

import commands

import math
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

from common.archives import opened
from common.arrays import scan
from common.console import InputError, Parser, listed, run_script, whole_number
from common.files import require_writable
from common.manifest import sha256_of
from common.settings import add_flags, flags_of, made
from dataloader.importing.feature_files import as_text, beyond_float32
from dataloader.place import add_dataset_flags, folder_of, one_writer
from dataloader.store import FeatureStore
from feature_engineering.decoding.naming import item_and_number
from feature_engineering.jobs.skipped import fail_on, leave_out_failed, warn_of_losses
from feature_engineering.jobs.storing import is_made, write_features
from feature_engineering.settings import DecodingSettings, StorageSettings

MOST_FRAMES = 10_000
MISSING = ("repeat", "zero", "lose")


def build_parser() -> Parser:
    parser = Parser(description=__doc__)
    place, pictures = parser.add_argument_group("data and place"), parser.add_argument_group("pictures")
    stored = parser.add_argument_group("what is stored")
    add_dataset_flags(place)
    place.add_argument("--overwrite", action="store_true", help="replace visual features that are there")
    pictures.add_argument(
        "--table", type=Path, required=True, help="the pictures' features: .npz, .parquet, .csv, .tsv"
    )
    pictures.add_argument("--name_column", default="name", help="column of the pictures' names (.npz: names)")
    pictures.add_argument(
        "--frame_num", type=whole_number(1), help="F; without it the largest number of a picture, and one"
    )
    pictures.add_argument(
        "--missing_frames",
        default="repeat",
        choices=MISSING,
        help="a frame that is not in the table: repeat the one before it (the first that is there, at the start), "
        "zero: zeros, lose: treat the item as --on_error says, as one without any frame is",
    )
    add_flags(stored, StorageSettings)
    flags_of(DecodingSettings)["on_error"].add(stored, "on_error")
    return parser


@one_writer
def main(args) -> None:
    storage = made(StorageSettings, vars(args))
    store = FeatureStore.open(folder_of(args.dataset_path, args.dataset_id), anew=["visual"] * args.overwrite)
    require_writable(store.folder)
    if not args.table.is_file():
        raise InputError(f"{args.table}: no such file")
    source = {"source": args.table.name, "content": sha256_of(args.table), "name_column": args.name_column}
    source |= {"missing_frames": args.missing_frames}
    asked = source | ({"frame_num": args.frame_num} if args.frame_num else {})
    if is_made(store, ["visual"], storage, asked, args.overwrite):
        return
    if "standard" in storage.normalise:
        store.rows("train")  # raises the InputError where it is empty
    match_table(store, args.table, args.frame_num, args.on_error, storage, source)


def match_table(
    store: FeatureStore,
    table: Path,
    frame_num: int | None,
    on_error: str,
    storage: StorageSettings,
    source: dict[str, str],
) -> None:
    """The features of pictures in `table` become visual features of the items.

    on_error: what becomes of an item without any frame. source: what dataset.json says of where they come from, with
    `name_column`, and `missing_frames`: what becomes of a frame that is not there.
    """
    missing_frames = source["missing_frames"]
    names, features = read_table(table, source["name_column"])
    rows, others = match(names, store.items.item_id, table)
    if not rows:
        raise InputError(f"{table}: no picture <item id>_<i> of any item of {store.folder} ({listed(names)})")
    frame_num = frame_num or 1 + max(max(frames) for frames in rows.values())
    if frame_num > MOST_FRAMES:
        raise InputError(f"{table}: a picture's number makes {frame_num} frames; --frame_num says how many there are")
    surplus = sum(number >= frame_num for frames in rows.values() for number in frames)
    place = np.full((len(store), frame_num), -1)  # (N, F) rows of the table, -1 where there is none
    for i, item_id in enumerate(store.items.item_id):
        for number, row in rows.get(item_id, {}).items():
            if number < frame_num:
                place[i, number] = row
    absent = place < 0
    none, some = absent.all(axis=1), absent.any(axis=1) & ~absent.all(axis=1)
    print(
        f"{table}: {int((~absent).sum())} frames of {int((~none).sum())} items; {int(absent.sum())} are missing "
        f"({int(some.sum())} items lack some, {int(none.sum())} all); {others} rows are of no item, {surplus} beyond "
        f"--frame_num {frame_num}"
    )
    lost = none | (some & (missing_frames == "lose"))
    reasons = {
        item_id: f"{int(absent[i].sum())} of {frame_num} frames are not in the table"
        for i, item_id in enumerate(store.items.item_id)
        if lost[i]
    }
    fail_on(reasons, on_error, table)
    if missing_frames == "repeat":
        place = repeat_previous(place)
    total, kept = len(store), np.ones(len(store), bool)
    if reasons:
        store, kept = leave_out_failed(store, reasons, on_error, "visual", table)
    write_features(store, ["visual"], Frames(features, np.where(lost[:, None], -1, place)[kept]), storage, source)
    warn_of_losses(len(reasons), total, store.folder / "skipped.csv")


class Frames:
    """Features (P, D) seen as (N, F, D) by the rows `place` (N, F); zeros where that is -1."""

    def __init__(self, features: np.ndarray, place: np.ndarray):
        self.features, self.place, self.shape = features, place, (*place.shape, features.shape[1])

    def __len__(self) -> int:
        return len(self.place)

    def __getitem__(self, key) -> np.ndarray:
        place = self.place[key]
        return np.where((place >= 0)[..., None], self.features[place], 0)


def repeat_previous(place: np.ndarray) -> np.ndarray:
    """(N, F): -1 becomes the entry before it, at the start the first that is there."""
    frames = np.arange(place.shape[1])
    last = np.maximum.accumulate(np.where(place >= 0, frames, -1), axis=1)
    first = (place >= 0).argmax(axis=1)[:, None]
    return np.take_along_axis(place, np.where(last < 0, first, last), axis=1)


def match(names: list[str], item_ids: np.ndarray, table: Path) -> tuple[dict[str, dict[int, int]], int]:
    """Item id -> frame number -> row; and how many rows belong to no item. InputError where a frame is there twice."""
    known, rows, others, twice = set(item_ids), {}, 0, []
    for row, name in enumerate(names):
        stem = Path(name).stem if Path(name).suffix.lower() in (".jpg", ".jpeg", ".png", ".webp") else name
        named = item_and_number(stem)
        if named is None or named[0] not in known:
            others += 1
            continue
        if rows.setdefault(named[0], {}).setdefault(named[1], row) != row:
            twice.append(name)
    if twice:
        raise InputError(f"{table}: {len(twice)} pictures are there twice ({listed(twice)})")
    return rows, others


def read_table(path: Path, name_column: str) -> tuple[list[str], np.ndarray]:
    """(P,) names and (P, D) features; InputError where the file is not such a table or holds NaN or infinity."""
    readers = {".npz": _read_npz, ".parquet": _read_arrow, ".csv": _read_arrow, ".tsv": _read_arrow}
    if path.suffix.lower() not in readers:
        raise InputError(f"--table {path}: the name must end in one of {', '.join(readers)}")
    if not path.is_file():
        raise InputError(f"--table {path}: no such file")
    names, features = readers[path.suffix.lower()](path, name_column)
    if features.ndim != 2 or len(features) != len(names) or not features.shape[1]:
        raise InputError(f"--table {path}: features of shape {features.shape} for {len(names)} names")
    bad, _, _ = scan(features)
    if bad.any():
        said = f"{int(bad.sum())} rows have NaN or infinity ({listed(np.array(names)[bad])})"
        raise InputError(f"--table {path}: {said}{beyond_float32(features, bad)}")
    return names, features


def _read_npz(path: Path, name_column: str) -> tuple[list[str], np.ndarray]:
    with opened(path, "truncated, pickled or not an .npz file of names and features", packed=True) as content:
        column = name_column if name_column in content.names else "names"
        names, features = content.head(column), content.head("features")
        if names.dtype.kind not in "US" or features.dtype.kind not in "fiu":
            raise InputError(f"--table {path}: names of type {names.dtype} and features of type {features.dtype}")
        if names.shape != features.shape[:1] or len(features.shape) != 2:
            raise InputError(f"--table {path}: features of shape {features.shape} for {math.prod(names.shape)} names")
        return [as_text(name) for name in content.read(column)], content.read("features")


def _read_arrow(path: Path, name_column: str) -> tuple[list[str], np.ndarray]:
    try:
        if path.suffix.lower() == ".parquet":
            table = pq.read_table(path)
        else:
            options = pyarrow.csv.ParseOptions(delimiter="\t" if path.suffix.lower() == ".tsv" else ",")
            as_text = pyarrow.csv.ConvertOptions(column_types={name_column: pa.string()})
            table = pyarrow.csv.read_csv(path, parse_options=options, convert_options=as_text)
        if name_column not in table.column_names:
            raise InputError(f"--table {path}: no column {name_column} (found {listed(table.column_names)})")
        names = table.column(name_column).cast(pa.string()).to_pylist()
        columns = [table.column(name) for name in table.column_names if name != name_column]
        if len(columns) == 1 and pa.types.is_nested(columns[0].type):
            lengths = pc.unique(pc.list_value_length(columns[0])).to_pylist()
            if len(lengths) != 1 or lengths[0] is None:
                raise InputError(f"--table {path}: vectors of different lengths ({listed(lengths)})")
            flat = pc.list_flatten(columns[0]).combine_chunks().cast(pa.float32())
            features = flat.to_numpy(zero_copy_only=False).reshape(len(names), -1)
        else:
            features = (
                np.stack([c.cast(pa.float32()).to_numpy() for c in columns], axis=1) if columns else np.empty((0, 0))
            )
    except (pa.ArrowException, ValueError, TypeError, KeyError, OSError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"--table {path}: truncated or no table of names and numbers ({error})") from None
    if None in names:
        raise InputError(f"--table {path}: {names.count(None)} rows without a name")
    return names, features


if __name__ == "__main__":
    run_script(build_parser(), main, commands.remedy)
