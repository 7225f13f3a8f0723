"""Reading a picture file as a viewer shows it."""

from __future__ import annotations

from pathlib import Path

from PIL import Image, ImageOps


def read_image(path: Path) -> Image.Image:
    """The picture as a viewer shows it: upright, in RGB; ValueError that names the file where it cannot be read."""
    try:
        with Image.open(path) as image:
            return ImageOps.exif_transpose(image).convert("RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(f"{path.name} cannot be read ({type(error).__name__})") from None
