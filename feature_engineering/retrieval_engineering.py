"""Make the vectors that the retriever compares (N, R): of title and captions as published, or of CLIP.

--source captions  the title and the captions of the frames (captioning.py), joined by [SEP], through a text encoder
                   (published: WhereIsAI/UAE-Large-V1 with its retrieval prompt)
--source text      the title alone through a text encoder
--source frames    the mean of the frames' embeddings by CLIP or its kin, each of length 1
--source fused     the sum of that mean and of the title's embedding by the same CLIP, both of length 1
--source features  no encoder: side by side the data set's textual features, the mean of its frames' visual ones times
                   --visual_weight, both of length 1, and TF-IDF of the title's words times --lexical_weight, as far as
                   they are there; a cosine is then of what was shown, of what was meant and of the very words
--source words     no encoder: TF-IDF of the title's words alone, as features of their own, words.npy; a source beside
                   the others for a method that learns from several (retriever.py --source words)

Vectors that were made elsewhere come in by data/import_features.py --retrieval.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import commands
from common.console import InputError, Parser, run_script
from common.settings import add_flags, flags_of, made
from dataloader.modalities import RETRIEVAL
from dataloader.place import folder_of, one_writer
from dataloader.store import FeatureStore
from feature_engineering.jobs.comparing import (
    OF_FRAMES,
    WORDS,
    WeightSettings,
    from_features,
    from_frames,
    from_texts,
    from_words,
    lexical_of,
)
from feature_engineering.jobs.storing import check_before_encoding
from feature_engineering.settings import (
    RETRIEVAL_ENCODER,
    DecodingSettings,
    EncoderSettings,
    FrameSettings,
    StorageSettings,
    TextSettings,
    add_encoder_flags,
)


def build_parser() -> Parser:
    parser = Parser(description=__doc__)
    add_encoder_flags(parser, encoder=RETRIEVAL_ENCODER, batch_size=64)
    compared = parser.add_argument_group("what is compared")
    compared.add_argument(
        "--source",
        default="captions",
        choices=("captions", "text", "frames", "fused", "features", WORDS),
        help="what is compared",
    )
    add_flags(compared, WeightSettings)
    add_flags(parser.add_argument_group("what is stored"), StorageSettings)
    add_flags(parser.add_argument_group("texts"), TextSettings)
    group = parser.add_argument_group("frames, for --source frames and fused")
    add_flags(group, FrameSettings)
    add_flags(group, DecodingSettings)
    return parser


@one_writer
def main(args) -> None:
    encoding, text = made(EncoderSettings, vars(args)), made(TextSettings, vars(args))
    storage, weights = made(StorageSettings, vars(args)), made(WeightSettings, vars(args))
    frames, decoding = made(FrameSettings, vars(args)), made(DecodingSettings, vars(args))
    refuse_idle_flags(args.source, args.typed, storage, decoding)
    store = FeatureStore.open(folder_of(args.dataset_path, args.dataset_id))
    check_before_encoding(store, [WORDS if args.source == WORDS else RETRIEVAL], storage, args.overwrite)
    if args.source == WORDS:
        from_words(store, storage, lexical_of(store))
    elif args.source == "features":
        from_features(store, weights, storage, args.overwrite, lexical_of(store) if weights.lexical_weight else None)
    else:
        # What imports torch takes seconds: a mistyped flag is told of before, and other sources need none of it.
        from feature_engineering.encoding.images import ImageEncoder
        from feature_engineering.encoding.texts import RETRIEVAL_PROMPT_OF, TextEncoder

        if args.source in OF_FRAMES:
            images = ImageEncoder(encoding)
            if not hasattr(images.model, "get_image_features"):
                raise InputError(
                    f"--encoder {encoding.encoder}: --source {args.source} takes CLIP or its kin, which embed both"
                )
            texts = TextEncoder(encoding, text, model=images.model) if args.source == "fused" else None
            from_frames(store, images, texts, frames, decoding, storage, args.overwrite)
        else:
            encoder = TextEncoder(encoding, text, RETRIEVAL_PROMPT_OF)
            from_texts(store, args.source, encoder, storage, args.overwrite)
    commands.say_next(commands.next_steps(FeatureStore.open(store.folder)))


def refuse_idle_flags(
    source: str, typed: Mapping[str, Any], storage: StorageSettings, decoding: DecodingSettings
) -> None:
    """InputError for a flag of `typed` that does nothing with this --source, or contradicts it."""
    idle = [
        *(() if source in OF_FRAMES else (*flags_of(FrameSettings), *flags_of(DecodingSettings))),
        *(flags_of(TextSettings) if source in ("frames", "features", WORDS) else ()),
        *(one.name for one in fields(EncoderSettings if source in ("features", WORDS) else WeightSettings)),
        *((one.name for one in fields(WeightSettings)) if source == WORDS else ()),
    ]
    if found := [flag for flag in idle if flag in typed]:
        raise InputError(f"--{found[0]} does nothing with --source {source}; leave it out")
    if source == "features" and "standard" in storage.normalise:
        raise InputError(
            f"--normalise {storage.normalise} takes the weights of --source features away again, as it brings each "
            "dimension to the same variance; leave it out"
        )
    if source in OF_FRAMES and "encoder" not in typed:
        raise InputError(f"--source {source} takes a CLIP: name it, --encoder openai/clip-vit-base-patch32 or another")
    if source == "frames" and decoding.on_error == "zero":
        raise InputError("--on_error zero: a vector of zeros is similar to nothing; take skip or fail")


if __name__ == "__main__":
    run_script(build_parser(), main, commands.remedy)
