"""What the workers of the encoding scripts do: a video, or its frames as pictures -> an image encoder's input."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image
from transformers.image_processing_utils import BaseImageProcessor

from feature_engineering.decoding.pictures import read_image
from feature_engineering.decoding.videos import capture

_processor: BaseImageProcessor | None = None


def begin(processor: BaseImageProcessor) -> None:
    """Give this process the encoder's processor."""
    global _processor
    _processor = processor


def from_video(path: Path, frame_num: int) -> tuple[np.ndarray, int, str]:
    """(F, 3, H, W) float32, how many of the frames are real, and what is wrong with the file."""
    captured = capture(path, frame_num, lambda image: process(Image.fromarray(image)), threads=1)
    return np.stack(captured.images), captured.real, captured.note


def from_images(paths: list[Path], frame_num: int) -> tuple[np.ndarray, int, str]:
    """The same of pictures in order; where there are fewer than F, the last one repeats."""
    images = [process(read_image(path)) for path in paths]
    note = f"{len(images)} of {frame_num} frames" if len(images) < frame_num else ""
    return np.stack(images + images[-1:] * (frame_num - len(images))), len(images), note


def process(image: Image.Image) -> np.ndarray:
    """(3, H, W) float32"""
    return np.asarray(_processor(images=image, return_tensors="np")["pixel_values"][0], dtype=np.float32)
