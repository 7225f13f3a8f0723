"""Encode the frames of a data set with any image encoder of transformers, as visual features (N, F, Dv).

The published system takes google/vit-base-patch16-224-in21k: its CLS vector of every frame. Frames come straight from
the videos (--videos <folder>, nothing else is written) or are read from pictures <item id>_<i>.jpg, as
video_frame_capture.py writes them. A killed or stopped run goes on where it was when the same command is typed again.

With --audio_encoder each video is read once for its frames and for its sound, and audio features are made too, with the
same bits as by audio_engineering.py.
"""

from __future__ import annotations

from dataclasses import replace

import commands
from common.console import InputError, Parser, run_script
from common.settings import add_flags, made
from dataloader.modalities import AUDIO
from dataloader.place import folder_of
from dataloader.store import FeatureStore
from feature_engineering.jobs.making import make_visual
from feature_engineering.jobs.skipped import warn_of_losses
from feature_engineering.jobs.storing import check_before_encoding
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


def main(args) -> None:
    # What imports torch takes seconds, so a mistyped flag is told of before.
    from feature_engineering.decoding.frames import make_plan
    from feature_engineering.encoding.images import ImageEncoder

    storage, source = made(StorageSettings, vars(args)), made(FrameSettings, vars(args))
    decoding = made(DecodingSettings, vars(args))
    store = FeatureStore.open(folder_of(args.dataset_path, args.dataset_id))
    if "seconds" in args.typed and not args.audio_encoder:
        raise InputError("--seconds does nothing without --audio_encoder; leave it out")
    if args.audio_encoder and not source.videos:
        raise InputError("--audio_encoder: sound is heard of videos alone; say where they are with --videos")
    check_before_encoding(store, ["visual", *([AUDIO] if args.audio_encoder else [])], storage, args.overwrite)
    plan = make_plan(store, source, decoding.on_error)
    encoder = ImageEncoder(made(EncoderSettings, vars(args)))
    how = {"from_videos": source.videos is not None, "overwrite": args.overwrite}
    if args.audio_encoder:
        from feature_engineering.encoding.sounds import SoundEncoder
        from feature_engineering.jobs.making import hearing_beside

        settings = replace(made(EncoderSettings, vars(args)), encoder=args.audio_encoder)
        try:
            sounds = SoundEncoder(settings, args.seconds)
        except InputError as error:
            raise InputError(str(error).replace("--encoder", "--audio_encoder", 1)) from None
        how["hearing"] = hearing_beside(store, plan, sounds, decoding, overwrite=args.overwrite)
    store, lost, tried = make_visual(store, encoder, plan, decoding, storage, **how)
    commands.say_next(commands.next_steps(store))
    warn_of_losses(lost, tried, store.folder / "skipped.csv")


if __name__ == "__main__":
    run_script(build_parser(), main, commands.remedy)
