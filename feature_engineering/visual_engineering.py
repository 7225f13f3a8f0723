"""Encode the frames of a data set with any image encoder of transformers, as visual features (N, F, Dv).

The published system takes google/vit-base-patch16-224-in21k: its CLS vector of every frame. Frames come straight from
the videos (--videos <folder>, nothing else is written) or are read from pictures <item id>_<i>.jpg, as
video_frame_capture.py writes them. A killed or stopped run goes on where it was when the same command is typed again.
"""

from __future__ import annotations

import commands
from common.arrays import Rows
from common.console import Parser, run_script
from common.settings import add_flags, made
from dataloader.place import folder_of
from dataloader.store import FeatureStore
from feature_engineering.decoding.captured import CAPTURED, read_captured, write_captured, write_pictures
from feature_engineering.jobs.skipped import leave_out, warn_of_losses
from feature_engineering.jobs.storing import check_before_encoding, write_features
from feature_engineering.settings import (
    VISUAL_ENCODER,
    DecodingSettings,
    EncoderSettings,
    FrameSettings,
    StorageSettings,
    add_encoder_flags,
)


def build_parser() -> Parser:
    parser = Parser(description=__doc__)
    add_encoder_flags(parser, encoder=VISUAL_ENCODER)
    add_flags(parser.add_argument_group("what is stored"), StorageSettings)
    frames = parser.add_argument_group("frames")
    add_flags(frames, FrameSettings)
    add_flags(frames, DecodingSettings)
    return parser


def main(args) -> None:
    # What imports torch takes seconds, so a mistyped flag is told of before.
    from feature_engineering.decoding.frames import make_plan
    from feature_engineering.encoding.images import ImageEncoder, encode_frames

    storage, source = made(StorageSettings, vars(args)), made(FrameSettings, vars(args))
    decoding = made(DecodingSettings, vars(args))
    store = FeatureStore.open(folder_of(args.dataset_path, args.dataset_id))
    check_before_encoding(store, ["visual"], storage, args.overwrite)
    plan = make_plan(store, source, decoding.on_error)
    encoder = ImageEncoder(made(EncoderSettings, vars(args)))
    folder = store.folder / "visual.progress"
    progress = encode_frames(folder, plan, encoder, decoding, overwrite=args.overwrite)
    store, rows = leave_out(store, progress, decoding.on_error, "visual", plan.place)
    captured = write_pictures(store, progress.notes("captured"))
    if not source.videos:
        # A picture that repeats the last frame of a short video looks like any other. Which ones do is in the list
        # that the capture left beside the pictures.
        known = read_captured(plan.place / CAPTURED)
        captured = {item_id: facts | known.get(item_id, {}) for item_id, facts in captured.items()}
    write_captured(store.folder / CAPTURED, captured)
    write_features(store, ["visual"], Rows(progress.features, rows), storage, encoder.provenance())
    progress.remove()
    print(commands.next_steps(FeatureStore.open(store.folder)))
    warn_of_losses(len(progress.failed), progress.total, store.folder / "skipped.csv")


if __name__ == "__main__":
    run_script(build_parser(), main, commands.remedy)
