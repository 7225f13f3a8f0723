"""Frames through an image encoder of transformers: (N, F, D), in shards."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from transformers import AutoImageProcessor, AutoModel

from common.console import InputError
from common.devices import pick_device
from feature_engineering.decoding.frames import SHARD_ITEMS, Plan, batches_by_shard
from feature_engineering.encoding.encoders import (
    fetch,
    load_encoder,
    load_pretrained,
    provenance,
    revision_of,
    to_device,
)
from feature_engineering.jobs.progress import Progress
from feature_engineering.settings import DecodingSettings, EncoderSettings

if TYPE_CHECKING:
    from feature_engineering.encoding.sounds import Hearing


class ImageEncoder:
    """An image encoder and its processor, as the settings ask for them."""

    def __init__(self, settings: EncoderSettings):
        self.source, self.batch_size = fetch(settings.encoder), settings.batch_size
        self.processor = load_pretrained(AutoImageProcessor, self.source, backend="pil")
        self.model = load_encoder(self.source, pick_device(settings.device), settings.precision, AutoModel)
        if hasattr(self.model.config, "mask_ratio"):
            self.model.config.mask_ratio = 0.0  # Else ViTMAE would hide random patches, in inference mode too.
        self.pooling: str | None = None  # This is known once a batch is encoded.

    @torch.inference_mode()
    def __call__(self, pixels: np.ndarray) -> torch.Tensor:
        """(B, 3, H, W) -> (B, D), still on the device: nothing waits for it yet."""
        pooled, self.pooling = pool(self.model, to_device(pixels, self.model))
        return pooled

    def provenance(self, **settings) -> dict:
        if self.pooling is None:
            # An earlier run has encoded everything, so one black picture is encoded to learn how features are pooled.
            size = self.processor.crop_size if getattr(self.processor, "do_center_crop", None) else self.processor.size
            side = size.get("height") or size.get("shortest_edge")
            self(np.zeros((1, 3, side, side), np.float32))
        return provenance(self.model, self.source, pooling=self.pooling, **settings)


def settings_of(encoder, plan: Plan) -> dict:
    """All that the results of an encoder or captioner of frames depend on, besides the items."""
    weights = next(encoder.model.parameters())
    return {
        "encoder": encoder.source.label,
        "revision": revision_of(encoder.model, encoder.source),
        "precision": str(weights.dtype),
        "device": weights.device.type,
        "frame_num": plan.frame_num,
        "frames": str(plan.place.resolve()),
        "batch_size": encoder.batch_size,
    }


def encode_frames(
    folder: Path,
    plan: Plan,
    encoder: ImageEncoder,
    decoding: DecodingSettings,
    *,
    overwrite: bool,
    hearing: Hearing | None = None,
) -> Progress:
    """The vectors (N, F, D) of all items, in a Progress in `folder`; what an earlier run finished is not done again.

    hearing: takes the sound of the same videos, which are opened once for both.
    """
    progress = Progress.open(folder, settings_of(encoder, plan), plan.item_ids, SHARD_ITEMS, restart=overwrite)
    if progress.done:
        print(f"{folder}: going on, {progress.units_done} of {progress.total} videos are encoded")
    for number, units, batches, failed, captured in batches_by_shard(plan, progress, encoder, decoding, hearing):
        vectors = torch.cat([encoder(batch) for batch in batches]).float().cpu().numpy()  # (S * F, D)
        vectors = vectors.reshape(len(units), plan.frame_num, -1)
        failed |= {plan.item_ids[units[i]]: "NaN or infinite features" for i in np.flatnonzero(~finite(vectors))}
        vectors[[item_id in failed for item_id in plan.item_ids[units.start : units.stop]]] = 0
        if hearing:
            hearing.commit(number)
        progress.commit(number, vectors, failed=failed, captured=captured)
    return progress


def finite(vectors: np.ndarray) -> np.ndarray:
    """(S,) which items' vectors (S, ...) hold no NaN and no infinity."""
    return np.isfinite(vectors).reshape(len(vectors), -1).all(axis=1)


def pool(model, pixels: torch.Tensor) -> tuple[torch.Tensor, str]:
    """(B, 3, H, W) -> one vector a picture (B, Dv), and how it was made.

    The projected embedding where the encoder has one (CLIP, SigLIP); the CLS vector where there is a CLS token (ViT,
    DINOv2); else the mean over tokens (Swin) or the pooled feature map (ResNet, ConvNeXt). The pooler behind a CLS
    token is passed over: many checkpoints carry no weights for it.
    """
    if hasattr(model, "get_image_features"):
        return _one_vector(model.get_image_features(pixel_values=pixels).pooler_output), "projected"
    output = model(pixel_values=pixels)
    states = output.last_hidden_state  # (B, L, D), or (B, D, H, W) of a convolutional encoder
    if states.ndim == 4:
        pooled = getattr(output, "pooler_output", None)
        if pooled is not None:
            return _one_vector(pooled.flatten(start_dim=1)), "pooler"  # (B, D)
        return states.mean(dim=(2, 3)), "mean"  # (B, D)
    if has_cls_token(model):
        return states[:, 0], "cls"  # (B, D)
    return states.mean(dim=1), "mean"  # (B, D)


def has_cls_token(model) -> bool:
    names = ("cls_token", "class_token", "class_embedding")
    return any(name.rpartition(".")[2] in names for name, _ in model.named_parameters())


def _one_vector(pooled) -> torch.Tensor:
    shape = tuple(getattr(pooled, "shape", ()))
    if len(shape) != 2:
        raise InputError(f"--encoder: its image embedding has shape {shape}; one vector a picture was expected")
    return pooled
