"""Turn any table of items (CSV, TSV, JSON, Excel or Parquet) and, if there are any, feature arrays into a data set.

Items without a count or label go to split predict. A data set holds any kinds of features, of which none is needed:
text alone, thumbnails alone (visual features of one frame), ready vectors under a name of their own. With --videos
<folder> all features are made as well: a table and a folder of videos is all that a new data set needs. Without it
features may be added later, by feature_engineering/; the last lines that are printed say how.

With --append a data set that is there grows: by items that it does not have, whose features are made as its own were,
and by counts of its items of split predict. What it has keeps its row, split and bits, so that runs that were trained
on it still open it (test.py --bank).
"""

from __future__ import annotations

import commands

from pathlib import Path

from common.console import InputError, Parser, run_script
from common.settings import add_flags, flags_of, made
from dataloader.importing.columns import ColumnSettings
from dataloader.importing.data_set import Given, import_table
from dataloader.importing.scaling import add_normalise_flag
from dataloader.importing.settings import FileSettings, TableSettings
from dataloader.importing.splits import SplitSettings
from dataloader.importing.tables import SUFFIXES
from dataloader.modalities import named_files
from dataloader.names import DTYPES, FAMILIES, SPLITS
from dataloader.place import add_dataset_flags, folder_of, one_writer
from dataloader.store import FeatureStore
from feature_engineering.jobs.sequence import add_sequence_flags, check_sequence_flags, run_sequence
from feature_engineering.settings import DecodingSettings, FrameSettings, SequenceSettings

APPENDING = ("append", "append_split", "dataset_path", "dataset_id", "encoders", "horizon", "videos", "device")
APPENDING += tuple(flags_of(TableSettings)) + tuple(flags_of(DecodingSettings))
APPENDING += ("visual", "textual", "retrieval", "features")


def build_parser() -> Parser:
    parser = Parser(description=__doc__)
    place = parser.add_argument_group("table and place")
    tables = place.add_mutually_exclusive_group(required=True)
    tables.add_argument("--table", type=Path, help=f"one item a row: {', '.join(SUFFIXES)}, or these and .gz")
    tables.add_argument(
        "--append",
        type=Path,
        metavar="TABLE",
        help="a table of the same columns, of items that come now and of counts that are known now",
    )
    place.add_argument(
        "--append_split", default="train", choices=SPLITS[:3], help="of what --append brings with a count"
    )
    add_dataset_flags(place, default_id=None)
    place.add_argument("--family", default="MicroLens", choices=FAMILIES, help="whose MMRA model --model_id MMRA takes")
    place.add_argument("--overwrite", action="store_true", help="replace a data set that is already there")
    add_flags(parser.add_argument_group("columns of the table"), ColumnSettings)
    add_flags(parser.add_argument_group("splits"), SplitSettings)
    add_flags(parser.add_argument_group("reading the table"), TableSettings)
    features = parser.add_argument_group("features (.npy or .npz, one row an item)")
    add_flags(features, FileSettings)
    features.add_argument(
        "--features",
        nargs="+",
        action="extend",
        default=[],
        metavar="NAME=FILE",
        help="features of any other kind under a name of their own, as in audio=a.npy: (items, dimension) or (items, "
        "frames, dimension)",
    )
    add_normalise_flag(features, default=["none"])
    features.add_argument("--dtype", default="float32", choices=DTYPES, help="precision of the stored features")
    add_sequence_flags(parser, without=["on_error"])
    features.add_argument(
        "--encoders",
        nargs="+",
        action="extend",
        default=[],
        metavar="NAME=FOLDER",
        help="with --append: where the encoder of these features is now, if it was moved",
    )
    return parser


def main(args) -> None:
    if args.append:
        one_writer(grow)(args)
        return
    if "append_split" in args.typed or "encoders" in args.typed:
        raise InputError("--append_split and --encoders are for --append, which is not given")
    sequence = made(SequenceSettings, vars(args))
    # --on_error is for rows too, which need no videos.
    check_sequence_flags(sequence, {flag: value for flag, value in args.typed.items() if flag != "on_error"})
    columns, splits, reading, files = (
        made(settings, vars(args)) for settings in (ColumnSettings, SplitSettings, TableSettings, FileSettings)
    )
    given = Given(
        args.table,
        folder_of(args.dataset_path, args.dataset_id),
        columns,
        splits,
        reading,
        files,
        args.typed,
        family=args.family,
        keep_frames=args.keep_frames,
        overwrite=args.overwrite,
    )
    store, brought = import_table(given)
    commands.say_next(commands.next_steps(run_sequence(store, sequence, args.typed, files.modes, given=brought)))


def grow(args) -> None:
    """--append"""
    if idle := [flag for flag in args.typed if flag not in APPENDING]:
        raise InputError(f"--{idle[0]} does nothing with --append: the data set keeps what it was imported with")
    files, decoding = made(FileSettings, vars(args)), made(DecodingSettings, {**vars(args), "on_error": "skip"})
    from feature_engineering.jobs.appending import append
    from feature_engineering.jobs.likewise import Encoders

    store = FeatureStore.open(folder_of(args.dataset_path, args.dataset_id))
    frames = FrameSettings(videos=args.videos, frames=None if args.videos else store.folder / "frames")
    encoders = Encoders(store, named_files(args.encoders, "encoders"), args.device)
    reading = made(TableSettings, vars(args))
    split, given = args.append_split, files.named
    before = store.fingerprint
    store = append(store, args.append, reading, split, given, frames, decoding, encoders, args.horizon)
    if store.fingerprint == before:
        return
    commands.say_next(commands.next_steps(store))


if __name__ == "__main__":
    run_script(build_parser(), main, commands.remedy)
