"""Caption the frames of a data set with BLIP: captions.jsonl, which retrieval_engineering.py joins to the titles.

Frames come straight from the videos (--videos <folder>) or from the pictures of video_frame_capture.py. A killed or
stopped run goes on where it was when the same command is typed again.
"""

from __future__ import annotations

import argparse

import numpy as np
import torch
from transformers import AutoImageProcessor, AutoTokenizer, BlipForConditionalGeneration

from common.console import InputError, Parser, run_script, whole_number
from common.devices import pick_device
from common.files import require_writable
from dataloader.place import dataset_folder, encoding_command
from dataloader.store import FeatureStore
from feature_engineering.captions import CAPTIONS, write_captions
from feature_engineering.encoders import (
    add_encoder_flags,
    fetch,
    load_encoder,
    load_pretrained,
    provenance,
    to_device,
)
from feature_engineering.frames import SHARD_ITEMS, Plan, add_source_flags, batches_by_shard, make_plan
from feature_engineering.images import settings_of
from feature_engineering.progress import Progress
from feature_engineering.skipped import leave_out, warn_of_losses

PUBLISHED = "Salesforce/blip-image-captioning-base"


def build_parser() -> Parser:
    parser = Parser(description=__doc__)
    add_encoder_flags(parser, PUBLISHED, batch_size=32)
    parser.add_argument("--max_new_tokens", type=whole_number(1), default=20, help="of a caption, at most")
    add_source_flags(parser)
    return parser


def main(args) -> None:
    store = FeatureStore.open(dataset_folder(args))
    require_writable(store.folder)
    path = store.folder / CAPTIONS
    if path.exists() and not args.overwrite:
        raise InputError(f"{path} is here already; --overwrite replaces it")
    plan = make_plan(store, args)
    captioner = Captioner(args)
    progress = caption_frames(store, plan, captioner, args)
    store, _ = leave_out(store, progress, args.on_error, "captions", plan.place)
    captions = {item_id: [] for item_id in store.items.item_id} | progress.notes("captions")
    settings = {"frame_num": plan.frame_num, "max_new_tokens": args.max_new_tokens}
    write_captions(path, captions, provenance(captioner.model, captioner.source, **settings))
    progress.remove()
    print(f"{path}: {plan.frame_num} captions of each of {len(store)} videos")
    print(f"next: {encoding_command('retrieval', store.folder)}")
    warn_of_losses(len(progress.failed), progress.total, store.folder / "skipped.csv")


class Captioner:
    """BLIP, its processor and its tokenizer, as the flags ask for them; greedy, so that equal frames read equal."""

    def __init__(self, args: argparse.Namespace):
        self.source = fetch(args.encoder)
        self.processor = load_pretrained(AutoImageProcessor, self.source, backend="pil")
        self.tokenizer = load_pretrained(AutoTokenizer, self.source)
        self.model = load_encoder(self.source, pick_device(args.device), args.precision, BlipForConditionalGeneration)
        self.max_new_tokens = args.max_new_tokens

    @torch.inference_mode()
    def __call__(self, pixels: np.ndarray) -> list[str]:
        """(B, 3, H, W) -> B captions"""
        tokens = self.model.generate(
            pixel_values=to_device(pixels, self.model), max_new_tokens=self.max_new_tokens, do_sample=False, num_beams=1
        )
        return [text.strip() for text in self.tokenizer.batch_decode(tokens, skip_special_tokens=True)]


def caption_frames(store: FeatureStore, plan: Plan, captioner: Captioner, args: argparse.Namespace) -> Progress:
    """The captions of all items, as notes of a Progress."""
    settings = settings_of(captioner.model, captioner.source, plan, args) | {"max_new_tokens": args.max_new_tokens}
    folder = store.folder / "captions.progress"
    progress = Progress.open(folder, settings, plan.item_ids, SHARD_ITEMS, restart=args.overwrite)
    if progress.done:
        print(f"{folder}: going on, {progress.units_done} of {progress.total} videos are captioned")
    for number, units, batches, failed, _ in batches_by_shard(plan, progress, captioner.processor, args):
        texts = [text for batch in batches for text in captioner(batch)]  # S * F
        items = {plan.item_ids[unit]: texts[i * plan.frame_num :][: plan.frame_num] for i, unit in enumerate(units)}
        captions = {item_id: frames for item_id, frames in items.items() if item_id not in failed}
        progress.commit(number, None, failed=failed, captions=captions)
    return progress


if __name__ == "__main__":
    run_script(build_parser(), main)
