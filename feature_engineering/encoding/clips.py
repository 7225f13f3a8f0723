"""Clips through a video encoder of transformers: one vector of all frames that the model takes, (N, 1, D)."""

from __future__ import annotations

import numpy as np
import torch
from transformers import AutoConfig, AutoModel, PreTrainedConfig

from common.console import InputError
from common.devices import pick_device
from feature_engineering.encoding.encoders import (
    Encoder,
    Source,
    fetch,
    load_encoder,
    load_pretrained,
    provenance,
    to_device,
)
from feature_engineering.encoding.images import ImageEncoder
from feature_engineering.encoding.processors import load_processor, try_out
from feature_engineering.settings import EncoderSettings

# model type -> how its vector is made: of the class token, of the mean over all tokens, or of both modalities' space.
POOLING_OF = {"videomae": "mean", "timesformer": "cls", "xclip": "projected", "vjepa2": "mean"}
MOST_FRAMES = 1024


def visual_encoder(settings: EncoderSettings) -> ImageEncoder | ClipEncoder:
    """A video encoder where the model's configuration is one's, else an image encoder."""
    source = fetch(settings.encoder)
    config = load_pretrained(AutoConfig, source)
    if config.model_type in POOLING_OF:
        return ClipEncoder(settings, source, config)
    return ImageEncoder(settings, source)


class ClipEncoder(Encoder):
    """A video encoder and its processor, to be used as an ImageEncoder is.

    frame_num: T, the frames that it takes of a video. batch_size: frames encoded at once, of whole clips: as many as
    `settings` say or fewer, but at least one clip.
    """

    def __init__(self, settings: EncoderSettings, source: Source, config: PreTrainedConfig):
        super().__init__(source, settings, visual_encoder)
        self.frame_num = frames_of(config)
        if not 1 <= self.frame_num <= MOST_FRAMES:
            raise InputError(f"--encoder {source.label}: its configuration asks for {self.frame_num} frames")
        self.batch_size = max(1, settings.batch_size // self.frame_num) * self.frame_num
        self.processor = load_processor(source)
        made, taken = try_out(self.processor, source).shape[1:], size_of(config)
        if made != taken:
            raise InputError(
                f"--encoder {source.label}: its processor makes pictures of {made[0]} x {made[1]} pixels, its model "
                f"takes {taken[0]} x {taken[1]}"
            )
        self.model = load_encoder(source, pick_device(settings.device), settings.precision, AutoModel)
        self.pooling = POOLING_OF[config.model_type]

    @torch.inference_mode()
    def __call__(self, pixels: np.ndarray) -> torch.Tensor:
        """(B * T, 3, H, W) -> (B, D), still on the device."""
        return pool_clips(self.model, to_device(pixels, self.model).unflatten(0, (-1, self.frame_num)))

    def provenance(self, **settings) -> dict:
        return provenance(self.model, self.source, pooling=self.pooling, frame_num=self.frame_num, **settings)


def frames_of(config: PreTrainedConfig) -> int:
    """T, of a video encoder."""
    if config.model_type == "vjepa2":
        return config.frames_per_clip
    return getattr(config, "vision_config", config).num_frames


def size_of(config: PreTrainedConfig) -> tuple[int, int]:
    """(H, W) of the pictures that a video encoder takes."""
    side = config.crop_size if config.model_type == "vjepa2" else getattr(config, "vision_config", config).image_size
    return (side, side) if isinstance(side, int) else tuple(side)


def pool_clips(model: torch.nn.Module, clips: torch.Tensor) -> torch.Tensor:
    """(B, T, 3, H, W) -> (B, D)"""
    kind = model.config.model_type
    if kind == "xclip":
        return model.get_video_features(pixel_values=clips).pooler_output
    # Of V-JEPA 2 the encoder alone: the predictor behind it serves its training.
    given = {"pixel_values_videos": clips, "skip_predictor": True} if kind == "vjepa2" else {"pixel_values": clips}
    states = model(**given).last_hidden_state  # (B, L, D)
    return states[:, 0] if POOLING_OF[kind] == "cls" else states.mean(dim=1)
