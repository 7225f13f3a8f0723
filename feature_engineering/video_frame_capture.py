"""Capture the frames of a data set's videos as pictures: <videos>/<item id>.mp4 -> <frames>/<item id>_0.jpg, _1.jpg ...

A second run goes on where the first one stopped. Not needed for features alone: visual_engineering.py --videos takes
the frames straight from the videos.
"""

from __future__ import annotations

import commands

import contextlib
import itertools
from dataclasses import dataclass
from pathlib import Path

from PIL import Image
from tqdm import tqdm

from common.console import PROGRESS_BAR, InputError, Parser, listed, run_script, whole_number
from common.files import put_in_place, require_writable
from common.room import naming
from common.settings import add_flags, made
from dataloader.importing.video_files import Videos, read_named
from dataloader.place import add_dataset_flags, folder_of, one_writer
from dataloader.skipped import write_skipped
from dataloader.store import FeatureStore
from feature_engineering.decoding.captured import CAPTURED, captured_line, read_captured, write_captured
from feature_engineering.decoding.naming import find_images, frame_name, refuse_hostile_ids
from feature_engineering.decoding.videos import capture, family_frames
from feature_engineering.decoding.workers import Failure, in_workers
from feature_engineering.jobs.skipped import fail_on, warn_of_losses
from feature_engineering.settings import DecodingSettings, on_error_setting

QUALITY = 95


@dataclass(frozen=True)
class CaptureSettings(DecodingSettings):
    """As of every script that decodes, but for the policy zero: here are no features yet that could be zeros."""

    on_error: str = on_error_setting("skip", "fail")


def build_parser() -> Parser:
    parser = Parser(description=__doc__)
    place, frames = parser.add_argument_group("data and place"), parser.add_argument_group("frames")
    add_dataset_flags(place)
    place.add_argument("--videos", required=True, type=Path, help="folder of the videos, named <item id>.<suffix>")
    frames.add_argument(
        "--frame_num", type=whole_number(1), help="frames of a video; without it as the data set's family has them"
    )
    place.add_argument("--frames", type=Path, help="folder of the frames; <data set's folder>/frames without it")
    add_flags(frames, CaptureSettings)
    place.add_argument("--overwrite", action="store_true", help="capture frames anew that are already there")
    return parser


@one_writer
def main(args) -> None:
    store = FeatureStore.open(folder_of(args.dataset_path, args.dataset_id))
    refuse_hostile_ids(store)
    frames, frame_num = args.frames or store.folder / "frames", args.frame_num or family_frames(store.family)
    reasons, there = capture_frames(
        store, args.videos, frames, frame_num, made(CaptureSettings, vars(args)), overwrite=args.overwrite
    )
    next_step = commands.encoding_command("visual", store.folder) + (f" --frames {args.frames}" if args.frames else "")
    report(store, args.videos, frames, frame_num, reasons, there, next_step)


def capture_frames(
    store: FeatureStore, folder: Path, frames: Path, frame_num: int, decoding: CaptureSettings, *, overwrite: bool
) -> tuple[dict[str, str], int]:
    """Write F pictures of each video in `folder` into `frames`.

    Returns:
        Item id -> why there are none of it, and of how many items they were there already.
    """
    require_writable(frames)
    ids = store.items.item_id.tolist()
    videos, done = Videos(folder, read_named(store.folder)), already_there(frames, ids, frame_num, overwrite)
    found = {item_id: videos.of(item_id) for item_id in ids if item_id not in done}
    reasons = {item_id: why for item_id, (_, why) in found.items() if why}
    fail_on(reasons, decoding.on_error, folder)
    todo = [item_id for item_id in ids if item_id not in done and item_id not in reasons]
    frames.mkdir(parents=True, exist_ok=True)
    write_captured(frames / CAPTURED, done)
    tasks = ((found[item_id][0], frame_num, frames, item_id) for item_id in todo)
    results = in_workers(write_frames, tasks, decoding.workers, decoding.timeout)
    bar = tqdm(total=len(ids), initial=len(ids) - len(todo), desc="videos", unit="video", **PROGRESS_BAR)
    with naming(frames), bar, contextlib.closing(results), (frames / CAPTURED).open("a", encoding="utf-8") as file:
        for item_id, result in zip(todo, results, strict=True):
            if isinstance(result, Failure):
                reasons[item_id] = result.reason
                fail_on({item_id: result.reason}, decoding.on_error, folder)
            else:
                file.write(captured_line(item_id, {"frames": frame_num} | result))
                file.flush()
            bar.update()
    for item_id in reasons if overwrite else ():
        remove_frames(frames, item_id, 0)
    return reasons, len(done)


def already_there(frames: Path, ids: list[str], frame_num: int, overwrite: bool) -> dict[str, dict]:
    """The items whose frames are all there; frames of another --frame_num are not mixed with these."""
    if overwrite or not frames.is_dir():
        return {}
    captured, found = read_captured(frames / CAPTURED), find_images(frames, ids)
    if other := [item_id for item_id, facts in captured.items() if facts.get("frames") != frame_num]:
        raise InputError(
            f"{frames}: {len(other)} items have another number of frames than {frame_num} "
            f"({listed(other)}); --overwrite captures them anew"
        )
    return {item_id: facts for item_id, facts in captured.items() if len(found.get(item_id, [])) == frame_num}


def write_frames(video: Path, frame_num: int, frames: Path, item_id: str) -> dict:
    """In a worker: the F pictures of one item, each written beside its place; what captured.jsonl says of it."""
    captured = capture(video, frame_num, Image.fromarray, threads=1)
    for number, image in enumerate(captured.images):
        path = frames / frame_name(item_id, number)
        partial = path.with_suffix(".partial")
        image.save(partial, "jpeg", quality=QUALITY)
        put_in_place(partial, path)
    remove_frames(frames, item_id, frame_num)
    return {"real": captured.real} | ({"note": captured.note} if captured.note else {})


def remove_frames(frames: Path, item_id: str, first: int) -> None:
    """What an earlier run with a larger --frame_num left of an item, from number `first` on."""
    for number in itertools.count(first):
        path = frames / frame_name(item_id, number)
        if not path.exists():
            return
        path.unlink()


def report(
    store: FeatureStore,
    videos: Path,
    frames: Path,
    frame_num: int,
    reasons: dict[str, str],
    there: int,
    next_step: str,
) -> None:
    """List what could not be captured in skipped.csv, and say what was; InputError where nothing was."""
    total, path = len(store), write_skipped(store.folder, "frames", reasons)
    captured = total - len(reasons) - there
    print(f"{frames}: {frame_num} frames of {captured} videos captured, {there} were there already")
    shown = listed(f"{item}: {why}" for item, why in reasons.items())
    if len(reasons) == total:
        raise InputError(f"{videos}: no frames of any of the {total} items ({shown}); see {path}")
    noted = [facts for facts in read_captured(frames / CAPTURED).values() if "note" in facts]
    if noted:
        print(f"{len(noted)} videos are damaged, what could be decoded is used; see {frames / CAPTURED}")
    if reasons:
        print(f"{len(reasons)} of {total} videos gave no frames, listed in {path} ({shown})")
    commands.say_next(f"next: {next_step}")
    warn_of_losses(len(reasons), total, path)


if __name__ == "__main__":
    run_script(build_parser(), main, commands.remedy)
