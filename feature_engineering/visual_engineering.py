"""Encode the frames of a data set with any image or video encoder of transformers, as visual features (N, F, Dv).

The published system takes google/vit-base-patch16-224-in21k: its CLS vector of every frame. A video encoder (VideoMAE,
TimeSformer, X-CLIP, V-JEPA 2) takes as many frames as its configuration says and makes one vector of them: F is 1, and
--frame_num is left out. Frames come straight from
the videos (--videos <folder>, nothing else is written) or are read from pictures <item id>_<i>.jpg, as
video_frame_capture.py writes them. A killed or stopped run goes on where it was when the same command is typed again.

With --audio_encoder each video is read once for its frames and for its sound, and audio features are made too, with the
same bits as by audio_engineering.py.
"""

from __future__ import annotations

import commands

from dataclasses import replace

from common.console import InputError, Parser, run_script
from common.settings import add_flags, made
from dataloader.modalities import AUDIO
from dataloader.place import folder_of, one_writer
from dataloader.store import FeatureStore
from feature_engineering.jobs.making import hearing_beside, make_audio, make_visual
from feature_engineering.jobs.skipped import warn_of_losses
from feature_engineering.jobs.storing import check_before_encoding, is_made
from feature_engineering.settings import (
    VISUAL_ENCODER,
    DecodingSettings,
    EncoderSettings,
    FrameSettings,
    SoundSettings,
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
    sound = parser.add_argument_group("sound")
    sound.add_argument(
        "--audio_encoder", metavar="NAME[@REVISION]|FOLDER", help="make audio features too; without it there are none"
    )
    add_flags(sound, SoundSettings)
    return parser


@one_writer
def main(args) -> None:
    # What imports torch takes seconds, so a mistyped flag is told of before.
    from feature_engineering.decoding.frames import make_plan
    from feature_engineering.encoding.clips import visual_encoder

    storage, source = made(StorageSettings, vars(args)), made(FrameSettings, vars(args))
    decoding, encoding = made(DecodingSettings, vars(args)), made(EncoderSettings, vars(args))
    store = FeatureStore.open(
        folder_of(args.dataset_path, args.dataset_id),
        anew=["visual", *([AUDIO] * bool(args.audio_encoder))] * args.overwrite,
    )
    if "seconds" in args.typed and not args.audio_encoder:
        raise InputError("--seconds does nothing without --audio_encoder; leave it out")
    if args.audio_encoder and not source.videos:
        raise InputError("--audio_encoder: sound is heard of videos alone; say where they are with --videos")
    check_before_encoding(store, ["visual"], storage, {"encoder": {"name": encoding.label}}, args.overwrite)
    if args.audio_encoder:
        listening = replace(encoding, encoder=args.audio_encoder)
        check_before_encoding(store, [AUDIO], storage, {"encoder": {"name": listening.label}}, args.overwrite)
    # What lacks of any number of frames is told of before an encoder is fetched, which says how many it takes.
    make_plan(store, source, decoding.on_error, 1)
    encoder = visual_encoder(encoding)
    if encoder.frame_num and source.frame_num not in (None, encoder.frame_num):
        raise InputError(
            f"--frame_num {source.frame_num}: the video encoder {args.encoder} makes one vector of "
            f"{encoder.frame_num} frames; leave it out"
        )
    plan = make_plan(store, source, decoding.on_error, encoder.frame_num)
    hearing = None
    if args.audio_encoder:
        from feature_engineering.encoding.sounds import SoundEncoder

        try:
            sounds = SoundEncoder(listening, args.seconds)
        except InputError as error:
            raise InputError(str(error).replace("--encoder", "--audio_encoder", 1)) from None
        hearing = hearing_beside(store, plan, sounds, decoding, storage, overwrite=args.overwrite)
    made_by = encoder.provenance() | {"frame_num": 1 if encoder.frame_num else plan.frame_num}
    if is_made(store, ["visual"], storage, made_by, args.overwrite):
        if hearing:
            make_audio(store, hearing, decoding, storage)
        return commands.say_next(commands.next_steps(FeatureStore.open(store.folder)))
    how = {"from_videos": source.videos is not None, "overwrite": args.overwrite, "hearing": hearing}
    store, lost, tried = make_visual(store, encoder, plan, decoding, storage, **how)
    commands.say_next(commands.next_steps(store))
    warn_of_losses(lost, tried, store.folder / "skipped.csv")


if __name__ == "__main__":
    run_script(build_parser(), main, commands.remedy)
