"""Turn the NUS (Vine) release, as it is distributed, into a data set: labels, splits and the features it brings.

With --videos <folder>, which holds <video id>.mp4, all features are made of the videos and captions instead.
"""

from __future__ import annotations

import commands

from pathlib import Path

import numpy as np

from common.console import InputError, Parser, listed, run_script
from common.lock import locked
from common.settings import add_flags, made
from dataloader.description import Label
from dataloader.importing.feature_files import has_ids, load_features
from dataloader.importing.scaling import (
    add_normalise_flag,
    add_normalised,
    check_normalised,
    modes_by_array,
    refuse_other,
)
from dataloader.importing.splits import SplitSettings, make_split
from dataloader.items import Items
from dataloader.NUS.dataset import FEATURE_FILES, LABELS, read_raw
from dataloader.NUS.orders import TEXT, TRUTH, parse_orders
from dataloader.place import add_dataset_flags, folder_of
from dataloader.store import FeatureStore
from feature_engineering.jobs.sequence import add_sequence_flags, check_sequence_flags, run_sequence
from feature_engineering.settings import SequenceSettings


def build_parser() -> Parser:
    parser = Parser(description=__doc__)
    place = parser.add_argument_group("data and place")
    place.add_argument(
        "--raw", type=Path, required=True, help="folder of the release: video_id.txt, ground_truth.txt ..."
    )
    add_dataset_flags(place, default_id="NUS")
    parser.add_argument_group("counts").add_argument(
        "--label",
        default="loops",
        choices=(*LABELS, "all"),
        help="count to predict, as log2(count + 1); all: four targets",
    )
    add_flags(parser.add_argument_group("splits"), SplitSettings)
    release = parser.add_argument_group("files of the release")
    release.add_argument(
        "--order",
        nargs="+",
        action="extend",
        default=[],
        metavar="FILE=LIST",
        help="whose lines those of a file are: as in ground_truth.txt=video_user or histogram_feature.npz=video_id; "
        "decided by evidence, and said, if not given",
    )
    add_normalise_flag(release, default=["visual=standard+l2"])
    add_sequence_flags(parser)
    place.add_argument("--overwrite", action="store_true", help="replace a data set that is already there")
    return parser


def main(args) -> None:
    sequence = made(SequenceSettings, vars(args))
    check_sequence_flags(sequence, args.typed)
    folder = folder_of(args.dataset_path, args.dataset_id)
    modes = modes_by_array(args.normalise)
    files = {} if args.videos else {k: file for k, file in FEATURE_FILES.items() if (args.raw / file).exists()}
    orders = parse_orders(args.order, (TRUTH, TEXT, *files.values()))
    raw = read_raw(args.raw, orders)
    n, features, reasons = len(raw.video_id), {}, {}
    for name, file in files.items():
        features[name] = load_features(args.raw / file, name, raw.video_id, raw.orders[file].ids)
        reasons[name] = raw.orders[file].reason
        if has_ids(args.raw / file):
            if file in orders:
                raise InputError(f"--order {file}={orders[file]}: it names the ids of its rows itself; leave it out")
            reasons[name] = "it names the ids of its rows"
    splitting = made(SplitSettings, vars(args))
    by = splitting.kind(None)
    if by == "user" and (raw.user == "").any():
        unknown, file = raw.video_id[raw.user == ""], args.raw / "video_user.txt"
        raise InputError(f"--split_by user: {len(unknown)} of {n} videos have no user in {file} ({listed(unknown)})")
    if args.videos and "normalise" not in args.typed:
        # The default of --normalise is meant for the histograms of the release, not for what encoders make.
        modes = modes_by_array(["none"])
    named = {setting.rpartition("=")[0] for setting in args.typed.get("normalise", [])}
    if "normalise" in args.typed and not args.videos and (not features or named - {"", *features}):
        known = ", ".join(f"{name} {file}" for name, file in FEATURE_FILES.items())
        raise InputError(
            f"--normalise {' '.join(args.normalise)}: no such features in --raw {args.raw} (files: {known})"
        )
    targets = LABELS if args.label == "all" else (args.label,)
    counts = raw.counts[:, [LABELS.index(target) for target in targets]]
    items = Items(
        raw.video_id,
        raw.text,
        counts,
        np.log2(counts + 1),
        make_split(splitting, by, np.ones(n, bool), raw.created, raw.user),
        user=raw.user,
        time=raw.created,
    )
    label = Label(tuple(targets), "log2", 1, splitting.in_words())
    with locked(folder):
        store = FeatureStore.create_or_continue(folder, items, family="NUS", label=label, overwrite=args.overwrite)
        for note in (*raw.notes, *(f"{files[name]}: {reason}" for name, reason in reasons.items())):
            print(note)
        missing = [name for name in features if name not in store.features]
        for name, array in features.items():
            if name in missing:
                add_normalised(store, name, array, modes[name], source=FEATURE_FILES[name], order=reasons[name])
            else:
                sha256 = check_normalised(FEATURE_FILES[name], array, modes[name], "float32", items)
                refuse_other(store, name, sha256, items)
        if features and not missing:
            print(f"{folder}: finished already, nothing was missing")
        store.finish()
    commands.say_next(commands.next_steps(run_sequence(store, sequence, args.typed, modes)))
    if set(features) == set(FEATURE_FILES):
        print(
            f"before it, for better text features than {FEATURE_FILES['textual']}: "
            f"{commands.encoding_command('textual', folder)} --normalise standard+l2 --overwrite"
        )


if __name__ == "__main__":
    run_script(build_parser(), main, commands.remedy)
