"""The settings that feature scripts share: encoders, texts, frames, their decoding, and how features are stored.

Imports neither torch nor transformers nor av.
"""

from __future__ import annotations

import argparse
import os
from dataclasses import MISSING, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from common.cluster import LOCAL, add_engine_flag, check_engine
from common.console import number, whole_number
from common.devices import PRECISIONS, add_device_flag
from common.settings import add_flags, setting
from dataloader.names import DTYPES, MODES
from dataloader.place import add_dataset_flags

if TYPE_CHECKING:
    from dataloader.description import Feature

# The published encoders.
VISUAL_ENCODER = "google/vit-base-patch16-224-in21k"
CAPTION_ENCODER = "Salesforce/blip-image-captioning-base"
TEXTUAL_ENCODER = "WhereIsAI/angle-bert-base-uncased-nli-en-v1"
RETRIEVAL_ENCODER = "WhereIsAI/UAE-Large-V1"
AUDIO_ENCODER = "laion/clap-htsat-unfused"  # ours: the published system hears nothing
NO_ENCODER = "none"

POOLINGS = ("mean", "cls", "cls_avg", "max", "last")
ON_ERROR = {  # policy -> what becomes of an item that cannot be used
    "skip": "leave it out of the data set and list it in skipped.csv",
    "fail": "stop at the first",
    "zero": "keep it with zeros as its features, and list it too",
}


def on_error_setting(*policies: str) -> Any:
    """The field `on_error` of a settings class, for a script that offers these policies."""
    meanings = "; ".join(f"{policy}: {ON_ERROR[policy]}" for policy in policies)
    return setting(policies[0], f"an item that cannot be used: {meanings}", str, policies)


@dataclass(frozen=True)
class EncoderSettings:
    """Which encoder makes the features, and how it is run."""

    encoder: str = setting(MISSING, "from the hub or its cache, or a folder", metavar="NAME[@REVISION]|FOLDER")
    batch_size: int = setting(
        32, "inputs encoded at once; a video encoder takes whole clips of so many frames together", whole_number(1)
    )
    precision: str = setting(
        "auto",
        "of the encoder's arithmetic; auto is bf16 on CUDA and fp32 on a CPU, whose bf16 units, where it has them, "
        "bf16 uses",
        str,
        ("auto", *PRECISIONS),
    )
    # Their flags are of common/devices.py and common/cluster.py, as scripts have them that run no encoder.
    device: str = "auto"
    engine: str = LOCAL

    def __post_init__(self):
        check_engine(self.engine, self.device)

    @property
    def label(self) -> str:
        """The name that a data set knows the encoder by: a folder's own, or that on the hub."""
        return Path(self.encoder).resolve().name if Path(self.encoder).is_dir() else self.encoder.partition("@")[0]


def add_encoder_flags(parser: argparse.ArgumentParser, **defaults: Any) -> None:
    """The flags of every script that runs an encoder; `defaults`: of EncoderSettings, as the script has them."""
    place, encoder = parser.add_argument_group("data and place"), parser.add_argument_group("encoder")
    add_dataset_flags(place)
    place.add_argument("--overwrite", action="store_true", help="replace what is there, and begin anew")
    add_flags(encoder, EncoderSettings, **defaults)
    add_device_flag(encoder)
    add_engine_flag(encoder, "with an encoder on each of its devices")


@dataclass(frozen=True)
class StorageSettings:
    """How features are stored."""

    dtype: str = setting("float32", "precision of the stored features", str, DTYPES)
    normalise: str = setting(
        "none",
        "l2: each vector to length 1; standard: each dimension to mean 0, variance 1 over split train; standard+l2: "
        "one after the other",
        str,
        MODES,
    )
    # Features of another data set, whose scale these are to have; no flag.
    like: Feature | None = None

    @property
    def as_flags(self) -> dict[str, str]:
        return {"--dtype": self.dtype, "--normalise": self.normalise}

    @classmethod
    def of(cls, like: Feature) -> StorageSettings:
        return cls(like.dtype, like.made.get("normalise", "none"), like)


@dataclass(frozen=True)
class TextSettings:
    """What a text encoder reads of a text, and how its tokens become one vector."""

    pooling: str | None = setting(
        None,
        "mean of the tokens, the first token (cls), the mean of these two (cls_avg), the largest value of each "
        "dimension (max) or the last token; without it as the published encoders want it, else as the encoder's folder "
        "says if it is one of sentence-transformers, else mean; encoders with a projected text embedding (CLIP) give "
        "that one",
        str,
        POOLINGS,
        kind=str,
    )
    prompt: str | None = setting(
        None,
        "what is encoded; {text} stands for the item's text; without it that of the published encoders, else the "
        "default prompt of the encoder's folder, if it has one",
        kind=str,
    )
    max_length: int | None = setting(
        None, "tokens kept of a text; without it the limit of the encoder or of its folder", whole_number(2)
    )


@dataclass(frozen=True)
class CaptionSettings:
    """What is asked about frames, and how the words of the answer are chosen."""

    prompt: str | None = setting(
        None,
        "what a multimodal language model is asked about the frames; without it to describe them in one sentence",
        kind=str,
    )
    max_new_tokens: int | None = setting(
        None, "of a caption, at most; without it 20 by BLIP, 100 by a multimodal language model", whole_number(1)
    )
    temperature: float = setting(
        0.0, "of a multimodal language model: 0 takes the likeliest words, more draws them", number(0, most=100)
    )
    seed: int | None = setting(None, "of what is drawn, for each video; without it 0", whole_number(0))


@dataclass(frozen=True)
class FrameSettings:
    """Where the frames of the items are, and how many are taken of each."""

    videos: Path | None = setting(
        None, "folder of <item id>.mp4: streamed, no pictures on the disk", Path, kind=str, either=True
    )
    frames: Path | None = setting(
        None,
        "folder of <item id>_<i>.jpg; <data set's folder>/frames without it and --videos",
        Path,
        kind=str,
        either=True,
    )
    frame_num: int | None = setting(
        None,
        "frames of a video; of videos as the data set's family has them, of pictures as most items have, of a video "
        "encoder as its configuration says",
        whole_number(1),
    )


@dataclass(frozen=True)
class DecodingSettings:
    """How videos and pictures are decoded, and what becomes of an item of which nothing can be decoded."""

    workers: int = setting(max(1, min(16, (os.cpu_count() or 1) - 1)), "processes that decode", whole_number(1))
    timeout: float = setting(120.0, "seconds that a file may take before it is given up", number(0, above=True))
    on_error: str = on_error_setting("skip", "fail", "zero")


@dataclass(frozen=True)
class SoundSettings:
    """What is heard of a video."""

    seconds: float = setting(
        30.0,
        "of sound that are heard of a video at most, in windows as long as the encoder takes, spread evenly over it",
        number(0, above=True),
    )


@dataclass(frozen=True)
class ListeningSettings(DecodingSettings):
    """As of every script that decodes, but for the policy skip: a video whose sound is broken keeps all else."""

    on_error: str = on_error_setting("zero", "fail")


@dataclass(frozen=True)
class SequenceSettings:
    """What is to be made of a folder of videos, and by which encoders; nothing where `videos` is None.

    The steps are scripts of their own: frame_num and precision reach them as they were typed.
    """

    videos: Path | None = setting(None, "folder of the videos, <item id>.mp4", Path, kind=str)
    visual_encoder: str = setting(VISUAL_ENCODER, "visual features", metavar="NAME|FOLDER")
    caption_encoder: str = setting(
        CAPTION_ENCODER, f"captions of the frames; {NO_ENCODER}: no captions", metavar="NAME|FOLDER"
    )
    textual_encoder: str = setting(TEXTUAL_ENCODER, "textual features", metavar="NAME|FOLDER")
    retrieval_encoder: str = setting(
        RETRIEVAL_ENCODER, "retrieval vectors, of titles and captions", metavar="NAME|FOLDER"
    )
    audio_encoder: str = setting(
        NO_ENCODER,
        f"audio features, of the sound, which is decoded on the way of the frames, such as {AUDIO_ENCODER}; "
        f"{NO_ENCODER}: no audio features",
        metavar="NAME|FOLDER",
    )
    keep_frames: bool = setting(False, "write the frames as pictures, and read them there")
    frame_num: int | None = setting(None, "frames of a video; those of the family without it", whole_number(1))
    precision: str = setting("auto", "of the encoders", str, ("auto", *PRECISIONS))
