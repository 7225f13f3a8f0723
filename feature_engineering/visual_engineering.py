"""Encode the frames of a data set with any image encoder of transformers, as visual features (N, F, Dv).

The published system takes google/vit-base-patch16-224-in21k: its CLS vector of every frame. Frames come straight from
the videos (--videos <folder>, nothing else is written) or are read from pictures <item id>_<i>.jpg, as
video_frame_capture.py writes them. A killed or stopped run goes on where it was when the same command is typed again.
"""

from __future__ import annotations

from common.arrays import Rows
from common.console import Parser, run_script
from dataloader.place import dataset_folder
from dataloader.store import FeatureStore
from feature_engineering.captured import CAPTURED, read_captured, write_captured
from feature_engineering.encoders import (
    add_encoder_flags,
    add_storage_flags,
    check_before_encoding,
    write_features,
)
from feature_engineering.frames import add_source_flags, make_plan
from feature_engineering.images import ImageEncoder, encode_frames
from feature_engineering.skipped import leave_out, warn_of_losses

PUBLISHED = "google/vit-base-patch16-224-in21k"


def build_parser() -> Parser:
    parser = Parser(description=__doc__)
    add_encoder_flags(parser, PUBLISHED, batch_size=32)
    add_storage_flags(parser)
    add_source_flags(parser)
    return parser


def main(args) -> None:
    store = FeatureStore.open(dataset_folder(args))
    check_before_encoding(store, ["visual"], args)
    plan = make_plan(store, args)
    encoder = ImageEncoder(args)
    progress = encode_frames(store, plan, encoder, args, "visual")
    store, rows = leave_out(store, progress, args.on_error, "visual", plan.place)
    captured = progress.notes("captured")
    if not args.videos:  # a picture that repeats the last frame looks like a real one: the capture knows
        known = read_captured(plan.place / CAPTURED)
        captured = {item_id: facts | known.get(item_id, {}) for item_id, facts in captured.items()}
    write_captured(store.folder / CAPTURED, captured)
    write_features(store, ["visual"], Rows(progress.features, rows), args, encoder.provenance())
    progress.remove()
    warn_of_losses(len(progress.failed), progress.total, store.folder / "skipped.csv")


if __name__ == "__main__":
    run_script(build_parser(), main)
