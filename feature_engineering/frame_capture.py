"""Capture the frames of a data set's videos: <videos>/<item id>.<suffix> -> <frames>/<item id>/00.jpg, 01.jpg, ...

A second run goes on where the first one stopped: items whose frames are there are skipped.
"""

from __future__ import annotations

import argparse
import importlib
import shutil
from pathlib import Path

import av
import numpy as np
from PIL import Image
from tqdm import tqdm

from dataloader.console import (
    InputError,
    Parser,
    add_dataset_flags,
    dataset_folder,
    listed,
    run_script,
    whole_number,
)
from dataloader.store import FeatureStore, encoding_command
from feature_engineering.encoders import PROGRESS

# A folder of videos often holds .json, .jpg and .vtt files of the same names.
VIDEO_SUFFIXES = (
    *(".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".flv"),
    *(".wmv", ".mpg", ".mpeg", ".ts", ".3gp", ".ogv"),
)
QUALITY = 95
PARTIAL = ".partial"  # folder in --frames where an item's frames are written before they are renamed into place
LONGEST_NAME = 240  # bytes; file systems take 255, a suffix included


def build_parser() -> Parser:
    parser = Parser(description=__doc__)
    add_dataset_flags(parser)
    parser.add_argument("--videos", required=True, type=Path, help="folder of the videos, named <item id>.<suffix>")
    parser.add_argument(
        "--frame_num", type=whole_number(1), help="frames of a video; without it as the data set's family has them"
    )
    add_frames_flag(parser)
    parser.add_argument("--overwrite", action="store_true", help="capture frames anew that are already there")
    return parser


def add_frames_flag(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--frames", type=Path, help="folder of the frames; <data set's folder>/frames without it")


def frames_folder(args: argparse.Namespace) -> Path:
    return args.frames or dataset_folder(args) / "frames"


def main(args) -> None:
    store = FeatureStore.open(dataset_folder(args))
    refuse_hostile_ids(store)
    frame_num = args.frame_num or importlib.import_module(f"dataloader.{store.family}.dataset").FRAME_NUM
    videos, frames = find_videos(args.videos), frames_folder(args)
    todo, problems = plan(store.items.item_id, frames, frame_num, args.overwrite), {}
    for item_id in tqdm(todo, desc="videos", unit="video", **PROGRESS):
        if reason := capture_item(videos.get(item_id, []), frames, item_id, frame_num):
            problems[item_id] = reason
    shutil.rmtree(frames / PARTIAL, ignore_errors=True)
    captured, there = len(todo) - len(problems), len(store) - len(todo)
    print(f"{frames}: {frame_num} frames of {captured} videos captured, {there} were there already")
    if problems:
        raise InputError(f"{args.videos}: {summary(problems, len(store))}; mend them and run this again")
    print(f"next: {encoding_command('visual', store.folder)}")


def refuse_hostile_ids(store: FeatureStore) -> None:
    """Item ids become file names; one that is a path would be read or written outside its folder."""
    hostile = [
        item_id
        for item_id in store.items.item_id
        if item_id.startswith(".") or set(item_id) & set("/\\\0") or len(item_id.encode()) > LONGEST_NAME
    ]
    if hostile:
        raise InputError(
            f"{store.folder / 'items.parquet'}: {len(hostile)} item ids cannot name a file: they start with a dot, "
            f"hold a slash or exceed {LONGEST_NAME} bytes ({listed(repr(item_id[:80]) for item_id in hostile)})"
        )


def find_videos(folder: Path) -> dict[str, list[Path]]:
    """Item id -> the videos of that name (more than one is a problem of that item, told later)."""
    if not folder.is_dir():
        raise InputError(f"--videos {folder}: no such folder; it should hold one video an item, <item id>.<suffix>")
    found: dict[str, list[Path]] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() in VIDEO_SUFFIXES:
            found.setdefault(path.stem, []).append(path)
    return found


def plan(item_ids, frames: Path, frame_num: int, overwrite: bool) -> list[str]:
    """The items whose frames are not there yet; frames of another --frame_num are not mixed with these."""
    if overwrite:
        return list(item_ids)
    counts = {item_id: len(list((frames / item_id).glob("*.jpg"))) for item_id in item_ids}
    if other := [item_id for item_id, count in counts.items() if count not in (0, frame_num)]:
        raise InputError(
            f"{frames}: {len(other)} items have another number of frames than {frame_num} "
            f"({listed(other)}); --overwrite captures them anew"
        )
    return [item_id for item_id, count in counts.items() if count == 0]


def capture_item(videos: list[Path], frames: Path, item_id: str, frame_num: int) -> str | None:
    """Write the frames of one item; returns why it could not be done, None where it was."""
    if len(videos) != 1:
        return "missing" if not videos else "ambiguous, " + " and ".join(path.name for path in videos)
    try:
        images = capture(videos[0], frame_num)
    except (av.FFmpegError, ValueError) as error:
        return f"undecodable, {str(error).splitlines()[0]}"
    partial, folder = frames / PARTIAL / item_id, frames / item_id
    for stale in (partial, folder):
        shutil.rmtree(stale, ignore_errors=True)
    partial.mkdir(parents=True)
    width = max(2, len(str(frame_num - 1)))  # sorted by name is sorted by time
    for number, image in enumerate(images):
        image.save(partial / f"{number:0{width}d}.jpg", quality=QUALITY)
    partial.rename(folder)
    return None


def frame_indices(count: int, frame_num: int) -> np.ndarray:
    """(F,) the published protocol: evenly from the first frame to the last, truncated."""
    return np.linspace(0, count - 1, frame_num).astype(int)


def capture(path: Path, frame_num: int) -> list[Image.Image]:
    """The F frames of a video, upright; where decoding ends early the last frame is repeated.

    The container's count of frames is taken where it holds. Matroska declares none, and some files have more than
    they declare: then the first pass over the file was the count, and a second one picks.
    """
    with av.open(str(path)) as container:
        if not container.streams.video:
            raise ValueError("no video stream")
        declared = container.streams.best("video").frames
    picked, decoded = _pick(path, frame_indices(declared, frame_num) if declared > 0 else np.array([], int))
    if decoded > declared:
        picked, decoded = _pick(path, frame_indices(decoded, frame_num))
    if not decoded:
        raise ValueError("no frame in it")
    return picked


def _pick(path: Path, indices: np.ndarray) -> tuple[list[Image.Image], int]:
    """The frames at `indices` (ascending), the last one of all where there is none, and how many were decoded."""
    picked, count, last = [], 0, None
    with av.open(str(path)) as container:
        try:
            for frame in container.decode(container.streams.best("video")):
                for _ in range(int((indices == count).sum())):
                    picked.append(_upright(frame))
                count, last = count + 1, frame
        except av.FFmpegError:
            if last is None:
                raise
        picked += [_upright(last)] * (len(indices) - len(picked)) if last else []
    return picked, count


def _upright(frame: av.VideoFrame) -> Image.Image:
    """The picture as a player shows it: phones store it lying, with the angle beside it (counterclockwise)."""
    return frame.to_image().rotate(frame.rotation, expand=True)


def summary(problems: dict[str, str], total: int) -> str:
    """One line: how many videos are missing, and which could not be decoded for what reason."""
    missing = [item_id for item_id, reason in problems.items() if reason == "missing"]
    broken = [f"{item_id}: {reason}" for item_id, reason in problems.items() if reason != "missing"]
    parts = []
    if missing:
        parts.append(f"{len(missing)} of {total} videos are missing ({listed(missing)})")
    if broken:
        parts.append(f"{len(broken)} of {total} cannot be read ({listed(broken)})")
    return "; ".join(parts)


if __name__ == "__main__":
    run_script(build_parser(), main)
