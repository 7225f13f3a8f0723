"""Caption the frames of a data set: captions.jsonl, which retrieval_engineering.py joins to the titles.

By BLIP, a caption of each frame; or by a multimodal language model that transformers knows as image-text-to-text
(Qwen-VL, InternVL, LLaVA, SmolVLM), which is asked --prompt about all frames of a video at once where it takes several.

Frames come straight from the videos (--videos <folder>) or from the pictures of video_frame_capture.py. A killed or
stopped run goes on where it was when the same command is typed again.
"""

from __future__ import annotations

import commands

from common.console import InputError, Parser, run_script
from common.files import require_writable
from common.settings import add_flags, made
from dataloader.place import folder_of, one_writer
from dataloader.store import FeatureStore
from feature_engineering.decoding.frames import make_plan
from feature_engineering.encoding.captions import CAPTIONS, captioned_by
from feature_engineering.jobs.making import captioned, make_captions
from feature_engineering.jobs.skipped import warn_of_losses
from feature_engineering.jobs.storing import REPLACES, differences
from feature_engineering.settings import (
    CAPTION_ENCODER,
    CaptionSettings,
    DecodingSettings,
    EncoderSettings,
    FrameSettings,
    add_encoder_flags,
)


def build_parser() -> Parser:
    parser = Parser(description=__doc__)
    add_encoder_flags(parser, encoder=CAPTION_ENCODER)
    add_flags(parser.add_argument_group("captions"), CaptionSettings)
    frames = parser.add_argument_group("frames")
    add_flags(frames, FrameSettings)
    add_flags(frames, DecodingSettings)
    return parser


@one_writer
def main(args) -> None:
    decoding = made(DecodingSettings, vars(args))
    store = FeatureStore.open(folder_of(args.dataset_path, args.dataset_id))
    require_writable(store.folder)
    # What imports torch takes seconds, so a mistyped flag is told of before.
    from feature_engineering.encoding.captioner import captioner_of

    plan = make_plan(store, made(FrameSettings, vars(args)), decoding.on_error)
    captioner = captioner_of(made(EncoderSettings, vars(args)), made(CaptionSettings, vars(args)), plan.frame_num)
    path = store.folder / CAPTIONS
    if path.exists() and not args.overwrite:
        if other := differences({"encoder": captioned_by(path)}, captioned(captioner, plan)):
            raise InputError(f"{path}: other captions are here already ({other}); {REPLACES}")
        print(f"{path}: made already, nothing is to be done")
        return commands.say_next(f"next: {commands.encoding_command('retrieval', store.folder)}")
    store, lost, tried = make_captions(store, captioner, plan, decoding, overwrite=args.overwrite)
    commands.say_next(f"next: {commands.encoding_command('retrieval', store.folder)}")
    warn_of_losses(lost, tried, store.folder / "skipped.csv")


if __name__ == "__main__":
    run_script(build_parser(), main, commands.remedy)
