"""Frames and texts of a data set through an encoder that is loaded: its features, or captions, written into it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from common.arrays import Rows
from dataloader.store import FeatureStore
from feature_engineering.decoding.captured import CAPTURED, read_captured, write_captured, write_pictures
from feature_engineering.encoding.captions import CAPTIONS, write_captions
from feature_engineering.jobs.skipped import leave_out
from feature_engineering.jobs.storing import write_features
from feature_engineering.settings import DecodingSettings, StorageSettings

if TYPE_CHECKING:
    from feature_engineering.decoding.frames import Plan
    from feature_engineering.encoding.captioner import Asked, Blip
    from feature_engineering.encoding.clips import ClipEncoder
    from feature_engineering.encoding.images import ImageEncoder
    from feature_engineering.encoding.texts import TextEncoder


def make_textual(
    store: FeatureStore, encoder: TextEncoder, names: list[str], storage: StorageSettings, *, overwrite: bool
) -> None:
    """Of the titles, under each of `names`."""
    from feature_engineering.encoding.texts import encode_texts

    folder = store.folder / "textual.progress"
    array, progress = encode_texts(store.items.text, encoder, folder, overwrite=overwrite, then=storage.as_flags)
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
) -> tuple[FeatureStore, int, int]:
    """Of the frames: the data set without what could not be used, how many that were, and of how many."""
    from feature_engineering.encoding.images import encode_frames

    folder, then = store.folder / "visual.progress", storage.as_flags
    progress = encode_frames(folder, plan, encoder, decoding, overwrite=overwrite, then=then)
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
