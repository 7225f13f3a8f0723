"""What the workers of the encoding scripts do: a video, or its frames as pictures -> an encoder's input, and a
thumbnail."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image
from transformers.image_processing_utils import BaseImageProcessor

from feature_engineering.decoding.pictures import read_image, rough, thumbnail
from feature_engineering.decoding.videos import capture

LARGEST = (588, 1024)  # (H, W) of as many pixels as a picture has at most that is not processed here
_processor: BaseImageProcessor | None = None


def begin(processor: BaseImageProcessor | None) -> None:
    """Give this process the encoder's processor; None: pictures are to stay pictures."""
    global _processor
    _processor = processor


def from_video(path: Path, frame_num: int) -> tuple[np.ndarray, int, str, bytes]:
    """(F, 3, H, W) float32, how many of the frames are real, what is wrong with the file, and a thumbnail."""
    captured = capture(path, frame_num, lambda image: (process(Image.fromarray(image)), rough(image)), threads=1)
    images, looks = zip(*captured.images, strict=True)
    return np.stack(images), captured.real, captured.note, thumbnail(Image.fromarray(looks[len(looks) // 2]))


def from_images(paths: list[Path], frame_num: int) -> tuple[np.ndarray, int, str, bytes]:
    """The same of pictures in order; where there are fewer than F, the last one repeats."""
    middle, images, look = min(frame_num // 2, len(paths) - 1), [], b""
    for number, path in enumerate(paths):
        image = read_image(path)
        images.append(process(image))
        if number == middle:
            look = thumbnail(image)
    note = f"{len(images)} of {frame_num} frames" if len(images) < frame_num else ""
    return np.stack(images + images[-1:] * (frame_num - len(images))), len(images), note, look


def process(image: Image.Image) -> np.ndarray:
    """(3, H, W) float32; without a processor the picture (H, W, 3) uint8, in an array of shape (), as sizes differ."""
    if _processor is None:
        picture = np.empty((), object)
        picture[()] = np.asarray(within(image, LARGEST))
        return picture
    array = np.asarray(_processor(images=image, return_tensors="np")["pixel_values"][0], dtype=np.float32)
    # VideoMAE's takes a picture for a video of one frame: (1, 3, H, W).
    return array[0] if array.ndim == 4 and len(array) == 1 else array


def within(image: Image.Image, largest: tuple[int, int]) -> Image.Image:
    """The picture, made smaller where it has more pixels than one of the shape `largest`; its sides in proportion."""
    scale = (largest[0] * largest[1] / (image.width * image.height)) ** 0.5
    if scale >= 1:
        return image
    return image.resize((max(1, int(image.width * scale)), max(1, int(image.height * scale))), Image.Resampling.BICUBIC)
