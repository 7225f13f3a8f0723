"""Encode the frames of a data set with any image or video encoder of transformers, as visual features (N, F, Dv).

The published system takes google/vit-base-patch16-224-in21k: its CLS vector of every frame. A video encoder (VideoMAE,
TimeSformer, X-CLIP, V-JEPA 2) takes as many frames as its configuration says and makes one vector of them: F is 1, and
--frame_num is left out. Frames come straight from
the videos (--videos <folder>, nothing else is written) or are read from pictures <item id>_<i>.jpg, as
video_frame_capture.py writes them. A killed or stopped run goes on where it was when the same command is typed again.
"""

from __future__ import annotations

import commands
from common.console import InputError, Parser, run_script
from common.settings import add_flags, made
from dataloader.place import folder_of, one_writer
from dataloader.store import FeatureStore
from feature_engineering.jobs.making import make_visual
from feature_engineering.jobs.skipped import warn_of_losses
from feature_engineering.jobs.storing import check_before_encoding, is_made
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
    from feature_engineering.encoding.clips import visual_encoder

    storage, source = made(StorageSettings, vars(args)), made(FrameSettings, vars(args))
    decoding, encoding = made(DecodingSettings, vars(args)), made(EncoderSettings, vars(args))
    store = FeatureStore.open(folder_of(args.dataset_path, args.dataset_id))
    check_before_encoding(store, ["visual"], storage, {"encoder": {"name": encoding.label}}, args.overwrite)
    # What lacks of any number of frames is told of before an encoder is fetched, which says how many it takes.
    make_plan(store, source, decoding.on_error, 1)
    encoder = visual_encoder(encoding)
    if encoder.frame_num and source.frame_num not in (None, encoder.frame_num):
        raise InputError(
            f"--frame_num {source.frame_num}: the video encoder {args.encoder} makes one vector of "
            f"{encoder.frame_num} frames; leave it out"
        )
    plan = make_plan(store, source, decoding.on_error, encoder.frame_num)
    made_by = encoder.provenance() | {"frame_num": 1 if encoder.frame_num else plan.frame_num}
    if is_made(store, ["visual"], storage, made_by, args.overwrite):
        return commands.say_next(commands.next_steps(store))
    how = {"from_videos": source.videos is not None, "overwrite": args.overwrite}
    store, lost, tried = make_visual(store, encoder, plan, decoding, storage, **how)
    commands.say_next(commands.next_steps(store))
    warn_of_losses(lost, tried, store.folder / "skipped.csv")


if __name__ == "__main__":
    run_script(build_parser(), main, commands.remedy)
