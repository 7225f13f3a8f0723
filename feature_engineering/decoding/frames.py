"""Where each item's frames come from, videos or pictures, and their way through workers to an encoder's batches."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from common.console import PROGRESS_BAR, InputError, listed
from dataloader.importing.video_files import Videos, read_named
from dataloader.place import place
from dataloader.store import FeatureStore
from feature_engineering.decoding import pixels
from feature_engineering.decoding.captured import JPEG, in_text
from feature_engineering.decoding.naming import IMAGE_SUFFIXES, find_images, refuse_hostile_ids
from feature_engineering.decoding.videos import family_frames, frame_indices
from feature_engineering.decoding.workers import Failure, in_workers
from feature_engineering.jobs.progress import Progress
from feature_engineering.jobs.skipped import fail_on
from feature_engineering.settings import DecodingSettings, FrameSettings

SHARD_ITEMS = 32  # A killed run loses the work on at most so many items.


@dataclass
class Plan:
    """What to do for each of the N items of a store."""

    item_ids: list[str]
    place: Path  # the folder of the videos or the pictures
    frame_num: int  # F
    load: Callable  # the workers' function, of pixels.py
    inputs: list  # N: a path, or the paths of the pictures; None where there is nothing
    reasons: dict[str, str] = field(default_factory=dict)  # item id -> why there is nothing


def plan_videos(store: FeatureStore, folder: Path, frame_num: int | None) -> Plan:
    videos, ids = Videos(folder, read_named(store.folder)), store.items.item_id.tolist()
    plan = Plan(ids, folder, frame_num or family_frames(store.family), pixels.from_video, [])
    for item_id in ids:
        path, reason = videos.of(item_id)
        if reason:
            plan.reasons[item_id] = reason
        plan.inputs.append(path)
    return plan


def plan_images(store: FeatureStore, folder: Path, frame_num: int | None, *, clips: bool) -> Plan:
    """Items have all as many pictures as most of them have; the last picture of those that have fewer repeats.

    clips: of those that have more, pictures are taken at the positions at which frames of a video would be.
    """
    if not folder.is_dir():
        raise InputError(
            f"{folder}: no such folder of frames; capture frames with: python "
            f"feature_engineering/video_frame_capture.py {place(store.folder)} --videos <folder>"
        )
    ids = store.items.item_id.tolist()
    found = find_images(folder, ids)
    counts = [len(found[item_id]) for item_id in ids if item_id in found]
    if not counts:
        raise InputError(f"{folder}: no picture <item id>_<i>.jpg ({', '.join(IMAGE_SUFFIXES)}) of any item in it")
    most = int(np.bincount(counts).argmax())
    frame_num = frame_num or most
    if clips and most < frame_num:
        print(
            f"{folder}: most items have {most} of the {frame_num} pictures that the video encoder takes: the last one "
            f"repeats; video_frame_capture.py --frame_num {frame_num} captures as many"
        )
    plan = Plan(ids, folder, frame_num, pixels.from_images, [])
    for item_id in ids:
        paths = found.get(item_id, [])
        if clips and paths:
            paths = [paths[i] for i in frame_indices(len(paths), frame_num)]
        if not paths or len(paths) > frame_num:
            plan.reasons[item_id] = f"{len(paths)} pictures, not {frame_num}" if paths else "no picture of it"
        plan.inputs.append(None if item_id in plan.reasons else paths)
    return plan


def make_plan(store: FeatureStore, source: FrameSettings, on_error: str, clip: int | None = None) -> Plan:
    """A plan for videos where `source` names their folder, else for pictures.

    clip: how many frames a video encoder takes of each, in place of `source`'s number.
    InputError where no item has anything to decode, and with `on_error` fail also where one item has nothing.
    """
    if not source.videos or read_named(store.folder) is None:
        refuse_hostile_ids(store)
    frame_num = clip or source.frame_num
    if source.videos:
        plan = plan_videos(store, source.videos, frame_num)
    else:
        plan = plan_images(store, source.frames or store.folder / "frames", frame_num, clips=clip is not None)
    if len(plan.reasons) == len(plan.item_ids):
        shown = listed(f"{item}: {why}" for item, why in plan.reasons.items())
        raise InputError(f"{plan.place}: nothing for any of the {len(plan.item_ids)} items ({shown})")
    fail_on(plan.reasons, on_error, plan.place)
    return plan


def batches_by_shard(
    plan: Plan, progress: Progress, encoder, decoding: DecodingSettings
) -> Iterator[tuple[int, range, Iterator[np.ndarray], dict, dict]]:
    """The shards that are not done: number, items, their frames in batches (B, 3, H, W), failures, captured.

    encoder: an encoder or captioner of frames, whose processor makes a picture its input and whose batch_size is B, of
    a video encoder a multiple of F.
    The two dictionaries fill while the batches are taken: item id -> why it failed, item id -> {real, note, jpeg}, the
    last one a thumbnail as decoding/captured.py reads it. An item that fails keeps its place, as black frames: what
    surrounds an item in its batch is always the same.
    """
    pixels.begin(encoder.processor)
    blank = np.repeat(pixels.process(Image.new("RGB", (32, 32)))[None] * 0, plan.frame_num, axis=0)  # (F, 3, H, W)
    shards = list(progress.pending())
    todo = [unit for _, units in shards for unit in units if plan.inputs[unit] is not None]
    tasks = ((plan.inputs[unit], plan.frame_num) for unit in todo)
    # So many items are decoded ahead that the next batch is complete when the encoder has finished this one.
    ahead = -(-encoder.batch_size // plan.frame_num) + 1
    setup = pixels.begin, (encoder.processor,)
    results = in_workers(plan.load, tasks, decoding.workers, decoding.timeout, ahead, *setup)
    bar = tqdm(total=progress.total, initial=progress.units_done, desc="videos", unit="video", **PROGRESS_BAR)

    def frames(units: range, failed: dict, captured: dict) -> Iterator[np.ndarray]:
        for unit in units:
            item_id, images = plan.item_ids[unit], blank
            if plan.inputs[unit] is None:
                failed[item_id] = plan.reasons[item_id]
            elif isinstance(result := next(results), Failure):
                failed[item_id] = result.reason
                fail_on({item_id: result.reason}, decoding.on_error, plan.place)
            else:
                images, real, note, jpeg = result
                if images.shape != blank.shape:
                    raise InputError(
                        f"--encoder: its processor gives pictures of {images.shape[2:]} and of {blank.shape[2:]}; "
                        "one that resizes or crops to one size is needed"
                    )
                captured[item_id] = {"real": real} | ({"note": note} if note else {}) | {JPEG: in_text(jpeg)}
            bar.update()
            yield images

    try:
        for number, units in shards:
            failed, captured = {}, {}
            yield number, units, _batched(frames(units, failed, captured), encoder.batch_size), failed, captured
    finally:
        results.close()
        bar.close()


def _batched(arrays: Iterator[np.ndarray], size: int) -> Iterator[np.ndarray]:
    """Arrays of any lengths -> the same rows in arrays of `size`, the last one smaller."""
    waiting, count = [], 0
    for array in arrays:
        waiting.append(array)
        count += len(array)
        while count >= size:
            rows = np.concatenate(waiting)
            yield rows[:size]
            waiting, count = [rows[size:]], count - size
    if count:
        yield np.concatenate(waiting)
