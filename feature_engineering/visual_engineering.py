"""Encode the frames of a data set with any image encoder of transformers, as visual features (N, F, Dv).

The published system takes google/vit-base-patch16-224-in21k: its CLS vector of every frame. Frames are read from
<frames>/<item id>/*.jpg or *.png, sorted by name, or from the one picture <frames>/<item id>.jpg or .png.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from tqdm import tqdm
from transformers import AutoImageProcessor, AutoModel

from dataloader.console import InputError, Parser, dataset_folder, listed, run_script
from dataloader.device import pick_device
from dataloader.store import FeatureStore
from feature_engineering.encoders import (
    PROGRESS,
    add_encoder_flags,
    check_before_encoding,
    load_encoder,
    load_pretrained,
    provenance,
    write_features,
)
from feature_engineering.frame_capture import add_frames_flag, frames_folder, refuse_hostile_ids

SUFFIXES = (".jpg", ".jpeg", ".png")
UNREADABLE = (OSError, ValueError, SyntaxError, Image.DecompressionBombError)  # what PIL raises on broken files


def build_parser() -> Parser:
    parser = Parser(description=__doc__)
    add_encoder_flags(parser, batch_size=32)
    add_frames_flag(parser)
    return parser


def main(args) -> None:
    store = FeatureStore.open(dataset_folder(args))
    check_before_encoding(store, ["visual"], args)
    refuse_hostile_ids(store)
    frames = frames_folder(args)
    if not frames.is_dir():
        raise InputError(
            f"{frames}: no such folder; capture frames with: python feature_engineering/frame_capture.py "
            f"--dataset_path {args.dataset_path} --dataset_id {args.dataset_id} --videos <folder>"
        )
    files = [frame_files(frames, item_id) for item_id in store.items.item_id]
    problems = listing_problems(store.items.item_id, files)
    device = pick_device(args.device)
    processor = load_pretrained(AutoImageProcessor, args.encoder, args.revision, backend="pil")
    model = load_encoder(args.encoder, args.revision, device, AutoModel)
    if hasattr(model.config, "mask_ratio"):
        model.config.mask_ratio = 0.0  # ViTMAE hides random patches in inference mode too
    vectors, pooling = encode_frames(model, processor, files, args.batch_size, problems)
    if problems:
        raise InputError(f"{frames}: {'; '.join(problems)}; nothing was written")
    source = provenance(model, args.encoder, pooling=pooling)
    write_features(store, ["visual"], vectors, args, source)


def frame_files(frames: Path, item_id: str) -> list[Path]:
    """The pictures of one item, sorted by name; empty where there are none."""
    if (frames / item_id).is_dir():
        return sorted(path for path in (frames / item_id).iterdir() if path.suffix.lower() in SUFFIXES)
    return [path for suffix in SUFFIXES if (path := frames / f"{item_id}{suffix}").is_file()][:1]


def listing_problems(item_ids, files: list[list[Path]]) -> list[str]:
    """What is wrong with the numbers of frames, a clause each."""
    counts = np.array([len(paths) for paths in files])
    problems = []
    if (counts == 0).any():
        missing = item_ids[counts == 0]
        problems.append(f"{len(missing)} of {len(counts)} items have no frames ({listed(missing)})")
    usual = int(np.bincount(counts[counts > 0]).argmax()) if counts.any() else 0
    differ = (counts > 0) & (counts != usual)
    if differ.any():
        shown = listed(f"{item_id}: {count}" for item_id, count in zip(item_ids[differ], counts[differ], strict=True))
        problems.append(f"{int(differ.sum())} items do not have {usual} frames as the others do ({shown})")
    return problems


@torch.inference_mode()
def encode_frames(
    model, processor, files: list[list[Path]], batch_size: int, problems: list[str]
) -> tuple[np.ndarray | None, str | None]:
    """Pictures -> (N, F, Dv) float32 and the name of the pooling; appends to `problems` the files that PIL cannot read.

    With a problem known there is nothing to encode for; reading goes on, so that one message tells all of them.
    """
    paths = [path for item in files for path in item]  # all items have F of them, or there is a problem already
    device, vectors, pooling, unreadable = next(model.parameters()).device, None, None, []
    for start in tqdm(range(0, len(paths), batch_size), desc="frames", unit="batch", **PROGRESS):
        images = []
        for path in paths[start : start + batch_size]:
            try:
                images.append(read_image(path))
            except UNREADABLE:
                unreadable.append(f"{path.parent.name}/{path.name}")
        if problems or unreadable:
            continue
        pixels = processor(images=images, return_tensors="pt")["pixel_values"].to(device)  # (B, 3, H, W)
        pooled, pooling = pool(model, pixels)
        if vectors is None:
            vectors = np.empty((len(paths), pooled.shape[1]), dtype=np.float32)
        vectors[start : start + len(images)] = pooled.float().cpu().numpy()  # (B, Dv)
    if unreadable:
        problems.append(f"{len(unreadable)} of {len(paths)} pictures cannot be read ({listed(unreadable)})")
    return (None if problems else vectors.reshape(len(files), -1, vectors.shape[1])), pooling


def read_image(path: Path) -> Image.Image:
    """The picture as a viewer shows it: upright, in RGB."""
    with Image.open(path) as image:
        return ImageOps.exif_transpose(image).convert("RGB")


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


if __name__ == "__main__":
    run_script(build_parser(), main)
