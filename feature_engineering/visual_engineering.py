"""Encode the frames of a data set with any image encoder of transformers, as visual features (N, F, Dv).

The published system takes google/vit-base-patch16-224-in21k: its CLS vector of every frame. Frames come straight from
the videos (--videos <folder>, nothing else is written) or are read from pictures <item id>_<i>.jpg, as
video_frame_capture.py writes them. A killed or stopped run goes on where it was when the same command is typed again.
"""

from __future__ import annotations

import commands
from common.console import Parser, run_script
from common.settings import add_flags, made
from dataloader.place import folder_of, one_writer
from dataloader.store import FeatureStore
from feature_engineering.jobs.making import make_visual
from feature_engineering.jobs.skipped import warn_of_losses
from feature_engineering.jobs.storing import check_before_encoding
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


@one_writer
def main(args) -> None:
    # What imports torch takes seconds, so a mistyped flag is told of before.
    from feature_engineering.decoding.frames import make_plan
    from feature_engineering.encoding.images import ImageEncoder

    storage, source = made(StorageSettings, vars(args)), made(FrameSettings, vars(args))
    decoding = made(DecodingSettings, vars(args))
    store = FeatureStore.open(folder_of(args.dataset_path, args.dataset_id))
    check_before_encoding(store, ["visual"], storage, args.overwrite)
    plan = make_plan(store, source, decoding.on_error)
    encoder = ImageEncoder(made(EncoderSettings, vars(args)))
    how = {"from_videos": source.videos is not None, "overwrite": args.overwrite}
    store, lost, tried = make_visual(store, encoder, plan, decoding, storage, **how)
    commands.say_next(commands.next_steps(store))
    warn_of_losses(lost, tried, store.folder / "skipped.csv")


if __name__ == "__main__":
    run_script(build_parser(), main, commands.remedy)
