"""The processor of an encoder of pictures: what makes the model's input of a picture, by Pillow alone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from PIL import Image
from PIL.Image import Resampling
from transformers import AutoImageProcessor, BitImageProcessorPil
from transformers.image_processing_utils import BaseImageProcessor
from transformers.models.auto.image_processing_auto import get_image_processor_config
from transformers.models.auto.video_processing_auto import get_video_processor_config

from common.console import InputError
from feature_engineering.decoding import pixels
from feature_engineering.encoding.encoders import Source, first_line, load_pretrained, told_in_a_line

# Processors that transformers has for torchvision alone. All that they do is to resize, crop, rescale and normalise,
# as their files say, and that Pillow does too: to whole levels of brightness, where torchvision's round less.
PLAIN = ("DINOv3ViTImageProcessor", "VJEPA2VideoProcessor", "VideoMAEVideoProcessor", "TimesformerVideoProcessor")
SAYING = (get_video_processor_config, get_image_processor_config)
SAYS = ("do_resize", "do_center_crop", "do_rescale", "do_normalize", "size", "crop_size", "resample")
SAYS += ("rescale_factor", "image_mean", "image_std")
FAILURES = (RuntimeError, ValueError, TypeError, KeyError, IndexError, AttributeError, NotImplementedError)


def load_processor(source: Source) -> BaseImageProcessor:
    """Of an image or a video encoder. It takes one picture; a video's frames are each processed alone."""
    with told_in_a_line(source):
        found = [get(source.folder, local_files_only=True) for get in SAYING]
    for said in (one for one in found if isinstance(one, dict)):
        kind = str(said.get("video_processor_type") or said.get("image_processor_type")).removesuffix("Fast")
        if kind in PLAIN:
            with told_in_a_line(source):
                return _plain(source, kind, said)
    return load_pretrained(AutoImageProcessor, source, backend="pil")


def _plain(source: Source, kind: str, said: dict[str, Any]) -> BaseImageProcessor:
    # What those classes do where their files do not say it.
    how: dict[str, Any] = {"resample": Resampling.BILINEAR, "do_center_crop": kind.endswith("VideoProcessor")}
    how |= {name: said[name] for name in SAYS if said.get(name) is not None}
    needed = ("size", "image_mean", "image_std", *["crop_size"] * bool(how["do_center_crop"]))
    if lacking := [name for name in needed if name not in how]:
        raise InputError(f"--encoder {source.label}: the file of its {kind} does not say its {' and '.join(lacking)}")
    return BitImageProcessorPil(**how)


def try_out(processor: BaseImageProcessor, source: Source) -> np.ndarray:
    """(3, H, W) float32 of a black picture; InputError for a processor that makes something else of one."""
    pixels.begin(processor)
    with cannot_encode(source):
        picture = pixels.process(Image.new("RGB", (64, 48)))
        if picture.ndim != 3:
            raise ValueError(
                f"its processor makes {' x '.join(map(str, picture.shape))} values of one, not colours x height x "
                "width; an encoder of pictures of one size is needed, as the naflex ones are not"
            )
    return picture


@contextmanager
def cannot_encode(source: Source) -> Iterator[None]:
    """What an encoder's processor and model raise of a picture, as an InputError."""
    try:
        yield
    except InputError:
        raise
    except FAILURES as error:
        raise InputError(f"--encoder {source.label}: cannot encode a picture ({first_line(error)})") from None
