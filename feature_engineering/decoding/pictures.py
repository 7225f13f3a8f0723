"""Reading a picture file as a viewer shows it, and making a small one."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

SIDE, QUALITY = 96, 60  # of a thumbnail: pixels of its longer side, and JPEG's own measure


def read_image(path: Path) -> Image.Image:
    """The picture as a viewer shows it: upright, in RGB; ValueError that names the file where it cannot be read."""
    try:
        with Image.open(path) as image:
            return ImageOps.exif_transpose(image).convert("RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(f"{path.name} cannot be read ({type(error).__name__})") from None


def rough(image: np.ndarray) -> np.ndarray:
    """(H, W, 3) uint8 -> every so many of its pixels, still several for each one of a thumbnail; takes next to no time.

    Which frame of a video is the middle one is known when all have come, and full ones would fill the memory till then.
    """
    step = max(1, max(image.shape[:2]) // (4 * SIDE))
    return image[::step, ::step].copy()


def thumbnail(image: Image.Image) -> bytes:
    """A JPEG of SIDE pixels at most."""
    small, file = image.copy(), io.BytesIO()
    small.thumbnail((SIDE, SIDE))
    # Pages share the tables at the beginning of files of one size, which would be each file's own with optimize=True.
    small.save(file, "jpeg", quality=QUALITY)
    return file.getvalue()
