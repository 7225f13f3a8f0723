"""Caption the frames of a data set with BLIP: captions.jsonl, which retrieval_engineering.py joins to the titles.

Frames come straight from the videos (--videos <folder>) or from the pictures of video_frame_capture.py. A killed or
stopped run goes on where it was when the same command is typed again.
"""

from __future__ import annotations

import commands
from common.console import InputError, Parser, run_script, whole_number
from common.files import require_writable
from common.settings import add_flags, made
from dataloader.place import folder_of, one_writer
from dataloader.store import FeatureStore
from feature_engineering.decoding.frames import make_plan
from feature_engineering.encoding.captions import CAPTIONS
from feature_engineering.jobs.making import make_captions
from feature_engineering.jobs.skipped import warn_of_losses
from feature_engineering.settings import (
    CAPTION_ENCODER,
    DecodingSettings,
    EncoderSettings,
    FrameSettings,
    add_encoder_flags,
)


def build_parser() -> Parser:
    parser = Parser(description=__doc__)
    add_encoder_flags(parser, encoder=CAPTION_ENCODER)
    captions, frames = parser.add_argument_group("captions"), parser.add_argument_group("frames")
    captions.add_argument("--max_new_tokens", type=whole_number(1), default=20, help="of a caption, at most")
    add_flags(frames, FrameSettings)
    add_flags(frames, DecodingSettings)
    return parser


@one_writer
def main(args) -> None:
    decoding = made(DecodingSettings, vars(args))
    store = FeatureStore.open(folder_of(args.dataset_path, args.dataset_id))
    require_writable(store.folder)
    path = store.folder / CAPTIONS
    if path.exists() and not args.overwrite:
        raise InputError(f"{path} is here already; --overwrite replaces it")
    # What imports torch takes seconds, so a mistyped flag is told of before.
    from feature_engineering.encoding.captioner import Captioner

    plan = make_plan(store, made(FrameSettings, vars(args)), decoding.on_error)
    captioner = Captioner(made(EncoderSettings, vars(args)), args.max_new_tokens)
    store, lost, tried = make_captions(store, captioner, plan, decoding, overwrite=args.overwrite)
    commands.say_next(f"next: {commands.encoding_command('retrieval', store.folder)}")
    warn_of_losses(lost, tried, store.folder / "skipped.csv")


if __name__ == "__main__":
    run_script(build_parser(), main, commands.remedy)
