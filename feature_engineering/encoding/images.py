"""Frames through an image encoder of transformers: (N, F, D), in shards."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np
import torch
from transformers import AutoModel

from common.console import InputError
from common.devices import pick_device
from feature_engineering.decoding.frames import SHARD_ITEMS, Plan, batches_by_shard
from feature_engineering.encoding.encoders import (
    Encoder,
    Source,
    fetch,
    load_encoder,
    provenance,
    revision_of,
    to_device,
)
from feature_engineering.encoding.processors import cannot_encode, load_processor, try_out
from feature_engineering.jobs.on_ray import made_of
from feature_engineering.jobs.progress import Progress, Shards
from feature_engineering.settings import DecodingSettings, EncoderSettings

if TYPE_CHECKING:
    from feature_engineering.encoding.sounds import Hearing, Listening


class ImageEncoder(Encoder):
    """An image encoder and its processor, as the settings ask for them; pooling: how a vector is made."""

    frame_num: int | None = None  # of the frames that one vector is of; None: each frame has a vector of its own

    def __init__(self, settings: EncoderSettings, source: Source | None = None):
        """source: the encoder's files, where they are known already."""
        super().__init__(source or fetch(settings.encoder), settings, ImageEncoder)
        self.processor = load_processor(self.source)
        picture = try_out(self.processor, self.source)
        self.model = load_encoder(self.source, pick_device(settings.device), settings.precision, AutoModel)
        if hasattr(self.model.config, "mask_ratio"):
            self.model.config.mask_ratio = 0.0  # Else ViTMAE would hide random patches, in inference mode too.
        with cannot_encode(self.source):  # It is told of here, and not when much has been decoded.
            self(picture[None])

    @torch.inference_mode()
    def __call__(self, pixels: np.ndarray) -> torch.Tensor:
        """(B, 3, H, W) -> (B, D), still on the device: nothing waits for it yet."""
        pooled, self.pooling = pool(self.model, to_device(pixels, self.model))
        return pooled

    def provenance(self, **settings) -> dict:
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
    then: Mapping[str, str] = MappingProxyType({}),
) -> Progress:
    """The vectors (N, F, D) of all items, in a Progress in `folder`; what an earlier run finished is not done again.

    hearing: takes the sound of the same videos, which are opened once for both.
    then: what is to become of them, by which other work is told from this too. Of a video encoder (clips.py) F is 1,
    however many frames of an item it takes.
    """
    settings = settings_of(encoder, plan) | then
    progress = Progress.open(folder, settings, plan.item_ids, SHARD_ITEMS, restart=overwrite)
    if progress.done:
        print(f"{folder}: going on, {progress.units_done} of {progress.total} videos are encoded")
    work = partial(_encoded, plan=plan, encoder=encoder, decoding=decoding, listening=hearing and hearing.listening)
    with made_of(list(progress.pending()), work, encoder, progress.total, "video") as made:
        for number, vectors, notes, heard in made:
            if hearing:
                hearing.commit(number, *heard)
            progress.commit(number, vectors, **notes)
    return progress


def _encoded(
    shards: Shards, plan: Plan, encoder: ImageEncoder, decoding: DecodingSettings, listening: Listening | None
) -> Iterator[tuple[int, np.ndarray, dict, tuple | None]]:
    """Of each shard its number, its vectors (S, F, D), what is to be noted, and what was heard of it."""
    for number, units, batches, failed, captured in batches_by_shard(plan, shards, encoder, decoding, listening):
        vectors = torch.cat([encoder(batch) for batch in batches]).float().cpu().numpy()  # (S * F, D)
        vectors = vectors.reshape(len(units), -1, vectors.shape[-1])  # (S, F, D)
        failed |= {plan.item_ids[units[i]]: "NaN or infinite features" for i in np.flatnonzero(~finite(vectors))}
        vectors[[item_id in failed for item_id in plan.item_ids[units.start : units.stop]]] = 0
        yield number, vectors, {"failed": failed, "captured": captured}, listening and listening.end(units)


def finite(vectors: np.ndarray) -> np.ndarray:
    """(S,) which items' vectors (S, ...) hold no NaN and no infinity."""
    return np.isfinite(vectors).reshape(len(vectors), -1).all(axis=1)


def pool(model, pixels: torch.Tensor) -> tuple[torch.Tensor, str]:
    """(B, 3, H, W) -> one vector a picture (B, Dv), and how it was made.

    The projected embedding where the encoder has one (CLIP, SigLIP); the CLS vector where there is a CLS token (ViT,
    DINOv2); else the mean over tokens (Swin) or the pooled feature map (ResNet, ConvNeXt). The pooler behind a CLS
    token is passed over: many checkpoints carry no weights for it. DINOv3's ConvNeXt puts the pooled map, as its
    pooler gives it, before the pixels of the map.
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
    if model.config.model_type == "dinov3_convnext":
        return _one_vector(output.pooler_output), "pooler"  # (B, D)
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
