"""Frames -> captions: by BLIP, or by a multimodal language model that is asked about them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
import transformers
from transformers import AutoConfig, AutoImageProcessor, AutoTokenizer, BlipForConditionalGeneration

from common.console import InputError
from common.devices import pick_device
from feature_engineering.decoding.frames import SHARD_ITEMS, Plan, batches_by_shard
from feature_engineering.decoding.workers import Failure
from feature_engineering.encoding.asking import Asked
from feature_engineering.encoding.encoders import Encoder, Source, fetch, load_encoder, load_pretrained, to_device
from feature_engineering.encoding.images import settings_of
from feature_engineering.jobs.on_ray import made_of
from feature_engineering.jobs.progress import Progress, Shards
from feature_engineering.jobs.skipped import fail_on
from feature_engineering.settings import CaptionSettings, DecodingSettings, EncoderSettings

LENGTH = 20  # new tokens of a caption at most, where the settings do not say


def captioner_of(settings: EncoderSettings, captions: CaptionSettings, frame_num: int) -> Blip | Asked:
    """The captioner that the settings ask for, of videos of `frame_num` frames.

    InputError, before anything is captioned, where the model is none, and for settings that would not act.
    """
    source = fetch(settings.encoder)
    if captions.seed is not None and not captions.temperature:
        raise InputError("--seed does nothing at --temperature 0, where nothing is drawn")
    config = load_pretrained(AutoConfig, source)
    if config.model_type == "blip":
        idle = {"prompt": captions.prompt is not None, "temperature": captions.temperature > 0}
        if typed := [f"--{name}" for name, is_typed in idle.items() if is_typed]:
            raise InputError(f"{typed[0]} does nothing with BLIP (--encoder {source.label}), which is asked nothing")
        return Blip(source, settings, captions, frame_num)
    if type(config) not in transformers.MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING:
        raise InputError(
            f"--encoder {source.label}: a model of the type {config.model_type}, which captions no pictures; take "
            "BLIP or an image-text-to-text model"
        )
    return Asked(source, config, settings, captions, frame_num, captioner_of)


class Blip(Encoder):
    """BLIP, its processor and its tokenizer; it decodes greedily, so that equal frames get equal captions.

    frames_per_request, acted: as of Asked.
    """

    frames_per_request = 1

    def __init__(self, source: Source, settings: EncoderSettings, captions: CaptionSettings, frame_num: int):
        super().__init__(source, settings, captioner_of, captions, frame_num)
        self.max_new_tokens = captions.max_new_tokens or LENGTH
        self.acted = {"max_new_tokens": self.max_new_tokens}
        self.processor = load_pretrained(AutoImageProcessor, self.source, backend="pil")
        self.tokenizer = load_pretrained(AutoTokenizer, self.source)
        device = pick_device(settings.device)
        self.model = load_encoder(self.source, device, settings.precision, BlipForConditionalGeneration)

    @torch.inference_mode()
    def __call__(self, pixels: np.ndarray, names: Sequence[str]) -> list[str]:
        """(B, 3, H, W) -> B captions"""
        tokens = self.model.generate(
            pixel_values=to_device(pixels, self.model), max_new_tokens=self.max_new_tokens, do_sample=False, num_beams=1
        )
        return [text.strip() for text in self.tokenizer.batch_decode(tokens, skip_special_tokens=True)]


def caption_frames(
    folder: Path, plan: Plan, captioner: Blip | Asked, decoding: DecodingSettings, *, overwrite: bool
) -> Progress:
    """The captions of all items, as notes of a Progress in `folder`."""
    settings = settings_of(captioner, plan) | captioner.acted
    progress = Progress.open(folder, settings, plan.item_ids, SHARD_ITEMS, restart=overwrite)
    if progress.done:
        print(f"{folder}: going on, {progress.units_done} of {progress.total} videos are captioned")
    work = partial(_captioned, plan=plan, captioner=captioner, decoding=decoding)
    with made_of(list(progress.pending()), work, captioner, progress.total, "video") as made:
        for number, notes in made:
            progress.commit(number, None, **notes)
    return progress


def _captioned(
    shards: Shards, plan: Plan, captioner: Blip | Asked, decoding: DecodingSettings
) -> Iterator[tuple[int, dict]]:
    """Of each shard its number, and its captions and what failed, which are to be noted."""
    number_of = plan.frame_num // captioner.frames_per_request  # captions of an item
    for number, units, batches, failed, _ in batches_by_shard(plan, shards, captioner, decoding):
        names = [f"{plan.item_ids[unit]} {k}" for unit in units for k in range(number_of)]
        texts: list[str | Failure] = []  # S * number_of
        for batch in batches:
            asked = len(batch) // captioner.frames_per_request
            texts += captioner(batch, names[len(texts) :][:asked])
        items = {plan.item_ids[unit]: texts[i * number_of :][:number_of] for i, unit in enumerate(units)}
        refused = {one: text.reason for one, said in items.items() for text in said if isinstance(text, Failure)}
        refused = {item_id: reason for item_id, reason in refused.items() if item_id not in failed}
        fail_on(refused, decoding.on_error, plan.place)
        failed |= refused
        captions = {item_id: said for item_id, said in items.items() if item_id not in failed}
        yield number, {"failed": failed, "captions": captions}
