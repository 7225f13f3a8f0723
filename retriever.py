"""Find the top K most similar videos of the bank for every item of a data set: cosine search, exact or by FAISS.

The bank is split train (with --bank train+valid, the published choice, also valid); an item never retrieves itself,
and no item of test or predict is ever retrieved. Where the data set is split by time, an item retrieves only what was
known when it was published: what was counted by then, or, without times of counting, published before it. Equal
similarities go to the lower row.
"""

from __future__ import annotations

import commands

import argparse
import sys
from pathlib import Path

from common.console import InputError, Parser, run_script, whole_number
from common.devices import add_device_flag, pick_device
from dataloader.modalities import METADATA, RETRIEVAL, modality
from dataloader.names import AUTO, BACKENDS, BANKS
from dataloader.place import add_dataset_flags, folder_of, one_writer


def modality_or_retrieval(text: str) -> str:
    """An argparse type: features that can be compared."""
    if text == METADATA:
        raise argparse.ArgumentTypeError("metadata are columns, not vectors that could be compared")
    return modality(text)


def build_parser() -> Parser:
    parser = Parser(description=__doc__)
    place, search = parser.add_argument_group("data and place"), parser.add_argument_group("search")
    add_dataset_flags(place)
    add_device_flag(place)
    search.add_argument("--num_of_retrieved_items", type=whole_number(1), default=20, help="K: neighbours an item")
    search.add_argument(
        "--source",
        nargs="+",
        type=modality_or_retrieval,
        default=[RETRIEVAL],
        metavar="NAME",
        help="features that are compared, one after the other: retrieval, which most methods take and neighbours.npz "
        "holds; any others, as textual, visual (the mean of the frames) or words, for methods that learn from several "
        "sources (neighbours/NAME.npz)",
    )
    search.add_argument(
        "--bank",
        default="train",
        choices=BANKS,
        help="train+valid is published, but shows validation labels to training",
    )
    search.add_argument(
        "--backend",
        default=AUTO,
        choices=BACKENDS,
        help="exact: all are compared; hnsw, ivf, ivfpq: an index of FAISS proposes, a graph, lists, or lists of codes "
        "of four bits for two dimensions, and what share it finds is measured and said (requirements-scale.txt); auto "
        "is exact for a bank of up to 200,000 items; beyond it ivfpq pays",
    )
    search.add_argument("--batch_size", type=whole_number(1), default=2048, help="queries searched at once")
    show = parser.add_argument_group("a picture of what is retrieved")
    show.add_argument(
        "--show",
        type=whole_number(1),
        metavar="N",
        help="draw the frames of N test items and of their nearest neighbours as neighbours.png; neighbours of "
        "the same K and bank that are there already are not searched anew",
    )
    source = show.add_mutually_exclusive_group()
    source.add_argument("--videos", type=Path, help="folder of <item id>.mp4, for --show")
    source.add_argument(
        "--frames", type=Path, help="folder of <item id>_<i>.jpg; the data set's folder frames without it"
    )
    return parser


@one_writer
def main(args) -> None:
    if idle := [flag for flag in ("videos", "frames") if flag in args.typed and not args.show]:
        raise InputError(f"--{idle[0]} is for --show, which is not given")
    # Importing torch takes seconds, so it is imported after all that can be refused without it.
    from dataloader.search.retrieval import already_there, changed_since, retrieve
    from dataloader.store import FeatureStore

    store = FeatureStore.open(folder_of(args.dataset_path, args.dataset_id), need=args.source)
    if RETRIEVAL in args.source and (changed := changed_since(store)):
        print(
            f"warning: {store.folder}: the retrieval vectors were made of other {' and '.join(changed)} features than "
            f"those here now; make them anew with: {commands.encoding_command('retrieval', store.folder)} "
            "--source features --overwrite and the weights that dataset.json has of them",
            file=sys.stderr,
        )
    k = args.num_of_retrieved_items
    store.check_features(*args.source)  # all of them before anything is written
    for source in dict.fromkeys(args.source):
        neighbours = already_there(store, k, args.bank, source) if args.show and "backend" not in args.typed else None
        if neighbours is None:
            neighbours = retrieve(store, k, args.bank, pick_device(args.device), args.batch_size, source, args.backend)
    if args.show:
        from feature_engineering.showcase import show_neighbours

        print(f"{show_neighbours(store, neighbours, args.show, args.videos, args.frames)}: queries and neighbours")
    commands.say_next(f"next: {commands.training_command(store)}")


if __name__ == "__main__":
    run_script(build_parser(), main, commands.remedy)
