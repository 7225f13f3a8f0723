"""Encode the sound of a data set's videos with an encoder of sound of transformers, as audio features (N, Da).

CLAP gives its projected embedding, an audio spectrogram transformer (AST) its pooled state, Wav2Vec2, HuBERT and the
encoder of Whisper the mean of their states. Of each video --seconds are heard, mono, at the encoder's rate, in windows
that are spread evenly over it; a vector is the mean of its windows'.

A video without sound, or with silence alone, gets zeros, and so does one whose sound is broken, which is listed in
skipped.csv; the column has_sound of the metadata says yes, no or, of broken ones, unknown. No video is left out. A
killed or stopped run goes on where it was when the same command is typed again. Where frames are encoded too,
visual_engineering.py --audio_encoder reads each video once for both.
"""

from __future__ import annotations

import commands

from pathlib import Path

from common.console import Parser, run_script
from common.settings import add_flags, made
from dataloader.modalities import AUDIO
from dataloader.place import folder_of, one_writer
from dataloader.store import FeatureStore
from feature_engineering.jobs.making import hearing_beside, make_audio
from feature_engineering.jobs.storing import check_before_encoding
from feature_engineering.settings import (
    AUDIO_ENCODER,
    EncoderSettings,
    FrameSettings,
    ListeningSettings,
    SoundSettings,
    StorageSettings,
    add_encoder_flags,
)


def build_parser() -> Parser:
    parser = Parser(description=__doc__)
    add_encoder_flags(parser, encoder=AUDIO_ENCODER)
    add_flags(parser.add_argument_group("what is stored"), StorageSettings)
    sound = parser.add_argument_group("sound")
    sound.add_argument("--videos", required=True, type=Path, help="folder of the videos, named <item id>.<suffix>")
    add_flags(sound, SoundSettings)
    add_flags(sound, ListeningSettings)
    return parser


@one_writer
def main(args) -> None:
    # What imports torch takes seconds, so a mistyped flag is told of before.
    from feature_engineering.decoding.frames import make_plan
    from feature_engineering.encoding.sounds import SoundEncoder

    storage, decoding = made(StorageSettings, vars(args)), made(ListeningSettings, vars(args))
    store = FeatureStore.open(folder_of(args.dataset_path, args.dataset_id), anew=[AUDIO] * args.overwrite)
    encoding = made(EncoderSettings, vars(args))
    check_before_encoding(store, [AUDIO], storage, {"encoder": {"name": encoding.label}}, args.overwrite)
    plan = make_plan(store, FrameSettings(videos=args.videos), decoding.on_error)
    encoder = SoundEncoder(encoding, args.seconds)
    if hearing := hearing_beside(store, plan, encoder, decoding, storage, overwrite=args.overwrite):
        make_audio(store, hearing, decoding, storage)
    commands.say_next(commands.next_steps(FeatureStore.open(store.folder)))


if __name__ == "__main__":
    run_script(build_parser(), main, commands.remedy)
