"""Frames -> captions, by BLIP."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from transformers import AutoImageProcessor, AutoTokenizer, BlipForConditionalGeneration

from common.devices import pick_device
from feature_engineering.decoding.frames import SHARD_ITEMS, Plan, batches_by_shard
from feature_engineering.encoding.encoders import fetch, load_encoder, load_pretrained, to_device
from feature_engineering.encoding.images import settings_of
from feature_engineering.jobs.progress import Progress
from feature_engineering.settings import DecodingSettings, EncoderSettings


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
