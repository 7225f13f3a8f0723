"""Caption the frames of a data set with BLIP: captions.jsonl, which retrieval_engineering.py joins to the titles.

Frames come straight from the videos (--videos <folder>) or from the pictures of video_frame_capture.py. A killed or
stopped run goes on where it was when the same command is typed again.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from transformers import AutoImageProcessor, AutoTokenizer, BlipForConditionalGeneration

import commands
from common.console import InputError, Parser, run_script, whole_number
from common.devices import pick_device
from common.files import require_writable
from common.settings import add_flags, made
from dataloader.place import folder_of
from dataloader.store import FeatureStore
from feature_engineering.decoding.frames import SHARD_ITEMS, Plan, batches_by_shard, make_plan
from feature_engineering.encoding.captions import CAPTIONS, write_captions
from feature_engineering.encoding.encoders import fetch, load_encoder, load_pretrained, provenance, to_device
from feature_engineering.encoding.images import settings_of
from feature_engineering.jobs.progress import Progress
from feature_engineering.jobs.skipped import leave_out, warn_of_losses
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


def main(args) -> None:
    decoding = made(DecodingSettings, vars(args))
    store = FeatureStore.open(folder_of(args.dataset_path, args.dataset_id))
    require_writable(store.folder)
    path = store.folder / CAPTIONS
    if path.exists() and not args.overwrite:
        raise InputError(f"{path} is here already; --overwrite replaces it")
    plan = make_plan(store, made(FrameSettings, vars(args)), decoding.on_error)
    captioner = Captioner(made(EncoderSettings, vars(args)), args.max_new_tokens)
    folder = store.folder / "captions.progress"
    progress = caption_frames(folder, plan, captioner, decoding, overwrite=args.overwrite)
    store, _ = leave_out(store, progress, decoding.on_error, "captions", plan.place)
    captions = {item_id: [] for item_id in store.items.item_id} | progress.notes("captions")
    settings = {"frame_num": plan.frame_num, "max_new_tokens": captioner.max_new_tokens}
    write_captions(path, captions, provenance(captioner.model, captioner.source, **settings))
    progress.remove()
    print(f"{path}: {plan.frame_num} captions of each of {len(store)} videos")
    print(f"next: {commands.encoding_command('retrieval', store.folder)}")
    warn_of_losses(len(progress.failed), progress.total, store.folder / "skipped.csv")


class Captioner:
    """BLIP, its processor and its tokenizer; it decodes greedily, so that equal frames get equal captions."""

    def __init__(self, settings: EncoderSettings, max_new_tokens: int):
        self.source, self.batch_size, self.max_new_tokens = fetch(settings.encoder), settings.batch_size, max_new_tokens
        self.processor = load_pretrained(AutoImageProcessor, self.source, backend="pil")
        self.tokenizer = load_pretrained(AutoTokenizer, self.source)
        device = pick_device(settings.device)
        self.model = load_encoder(self.source, device, settings.precision, BlipForConditionalGeneration)

    @torch.inference_mode()
    def __call__(self, pixels: np.ndarray) -> list[str]:
        """(B, 3, H, W) -> B captions"""
        tokens = self.model.generate(
            pixel_values=to_device(pixels, self.model), max_new_tokens=self.max_new_tokens, do_sample=False, num_beams=1
        )
        return [text.strip() for text in self.tokenizer.batch_decode(tokens, skip_special_tokens=True)]


def caption_frames(
    folder: Path, plan: Plan, captioner: Captioner, decoding: DecodingSettings, *, overwrite: bool
) -> Progress:
    """The captions of all items, as notes of a Progress in `folder`."""
    settings = settings_of(captioner, plan) | {"max_new_tokens": captioner.max_new_tokens}
    progress = Progress.open(folder, settings, plan.item_ids, SHARD_ITEMS, restart=overwrite)
    if progress.done:
        print(f"{folder}: going on, {progress.units_done} of {progress.total} videos are captioned")
    for number, units, batches, failed, _ in batches_by_shard(plan, progress, captioner, decoding):
        texts = [text for batch in batches for text in captioner(batch)]  # S * F
        items = {plan.item_ids[unit]: texts[i * plan.frame_num :][: plan.frame_num] for i, unit in enumerate(units)}
        captions = {item_id: frames for item_id, frames in items.items() if item_id not in failed}
        progress.commit(number, None, failed=failed, captions=captions)
    return progress


if __name__ == "__main__":
    run_script(build_parser(), main, commands.remedy)
