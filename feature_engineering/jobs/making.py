"""Frames, sound and texts of a data set through a loaded encoder: its features, or captions, written into it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from common.arrays import Rows
from common.console import listed
from dataloader.metadata import HAS_SOUND
from dataloader.modalities import AUDIO
from dataloader.replacing import add_column
from dataloader.skipped import SOUND, write_skipped
from dataloader.store import FeatureStore
from feature_engineering.decoding.captured import CAPTURED, read_captured, write_captured, write_pictures
from feature_engineering.encoding.captions import CAPTIONS, write_captions
from feature_engineering.jobs.skipped import NothingUsable, leave_out, warn_of_losses
from feature_engineering.jobs.storing import is_made, write_features
from feature_engineering.settings import DecodingSettings, StorageSettings

if TYPE_CHECKING:
    from feature_engineering.decoding.frames import Plan
    from feature_engineering.encoding.captioner import Asked, Blip
    from feature_engineering.encoding.clips import ClipEncoder
    from feature_engineering.encoding.images import ImageEncoder
    from feature_engineering.encoding.sounds import Hearing, SoundEncoder
    from feature_engineering.encoding.texts import TextEncoder


def make_textual(
    store: FeatureStore, encoder: TextEncoder, names: list[str], storage: StorageSettings, *, overwrite: bool
) -> None:
    """Of the titles, under each of `names`."""
    from feature_engineering.encoding.texts import encode_texts

    folder = store.folder / "textual.progress"
    then = storage.as_flags | {"--output": " ".join(names)}
    array, progress = encode_texts(store.items.text, encoder, folder, overwrite=overwrite, then=then)
    write_features(store, names, array, storage, encoder.provenance())
    progress.remove()


def make_visual(
    store: FeatureStore,
    encoder: ImageEncoder | ClipEncoder,
    plan: Plan,
    decoding: DecodingSettings,
    storage: StorageSettings,
    *,
    from_videos: bool,
    overwrite: bool,
    hearing: Hearing | None = None,
) -> tuple[FeatureStore, int, int]:
    """Of the frames: the data set without what could not be used, how many that were, and of how many.

    hearing: makes the audio features too, of the same videos on the same way.
    """
    from feature_engineering.encoding.images import encode_frames

    listening = hearing if hearing and any(hearing.progress.pending()) else None
    how = {"overwrite": overwrite, "hearing": listening, "then": storage.as_flags}
    progress = encode_frames(store.folder / "visual.progress", plan, encoder, decoding, **how)
    if hearing:  # before items are left out, so that its progress is still of the items of the data set
        make_audio(store, hearing, decoding, storage)
    store, rows = leave_out(store, progress, decoding.on_error, "visual", plan.place)
    captured = write_pictures(store, progress.notes("captured"))
    if not from_videos:
        # A picture that repeats the last frame of a short video looks like any other. Which ones do is in the list
        # that the capture left beside the pictures.
        known = read_captured(plan.place / CAPTURED)
        captured = {item_id: facts | known.get(item_id, {}) for item_id, facts in captured.items()}
    write_captured(store.folder / CAPTURED, captured)
    write_features(store, ["visual"], Rows(progress.features, rows), storage, encoder.provenance())
    lost = len(progress.failed), progress.total
    progress.remove()
    return FeatureStore.open(store.folder), *lost


def captioned(captioner: Blip | Asked, plan: Plan) -> dict:
    """What captions.jsonl says of who made it."""
    from feature_engineering.encoding.encoders import provenance

    return provenance(captioner.model, captioner.source, **({"frame_num": plan.frame_num} | captioner.acted))


def hearing_beside(
    store: FeatureStore,
    plan: Plan,
    encoder: SoundEncoder,
    decoding: DecodingSettings,
    storage: StorageSettings,
    *,
    overwrite: bool,
) -> Hearing | None:
    """What hears the videos whose frames are encoded; None where that is done. InputError as by `is_made`."""
    from feature_engineering.encoding.sounds import Hearing

    if is_made(store, [AUDIO], storage, encoder.provenance(), overwrite):
        return None
    how = {"overwrite": overwrite, "then": storage.as_flags}
    return Hearing(store.folder / "audio.progress", plan, encoder, decoding.on_error, **how)


def make_audio(store: FeatureStore, hearing: Hearing, decoding: DecodingSettings, storage: StorageSettings) -> None:
    """audio.npy, zeros for what cannot be heard, and the column of the metadata that tells why it is zeros.

    No item is left out: what is broken is listed in skipped.csv, and its column says unknown.
    """
    progress = hearing.finish(decoding)
    failed, heard, ids = progress.failed, progress.notes("captured"), store.items.item_id
    path = write_skipped(store.folder, SOUND, failed, tried=ids)
    shown = listed(f"{item}: {why}" for item, why in failed.items())
    if len(failed) == len(ids) and storage.like is None:
        raise NothingUsable(f"{hearing.plan.place}: the sound of none of the {len(ids)} items can be decoded ({shown})")
    has_sound = np.array([-1 if item in failed else heard[item]["sound"] for item in ids], np.int8)
    add_column(store, HAS_SOUND, has_sound)
    write_features(store, [AUDIO], Rows(progress.features, np.arange(len(ids))), storage, hearing.encoder.provenance())
    print(f"sound: of {int((has_sound == 1).sum())} items; of {int((has_sound == 0).sum())} none, or silence: zeros")
    if damaged := [f"{item}: {facts['note']}" for item, facts in heard.items() if "note" in facts]:
        print(f"{len(damaged)} are heard as far as their sound can be decoded ({listed(damaged)})")
    if failed:
        print(f"{len(failed)} are broken: zeros too, listed in {path} ({shown})")
    warn_of_losses(len(failed), len(ids), path, "sounds")
    progress.remove()


def make_captions(
    store: FeatureStore, captioner: Blip | Asked, plan: Plan, decoding: DecodingSettings, *, overwrite: bool
) -> tuple[FeatureStore, int, int]:
    """captions.jsonl; what is returned is as by make_visual."""
    from feature_engineering.encoding.captioner import caption_frames

    progress = caption_frames(store.folder / "captions.progress", plan, captioner, decoding, overwrite=overwrite)
    store, _ = leave_out(store, progress, decoding.on_error, "captions", plan.place)
    captions = {item_id: [] for item_id in store.items.item_id} | progress.notes("captions")
    path = store.folder / CAPTIONS
    write_captions(path, captions, captioned(captioner, plan))
    lost = len(progress.failed), progress.total
    progress.remove()
    number = plan.frame_num // captioner.frames_per_request
    print(f"{path}: {number} caption{'s' * (number > 1)} of each of {len(store)} videos")
    if empty := sum("" in texts for texts in captions.values()):
        print(f"{empty} of them have an empty one: the model said nothing in at most {captioner.max_new_tokens} tokens")
    return store, *lost
