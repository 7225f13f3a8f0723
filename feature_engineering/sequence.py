"""From videos and texts to all features of a data set: the feature scripts in order, as one resumable command."""

from __future__ import annotations

import argparse
import os
import shlex
import subprocess
import sys
from collections.abc import Collection, Iterator
from pathlib import Path

from common.console import InputError, whole_number
from common.devices import add_device_flag
from dataloader.describing import describe
from dataloader.place import next_steps
from dataloader.store import FeatureStore
from feature_engineering.captions import CAPTIONS, captioner
from feature_engineering.skipped import add_on_error_flag, read_skipped, warn_of_losses
from feature_engineering.videos import find_videos
from feature_engineering.workers import add_worker_flags

ROOT = Path(__file__).resolve().parent.parent
NONE = "none"
ENCODERS = {  # flag -> the published encoder, what it makes
    "visual_encoder": ("google/vit-base-patch16-224-in21k", "visual features"),
    "caption_encoder": ("Salesforce/blip-image-captioning-base", f"captions of the frames; {NONE}: no captions"),
    "textual_encoder": ("WhereIsAI/angle-bert-base-uncased-nli-en-v1", "textual features"),
    "retrieval_encoder": ("WhereIsAI/UAE-Large-V1", "retrieval vectors, of titles and captions"),
}
COMMON = ("device", "precision")  # flags that every step takes
DECODING = ("frame_num", "workers", "timeout", "on_error")  # and those that decode videos


def add_sequence_flags(parser: argparse.ArgumentParser) -> None:
    """`--videos`, which asks for the whole sequence, and what its steps take."""
    group = parser.add_argument_group(
        "videos", "with --videos all features are made too; a stopped run goes on when the same command is typed again"
    )
    group.add_argument("--videos", type=Path, help="folder of the videos, <item id>.mp4")
    for flag, (encoder, what) in ENCODERS.items():
        group.add_argument(f"--{flag}", default=encoder, metavar="NAME|FOLDER", help=what)
    group.add_argument("--keep_frames", action="store_true", help="write the frames as pictures, and read them there")
    group.add_argument("--frame_num", type=whole_number(1), help="frames of a video; those of the family without it")
    group.add_argument("--precision", default="auto", choices=("auto", "fp32", "bf16"), help="of the encoders")
    add_device_flag(group)
    add_worker_flags(group)
    add_on_error_flag(group)


def check_sequence_flags(args: argparse.Namespace) -> None:
    """InputError where there are no such videos, or a flag that acts only beside them; before anything is written."""
    idle = [flag for flag in args.typed if flag in {*ENCODERS, *COMMON, *DECODING, "keep_frames"}]
    if idle and not args.videos:
        raise InputError(f"--{idle[0]} does nothing without --videos")
    if args.videos:
        find_videos(args.videos)


def run_sequence(
    store: FeatureStore,
    args: argparse.Namespace,
    normalise: dict[str, str] | None = None,
    given: Collection[str] = (),
) -> None:
    """Make what `store` lacks, a script a step, or print the next steps where there is no --videos.

    normalise: array -> mode. given: arrays that files of this command brought. Ends the process with a step's exit
    code where that fails.
    """
    if not args.videos:
        print(describe(store))
        print(next_steps(store))
        return
    for command in steps(store, args, normalise or {}, given):
        print(f"\n$ {shlex.join(['python', *command])}", flush=True)
        code = subprocess.run([sys.executable, *command]).returncode
        if code:
            how = "the same command without --overwrite" if args.overwrite else "the same command"
            print(f"{Path(sys.argv[0]).name}: stopped; {how} goes on from here", file=sys.stderr)
            sys.exit(code)
    store = FeatureStore.open(store.folder)
    print(f"\n{describe(store)}")
    print(next_steps(store))
    lost = {row["item_id"] for row in read_skipped(store.folder)}
    warn_of_losses(len(lost), len(lost | set(store.items.item_id)), store.folder / "skipped.csv")


def steps(
    store: FeatureStore, args: argparse.Namespace, normalise: dict[str, str], given: Collection[str] = ()
) -> Iterator[list[str]]:
    """The commands that are still to be run; InputError where a result is there that another encoder made."""
    if args.keep_frames:
        yield [*script("video_frame_capture", store), "--videos", str(args.videos), *typed(args, DECODING[:-1])]
    source = [] if args.keep_frames else ["--videos", str(args.videos)]
    decoding = [*source, *typed(args, DECODING)]
    if not made(store, "visual", args.visual_encoder, given):
        yield encoding("visual", "visual_engineering", store, args, normalise) + decoding
    captions, path = args.caption_encoder != NONE, store.folder / CAPTIONS
    if captions and path.exists() and captioner(path) not in (None, label_of(args.caption_encoder)):
        raise InputError(f"{path}: captions by {captioner(path)} are here already; --overwrite begins anew")
    if captions and "retrieval" not in store.arrays and not path.exists():
        command = [*script("captioning", store), "--encoder", args.caption_encoder, *typed(args, COMMON)]
        yield command + decoding
    if not made(store, "textual", args.textual_encoder, given):
        yield encoding("textual", "textual_engineering", store, args, normalise)
    if not made(store, "retrieval", args.retrieval_encoder, given):
        command = encoding("retrieval", "retrieval_engineering", store, args, normalise)
        yield [*command, "--source", "captions" if captions else "text"]


def label_of(encoder: str) -> str:
    """The name that a data set knows an encoder by."""
    return Path(encoder).resolve().name if Path(encoder).is_dir() else encoder.partition("@")[0]


def made(store: FeatureStore, name: str, encoder: str, given: Collection[str]) -> bool:
    """Whether the features `name` are there, made by this encoder or `given` by a file of this command."""
    if name not in store.arrays:
        return False
    found = store.info["arrays"][name]
    by = found.get("encoder", {}).get("name")
    if name in given:
        return True
    if by != label_of(encoder):
        origin = f"by {by}" if by else f"from {found.get('source', 'elsewhere')}"
        raise InputError(f"{store.folder}: {name} features {origin} are here already; --overwrite begins anew")
    print(f"{store.folder / name}.npy is there already")
    return True


def encoding(name: str, stem: str, store: FeatureStore, args: argparse.Namespace, normalise: dict) -> list[str]:
    mode = normalise.get(name, "none")
    scale = [] if mode == "none" else ["--normalise", mode]
    return [
        *script(stem, store),
        "--encoder",
        getattr(args, f"{name}_encoder"),
        *scale,
        *typed(args, (*COMMON, "dtype")),
    ]


def script(stem: str, store: FeatureStore) -> list[str]:
    path = os.path.relpath(ROOT / "feature_engineering" / f"{stem}.py")
    return [path, "--dataset_path", str(store.folder.parent), "--dataset_id", store.folder.name]


def typed(args: argparse.Namespace, flags: tuple[str, ...]) -> list[str]:
    """The flags of `flags` that were typed, to be typed again."""
    return [word for flag in flags if flag in args.typed for word in (f"--{flag}", str(args.typed[flag]))]
