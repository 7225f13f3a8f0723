"""Make the vectors that the retriever compares (N, R): of title and captions as published, of CLIP, or of much else.

--source captions  the title and the captions of the frames (captioning.py), joined by [SEP], through a text encoder
                   (published: WhereIsAI/UAE-Large-V1 with its retrieval prompt)
--source text      the title alone through a text encoder
--source frames    the mean of the frames' embeddings by CLIP or its kin, each of length 1
--source fused     the sum of that mean and of the title's embedding by the same CLIP, both of length 1
--source features  no encoder: side by side the data set's textual features, the mean of its frames' visual ones times
                   --visual_weight, both of length 1, and TF-IDF of the title's words times --lexical_weight, as far as
                   they are there; a cosine is then of what was shown, of what was meant and of the very words
--source audio     no encoder: features that the data set has, by their name (audio, visual, textual, your own)
--source user      no encoder: the creator, each one a direction of its own
--source words     no encoder: TF-IDF of the title's words alone, as features of their own, words.npy; a source beside
                   the others for a method that learns from several (retriever.py --source words)
--source text:1+frames:0.5
                   several side by side, each of length 1 and times its weight, so that a cosine is the mean of theirs,
                   weighed with the squares; one --encoder makes those that want one

Vectors that were made elsewhere come in by data/import_features.py --retrieval.
"""

from __future__ import annotations

import commands

import argparse
from collections.abc import Collection, Mapping
from dataclasses import fields, replace
from typing import Any

from common.console import InputError, Parser, run_script
from common.settings import add_flags, flags_of, made
from dataloader.modalities import RETRIEVAL
from dataloader.place import folder_of, one_writer
from dataloader.store import FeatureStore
from feature_engineering.jobs.comparing import (
    FEATURES,
    OF_FRAMES,
    OF_TEXTS,
    USER,
    WORDS,
    Making,
    WeightSettings,
    features_provenance,
    from_features,
    from_sources,
    from_words,
    in_words,
    lexical_of,
    of_store,
    reads_texts,
    sources,
)
from feature_engineering.jobs.storing import check_before_encoding, is_made
from feature_engineering.settings import (
    RETRIEVAL_ENCODER,
    DecodingSettings,
    EncoderSettings,
    FrameSettings,
    StorageSettings,
    TextSettings,
    add_encoder_flags,
)


def source_flag(text: str) -> dict[str, float]:
    """An argparse type: what is compared -> the weight of each source."""
    try:
        return sources(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(
            f"{text!r}: {error}; expected captions, text, frames, fused, features, {WORDS}, {USER} or the name of "
            "features, or several with weights, as in text:1+frames:0.5"
        ) from None


def build_parser() -> Parser:
    parser = Parser(description=__doc__)
    add_encoder_flags(parser, encoder=RETRIEVAL_ENCODER, batch_size=64)
    compared = parser.add_argument_group("what is compared")
    compared.add_argument(
        "--source",
        type=source_flag,
        default="captions",
        metavar="NAME|NAME:WEIGHT+...",
        help="captions, text, frames, fused, features, words, user or features of the data set by their name, as told "
        "above; or several with weights, as in text:1+frames:0.5",
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
    name = WORDS if [*args.source] == [WORDS] else RETRIEVAL
    store = FeatureStore.open(
        folder_of(args.dataset_path, args.dataset_id), of_store(args.source), anew=[name] * args.overwrite
    )
    source = {"source": in_words(args.source)} | (
        {"encoder": {"name": encoding.label}} if wants_encoder(args.source) else {}
    )
    check_before_encoding(store, [name], storage, source, args.overwrite)
    worded = WORDS in args.source or (FEATURES in args.source and weights.lexical_weight)
    lexical = lexical_of(store) if worded else None
    making = Making(None, None, lexical, None, decoding, storage, args.overwrite)
    if wants_encoder(args.source):
        making = with_encoder(making, store, args.source, encoding, text, frames)
    source = features_provenance(store, weights) if FEATURES in args.source else making.provenance(store, args.source)
    if not is_made(store, [name], storage, source, args.overwrite):
        if name == WORDS:
            from_words(store, storage, lexical)
        elif FEATURES in args.source:
            from_features(store, weights, storage, args.overwrite, lexical)
        else:
            from_sources(store, args.source, making)
    commands.say_next(commands.next_steps(FeatureStore.open(store.folder)))


def with_encoder(
    making: Making,
    store: FeatureStore,
    source: Mapping[str, float],
    encoding: EncoderSettings,
    text: TextSettings,
    frames: FrameSettings,
) -> Making:
    # What imports torch takes seconds: a mistyped flag is told of before, and other sources need none of it.
    from feature_engineering.decoding.frames import make_plan
    from feature_engineering.encoding.images import ImageEncoder
    from feature_engineering.encoding.texts import RETRIEVAL_PROMPT_OF, TextEncoder

    framed = [name for name in source if name in OF_FRAMES]
    if not framed:
        return replace(making, texts=TextEncoder(encoding, text, RETRIEVAL_PROMPT_OF))
    images = ImageEncoder(encoding)
    if not hasattr(images.model, "get_image_features"):
        raise InputError(f"--encoder {encoding.encoder}: --source {framed[0]} takes CLIP or its kin, which embed both")
    texts = TextEncoder(encoding, text, model=images.model) if reads_texts(source) else None
    return replace(making, images=images, texts=texts, plan=make_plan(store, frames, making.decoding.on_error))


def wants_encoder(source: Collection[str]) -> bool:
    return any(name in (*OF_TEXTS, *OF_FRAMES) for name in source)


def refuse_idle_flags(
    source: Mapping[str, float], typed: Mapping[str, Any], storage: StorageSettings, decoding: DecodingSettings
) -> None:
    """InputError for a flag of `typed` that does nothing with this --source, or contradicts it."""
    framed, words = [name for name in source if name in OF_FRAMES], in_words(source)
    idle = [
        *(() if framed else (*flags_of(FrameSettings), *flags_of(DecodingSettings))),
        *(() if reads_texts(source) else flags_of(TextSettings)),
        *(() if wants_encoder(source) else (one.name for one in fields(EncoderSettings))),
        *(() if FEATURES in source else (one.name for one in fields(WeightSettings))),
    ]
    if found := [flag for flag in idle if flag in typed]:
        raise InputError(f"--{found[0]} does nothing with --source {words}; leave it out")
    if (FEATURES in source or len(source) > 1) and "standard" in storage.normalise:
        raise InputError(
            f"--normalise {storage.normalise} takes the weights of --source {words} away again, as it brings each "
            "dimension to the same variance; leave it out"
        )
    if framed and "encoder" not in typed:
        raise InputError(f"--source {words} takes a CLIP: name it, --encoder openai/clip-vit-base-patch32 or another")
    if [*source] == ["frames"] and decoding.on_error == "zero":
        raise InputError("--on_error zero: a vector of zeros is similar to nothing; take skip or fail")


if __name__ == "__main__":
    run_script(build_parser(), main, commands.remedy)
