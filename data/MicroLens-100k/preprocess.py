"""Turn the MicroLens-100k release, as it is distributed, into a data set; with --videos, its features too.

The same command, started again, goes on where it was stopped.
"""

from __future__ import annotations

import commands

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from common.console import InputError, Parser, number, run_script
from common.lock import locked
from common.settings import add_flags, made
from dataloader.description import Label
from dataloader.importing.splits import SplitSettings
from dataloader.MicroLens.dataset import COUNT_FILES, LABELS, TITLES, VIDEOS, make_items, read_raw
from dataloader.place import add_dataset_flags, folder_of
from dataloader.skipped import write_skipped
from dataloader.store import FeatureStore
from feature_engineering.jobs.sequence import add_sequence_flags, check_sequence_flags, run_sequence
from feature_engineering.jobs.skipped import warn_of_losses
from feature_engineering.settings import SequenceSettings


def build_parser() -> Parser:
    parser = Parser(description=__doc__)
    place, counts = parser.add_argument_group("data and place"), parser.add_argument_group("counts")
    place.add_argument("--raw", type=Path, required=True, help=f"folder of the release: {TITLES} ...")
    add_dataset_flags(place, default_id="MicroLens-100k")
    counts.add_argument("--label", default="comments", choices=LABELS, help="count to predict: log2(count + offset)")
    counts.add_argument(
        "--log_offset", type=number(0), default=0.0, help="published: 0; items of a count of 0 have no label then"
    )
    counts.add_argument(
        "--counts",
        choices=tuple(COUNT_FILES),
        help="where the comments are counted: pairs.csv or .tsv, or comment_en.txt; the first one there if not given",
    )
    place.add_argument("--overwrite", action="store_true", help="replace a data set that is already there")
    add_flags(parser.add_argument_group("splits"), SplitSettings)
    add_sequence_flags(parser)
    return parser


def main(args) -> None:
    sequence = made(SequenceSettings, vars(args))
    check_sequence_flags(sequence, args.typed)
    splitting = made(SplitSettings, vars(args))
    if (by := splitting.kind(None)) != "random":
        raise InputError(f"--split_by {by}: the release says neither who made a video nor when; random is what it has")
    folder = folder_of(args.dataset_path, args.dataset_id)
    raw = read_raw(args.raw, args.label, args.counts)
    items, skipped = make_items(raw, args.label, args.log_offset, splitting)
    label = Label((args.label,), "log2", args.log_offset, splitting.in_words())
    with locked(folder):
        how = {"family": "MicroLens", "label": label, "overwrite": args.overwrite}
        store = FeatureStore.create_or_continue(folder, items, **how)
        for note in raw.notes:
            print(note)
        path = write_skipped(folder, "items", skipped)
        store.finish()
    if skipped:
        print(f"{len(skipped)} of {len(raw.item_id)} items have no label: left out, listed in {path}")
    videos = args.raw / VIDEOS
    if sequence.videos is None and videos.is_dir():
        print(f"the videos are there; with all that follows from them: {command_with(videos, args.typed)}")
    commands.say_next(commands.next_steps(run_sequence(store, sequence, args.typed)))
    if not sequence.videos:
        # With videos the sequence ends with this warning, for these items and those that were lost later.
        warn_of_losses(len(skipped), len(raw.item_id), path)


def command_with(videos: Path, typed: Mapping[str, Any]) -> str:
    """This command again, with the videos of the release."""
    flags = {flag: value for flag, value in typed.items() if flag != "overwrite"} | {"videos": videos}
    words = ["python", "data/MicroLens-100k/preprocess.py"]
    for flag, value in flags.items():
        values = [] if value is True else value if isinstance(value, list) else [value]
        words += [f"--{flag}", *map(str, values)]
    return shlex.join(words)


if __name__ == "__main__":
    run_script(build_parser(), main, commands.remedy)
