"""Make the vectors that the retriever compares (N, R): of title and captions as published, or of CLIP.

--source captions  the title and the captions of the frames (captioning.py), joined by [SEP], through a text encoder
                   (published: WhereIsAI/UAE-Large-V1 with its retrieval prompt)
--source text      the title alone through a text encoder
--source frames    the mean of the frames' embeddings by CLIP or its kin, each of length 1
--source fused     the sum of that mean and of the title's embedding by the same CLIP, both of length 1
--source features  no encoder: side by side the data set's textual features, the mean of its frames' visual ones times
                   --visual_weight, both of length 1, and TF-IDF of the title's words times --lexical_weight; a
                   cosine is then of what was shown, of what was meant and of the very words

Vectors that were made elsewhere come in by data/import_features.py --retrieval.
"""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Callable

import numpy as np

from common.arrays import Derived, Rows, blocks
from common.console import InputError, Parser, listed, number, run_script
from dataloader.place import dataset_folder, encoding_command, place
from dataloader.store import FeatureStore
from feature_engineering.captions import CAPTIONS, read_captions
from feature_engineering.encoders import (
    add_encoder_flags,
    add_storage_flags,
    check_before_encoding,
    write_features,
)
from feature_engineering.frames import add_source_flags, make_plan
from feature_engineering.images import ImageEncoder, encode_frames
from feature_engineering.lexical import lexical_vectors
from feature_engineering.progress import other_work
from feature_engineering.skipped import leave_out, warn_of_losses
from feature_engineering.texts import RETRIEVAL_PROMPT_OF, TextEncoder, add_text_flags, encode_texts

PUBLISHED = "WhereIsAI/UAE-Large-V1"
SEPARATOR = " [SEP] "
OF_FRAMES = ("frames", "fused")
# both chosen on split valid of 10,000 Vine videos (docs/results/nus_vine_10k.md)
VISUAL_WEIGHT = 0.2  # best of 0, 0.2, 0.3, 0.4
LEXICAL_WEIGHT = 1.0  # best of 0, 0.5, 0.7, 1, 1.4
FRAME_FLAGS = ("videos", "frames", "frame_num", "workers", "timeout", "on_error")
TEXT_FLAGS = ("pooling", "prompt", "max_length")
FEATURES_FLAGS = ("visual_weight", "lexical_weight")
ENCODER_FLAGS = ("encoder", "batch_size", "precision", "device")


def build_parser() -> Parser:
    parser = Parser(description=__doc__)
    add_encoder_flags(parser, PUBLISHED, batch_size=64)
    parser.add_argument(
        "--source",
        default="captions",
        choices=("captions", "text", "frames", "fused", "features"),
        help="what is compared",
    )
    parser.add_argument(
        "--visual_weight",
        type=number(0),
        default=VISUAL_WEIGHT,
        help="of the visual features beside the textual ones, for --source features",
    )
    parser.add_argument(
        "--lexical_weight",
        type=number(0),
        default=LEXICAL_WEIGHT,
        help="of the title's words (TF-IDF) beside the textual features, for --source features; 0 leaves them out",
    )
    add_storage_flags(parser)
    add_text_flags(parser.add_argument_group("texts"))
    add_source_flags(parser.add_argument_group("frames, for --source frames and fused"))
    return parser


def main(args) -> None:
    refuse_idle_flags(args)
    store = FeatureStore.open(dataset_folder(args))
    check_before_encoding(store, ["retrieval"], args)
    if args.source == "features":
        from_features(store, args)
        return
    if args.source in OF_FRAMES:
        from_frames(store, args)
        return
    texts = with_captions(store) if args.source == "captions" else store.items.text
    encoder = TextEncoder(args, RETRIEVAL_PROMPT_OF)
    array, progress = encode_texts(texts, encoder, store.folder / "retrieval.progress", args)
    write_features(store, ["retrieval"], array, args, encoder.provenance() | {"source": args.source})
    progress.remove()


def refuse_idle_flags(args: argparse.Namespace) -> None:
    idle = [
        *(FRAME_FLAGS if args.source not in OF_FRAMES else ()),
        *(TEXT_FLAGS if args.source in ("frames", "features") else ()),
        *(ENCODER_FLAGS if args.source == "features" else FEATURES_FLAGS),
    ]
    if typed := [flag for flag in idle if flag in args.typed]:
        raise InputError(f"--{typed[0]} does nothing with --source {args.source}; leave it out")
    if args.source == "features" and "standard" in args.normalise:
        raise InputError(
            f"--normalise {args.normalise} takes the weights of --source features away again, as it brings each "
            "dimension to the same variance; leave it out"
        )
    if args.source in OF_FRAMES and "encoder" not in args.typed:
        raise InputError(
            f"--source {args.source} takes a CLIP: name it, --encoder openai/clip-vit-base-patch32 or another"
        )
    if args.source == "frames" and args.on_error == "zero":
        raise InputError("--on_error zero: a vector of zeros is similar to nothing, and is refused by retriever.py")


def with_captions(store: FeatureStore) -> list[str]:
    """N texts: title and captions, joined by [SEP]; InputError where there are no captions of an item."""
    captions = read_captions(store.folder / CAPTIONS)
    missing = [item_id for item_id in store.items.item_id if item_id not in captions]
    if missing:
        raise InputError(
            f"{store.folder / CAPTIONS}: captions of {len(missing)} of {len(store)} items are missing; make them with: "
            f"python feature_engineering/captioning.py {place(store.folder)} --videos <folder>, or take "
            "--source text for the titles alone"
        )
    pairs = zip(store.items.item_id, store.items.text, strict=True)
    return [SEPARATOR.join([text, *captions[item_id]]) for item_id, text in pairs]


def from_features(store: FeatureStore, args: argparse.Namespace) -> None:
    """--source features: (N, Dt + Dv + R); with both weights 0 the textual features alone decide."""
    for name in ("visual", "textual"):
        if name not in store.arrays:
            raise InputError(
                f"{store.folder}: --source features takes {name} features, and there are none; make them with: "
                f"{encoding_command(name, store.folder)}"
            )
    unfinished = sorted(store.folder.glob("retrieval*.progress"))  # hours of an encoder, which are not lost unasked
    if unfinished and not args.overwrite:
        raise other_work(unfinished[0], "by an encoder")
    visual, textual = store.visual, store.textual  # (N, F, Dv), (N, Dt)
    words = np.zeros((len(store), 0), np.float32)  # (N, R)
    if args.lexical_weight:
        words = lexical_vectors(store.items.text, store.items.split == "train")
        if not words.shape[1]:
            print(f"{store.folder}: no word stands in two titles of split train: the features alone are compared")

    def side_by_side(rows: slice) -> np.ndarray:  # (n, Dt + Dv + R)
        frames = np.asarray(visual[rows], np.float32).mean(axis=1)  # (n, Dv)
        meant = unit(np.asarray(textual[rows], np.float32))  # (n, Dt)
        return np.concatenate([meant, args.visual_weight * unit(frames), args.lexical_weight * words[rows]], axis=1)

    width = textual.shape[1] + visual.shape[2] + words.shape[1]
    joined = Derived((len(store), width), width + visual[0].size, side_by_side)
    zero = np.concatenate([~joined[rows].any(axis=1) for rows in blocks(joined)])  # (N,)
    if zero.any():
        raise InputError(
            f"{store.folder}: {int(zero.sum())} of {len(store)} items have nothing to compare, all that counts of "
            f"their features and titles is zero (item ids {listed(store.items.item_id[zero])}); encode better "
            f"features with: {encoding_command('textual', store.folder)} --overwrite"
        )
    made_of = {name: store.info["arrays"][name]["sha256"] for name in ("visual", "textual")}
    source = {"source": "features", **{name: getattr(args, name) for name in FEATURES_FLAGS}, "made_of": made_of}
    write_features(store, ["retrieval"], joined, args, source)
    for folder in unfinished:
        shutil.rmtree(folder)


def from_frames(store: FeatureStore, args: argparse.Namespace) -> None:
    """--source frames and fused."""
    plan = make_plan(store, args)
    images = ImageEncoder(args)
    if not hasattr(images.model, "get_image_features"):
        raise InputError(f"--encoder {args.encoder}: --source {args.source} takes CLIP or its kin, which embed both")
    texts = TextEncoder(args, model=images.model) if args.source == "fused" else None
    frames = encode_frames(store, plan, images, args, "retrieval")
    store, rows = leave_out(store, frames, args.on_error, "retrieval", plan.place)
    parts: list[tuple[Rows, Callable]] = [(Rows(frames.features, rows), lambda block: unit(unit(block).mean(axis=1)))]
    progresses = [frames]
    if texts is not None:
        array, progress = encode_texts(store.items.text, texts, store.folder / "retrieval_text.progress", args)
        parts.append((array, unit))
        progresses.append(progress)
    shape = (len(rows), frames.features.shape[2])
    values = int(np.prod(frames.features.shape[1:]))
    fused = Derived(shape, values, lambda rows: sum(part(array[rows]) for array, part in parts))
    source = (texts or images).provenance() | {"source": args.source, "frame_num": plan.frame_num}
    write_features(store, ["retrieval"], fused, args, source)
    for progress in progresses:
        progress.remove()
    warn_of_losses(len(frames.failed), frames.total, store.folder / "skipped.csv")


def unit(vectors: np.ndarray) -> np.ndarray:
    """(..., D) -> the same directions with length 1; zeros stay zeros."""
    length = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return vectors / np.where(length > 0, length, 1)


if __name__ == "__main__":
    run_script(build_parser(), main)
