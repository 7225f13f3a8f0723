"""Where each item's frames come from, videos or pictures, and their way through workers to an encoder's batches."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from tqdm import tqdm

from common.console import PROGRESS_BAR, InputError, listed
from dataloader.importing.video_files import Videos, read_named
from dataloader.place import place
from dataloader.store import FeatureStore
from feature_engineering.decoding import pixels, sound
from feature_engineering.decoding.captured import JPEG, in_text
from feature_engineering.decoding.naming import IMAGE_SUFFIXES, find_images, refuse_hostile_ids
from feature_engineering.decoding.videos import family_frames, frame_indices
from feature_engineering.decoding.workers import Failure, in_workers
from feature_engineering.jobs.progress import Shards
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


def in_shards(
    plan: Plan,
    shards: Shards,
    load: Callable,
    arguments: tuple,
    setup: tuple,
    decoding: DecodingSettings,
    ahead: int,
) -> Iterator[tuple[int, range, Iterator[tuple[int, Any]]]]:
    """Of each shard its number, its items, and of each item its number and what was made of it, or a Failure.

    That is load(input, *arguments), by workers that `setup`, a function and its arguments, prepares. ahead: items that
    are decoded before they are taken.
    """
    todo = [unit for _, units in shards for unit in units if plan.inputs[unit] is not None]
    tasks = ((plan.inputs[unit], *arguments) for unit in todo)
    results = in_workers(load, tasks, decoding.workers, decoding.timeout, ahead, *setup)
    total, left = len(plan.item_ids), sum(len(units) for _, units in shards)
    bar = tqdm(total=total, initial=total - left, desc="videos", unit="video", **PROGRESS_BAR)

    def decoded(units: range) -> Iterator[tuple[int, Any]]:
        for unit in units:
            there = plan.inputs[unit] is not None
            result = next(results) if there else Failure(plan.reasons[plan.item_ids[unit]])
            bar.update()
            yield unit, result

    try:
        for number, units in shards:
            yield number, units, decoded(units)
    finally:
        results.close()
        bar.close()


def batches_by_shard(
    plan: Plan, shards: Shards, encoder, decoding: DecodingSettings, listening=None
) -> Iterator[tuple[int, range, Iterator[np.ndarray], dict, dict]]:
    """Of each shard its number, its items, their frames in batches (B, 3, H, W), failures, captured.

    encoder: an encoder or captioner of frames, whose processor makes a picture its input and whose batch_size is B, of
    a video encoder a multiple of F.
    The two dictionaries fill while the batches are taken: item id -> why it failed, item id -> {real, note, jpeg}, the
    last one a thumbnail as decoding/captured.py reads it. An item that fails keeps its place, as black frames: what
    surrounds an item in its batch is always the same. listening: takes the sound of the items, which is decoded on the
    way (encoding/sounds.py).
    """
    setup = pixels.begin, (encoder.processor, *([listening.ear] if listening else ()))
    pixels.begin(*setup[1])
    blank = np.repeat(pixels.process(Image.new("RGB", (32, 32)))[None] * 0, plan.frame_num, axis=0)  # (F, 3, H, W)
    # So many items are decoded ahead that the next batch is complete when the encoder has finished this one.
    ahead = -(-encoder.batch_size // plan.frame_num) + 1
    load = pixels.with_sound if listening else plan.load

    def frames(results: Iterator[tuple[int, Any]], failed: dict, captured: dict) -> Iterator[np.ndarray]:
        for unit, result in results:
            item_id, images = plan.item_ids[unit], blank
            if listening:
                if isinstance(result, Failure):
                    result = apart(plan, unit, result, encoder.processor, listening.ear, decoding)
                result, heard = result
                listening.take(item_id, heard)
            if isinstance(result, Failure):
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
            yield images

    with contextlib.closing(in_shards(plan, shards, load, (plan.frame_num,), setup, decoding, ahead)) as decoded:
        for number, units, results in decoded:
            failed, captured = {}, {}
            yield number, units, _batched(frames(results, failed, captured), encoder.batch_size), failed, captured


def apart(plan: Plan, unit: int, failure: Failure, processor, ear: sound.Ear, decoding: DecodingSettings) -> tuple:
    """Frames and sound of a file that ended the worker which read both: what is wrong with one spares the other."""
    if (path := plan.inputs[unit]) is None:
        return failure, failure
    ways = (plan.load, (path, plan.frame_num), pixels.begin, processor), (sound.from_video, (path,), sound.begin, ear)
    results = []
    for load, task, begin, what in ways:
        results += in_workers(load, [task], 1, decoding.timeout, 0, begin, (what,))
    return tuple(results)


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
