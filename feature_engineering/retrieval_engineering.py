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

import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np

import commands
from common.arrays import Derived, Rows, blocks
from common.console import InputError, Parser, listed, number, run_script
from common.settings import add_flags, flags_of, made, setting
from dataloader.components import one_vector
from dataloader.modalities import RETRIEVAL, in_order
from dataloader.place import Lacks, folder_of, place
from dataloader.store import FeatureStore
from feature_engineering.decoding.captured import write_pictures
from feature_engineering.encoding.captions import CAPTIONS, read_captions
from feature_engineering.encoding.lexical import lexical_vectors
from feature_engineering.jobs.progress import other_work
from feature_engineering.jobs.skipped import leave_out, warn_of_losses
from feature_engineering.jobs.storing import check_before_encoding, write_features
from feature_engineering.settings import (
    RETRIEVAL_ENCODER,
    DecodingSettings,
    EncoderSettings,
    FrameSettings,
    StorageSettings,
    TextSettings,
    add_encoder_flags,
)

SEPARATOR = " [SEP] "
OF_FRAMES = ("frames", "fused")
WORDS = "words"


@dataclass(frozen=True)
class WeightSettings:
    """How --source features weighs what it joins; the textual features have the weight 1.

    Both defaults were chosen on split valid of 10,000 Vine videos (docs/results/nus_vine_10k.md): the visual one as the
    best of 0, 0.2, 0.3 and 0.4, the lexical one as the best of 0, 0.5, 0.7, 1 and 1.4.
    """

    visual_weight: float = setting(
        0.2, "of the visual features beside the textual ones, for --source features", number(0)
    )
    lexical_weight: float = setting(
        1.0,
        "of the title's words (TF-IDF) beside the textual features, for --source features; 0 leaves them out",
        number(0),
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


def main(args) -> None:
    encoding, text = made(EncoderSettings, vars(args)), made(TextSettings, vars(args))
    storage, weights = made(StorageSettings, vars(args)), made(WeightSettings, vars(args))
    frames, decoding = made(FrameSettings, vars(args)), made(DecodingSettings, vars(args))
    refuse_idle_flags(args.source, args.typed, storage, decoding)
    store = FeatureStore.open(folder_of(args.dataset_path, args.dataset_id))
    check_before_encoding(store, [WORDS if args.source == WORDS else RETRIEVAL], storage, args.overwrite)
    if args.source == WORDS:
        from_words(store, storage)
    elif args.source == "features":
        from_features(store, weights, storage, args.overwrite)
    elif args.source in OF_FRAMES:
        texts = text if args.source == "fused" else None
        from_frames(store, encoding, texts, frames, decoding, storage, args.overwrite)
    else:
        from_texts(store, args.source, encoding, text, storage, args.overwrite)
    print(commands.next_steps(FeatureStore.open(store.folder)))


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


def from_texts(
    store: FeatureStore,
    source: str,
    encoding: EncoderSettings,
    text: TextSettings,
    storage: StorageSettings,
    overwrite: bool,
) -> None:
    """--source captions and text."""
    # What imports torch takes seconds: a mistyped flag is told of before, and --source features needs none of it.
    from feature_engineering.encoding.texts import RETRIEVAL_PROMPT_OF, TextEncoder, encode_texts

    texts = with_captions(store) if source == "captions" else store.items.text
    encoder = TextEncoder(encoding, text, RETRIEVAL_PROMPT_OF)
    array, progress = encode_texts(texts, encoder, store.folder / "retrieval.progress", overwrite=overwrite)
    write_features(store, [RETRIEVAL], array, storage, encoder.provenance() | {"source": source})
    progress.remove()


def with_captions(store: FeatureStore) -> list[str]:
    """N texts: title and captions, joined by [SEP]; InputError where there are no captions of an item."""
    captions = read_captions(store.folder / CAPTIONS)
    missing = [item_id for item_id in store.items.item_id if item_id not in captions]
    if missing:
        raise InputError(
            f"{store.folder / CAPTIONS}: captions of {len(missing)} of {len(store)} items are missing; make them with: "
            f"python feature_engineering/captioning.py {place(store.folder)} --videos <folder>, or take --source text "
            "for the titles alone, or --source features"
        )
    pairs = zip(store.items.item_id, store.items.text, strict=True)
    return [SEPARATOR.join([text, *captions[item_id]]) for item_id, text in pairs]


def from_words(store: FeatureStore, storage: StorageSettings) -> None:
    """--source words: (N, R) of what split train says; zeros for a title without a known word."""
    words = lexical_vectors(store.items.text, store.items.split == "train")
    if not words.shape[1]:
        raise InputError(f"{store.folder}: no word stands in two titles of split train")
    write_features(store, [WORDS], words, storage, {"source": WORDS})


def from_features(store: FeatureStore, weights: WeightSettings, storage: StorageSettings, overwrite: bool) -> None:
    """--source features: (N, D), what there is side by side; with both weights 0 the textual features alone decide."""
    # An encoder may have worked for hours on what an unfinished run left, so only --overwrite drops it.
    unfinished = sorted(store.folder.glob("retrieval*.progress"))
    if unfinished and not overwrite:
        raise other_work(unfinished[0], "by an encoder")
    # Features of other kinds are compared only where there are neither of these.
    sides = {
        name: weight for name, weight in (("textual", 1), ("visual", weights.visual_weight)) if name in store.features
    }
    sides = sides or dict.fromkeys(store.arrays, 1)
    words = np.zeros((len(store), 0), np.float32)  # (N, R)
    if weights.lexical_weight:
        words = lexical_vectors(store.items.text, store.items.split == "train")
        if not words.shape[1]:
            print(f"{store.folder}: no word stands in two titles of split train: the features alone are compared")
    if not sides and not words.shape[1]:
        raise InputError(f"{store.folder}: no features to compare yet", Lacks("features", store.folder, "textual"))

    def side_by_side(rows: slice) -> np.ndarray:  # (n, D)
        parts = [weight * unit(one_vector(store.features[name][rows])) for name, weight in sides.items()]
        return np.concatenate([*parts, weights.lexical_weight * words[rows]], axis=1)

    width = sum(store.features[name].shape[-1] for name in sides) + words.shape[1]
    held = sum(int(np.prod(store.features[name].shape[1:])) for name in sides)
    joined = Derived((len(store), width), width + held, side_by_side)
    zero = np.concatenate([~joined[rows].any(axis=1) for rows in blocks(joined)])  # (N,)
    if zero.all():
        raise InputError(f"{store.folder}: all that counts of every item's features and title is zero")
    if zero.any():
        ids = listed(store.items.item_id[zero])
        print(f"{int(zero.sum())} of {len(store)} items have nothing to compare, and get no neighbours ({ids})")
    made_of = {name: store.description.features[name].sha256 for name in in_order(sides)}
    source = {"source": "features", **asdict(weights), "made_of": made_of}
    write_features(store, [RETRIEVAL], joined, storage, source)
    for folder in unfinished:
        shutil.rmtree(folder)


def from_frames(
    store: FeatureStore,
    encoding: EncoderSettings,
    text: TextSettings | None,
    frames: FrameSettings,
    decoding: DecodingSettings,
    storage: StorageSettings,
    overwrite: bool,
) -> None:
    """--source fused, and without `text` --source frames."""
    # As in from_texts, torch is imported only where it is needed.
    from feature_engineering.decoding.frames import make_plan
    from feature_engineering.encoding.images import ImageEncoder, encode_frames
    from feature_engineering.encoding.texts import TextEncoder, encode_texts

    source = "frames" if text is None else "fused"
    plan = make_plan(store, frames, decoding.on_error)
    images = ImageEncoder(encoding)
    if not hasattr(images.model, "get_image_features"):
        raise InputError(f"--encoder {encoding.encoder}: --source {source} takes CLIP or its kin, which embed both")
    texts = None if text is None else TextEncoder(encoding, text, model=images.model)
    encoded = encode_frames(store.folder / "retrieval.progress", plan, images, decoding, overwrite=overwrite)
    store, rows = leave_out(store, encoded, decoding.on_error, "retrieval", plan.place)
    write_pictures(store, encoded.notes("captured"))
    parts: list[tuple[Rows, Callable]] = [(Rows(encoded.features, rows), lambda block: unit(unit(block).mean(axis=1)))]
    progresses = [encoded]
    if texts is not None:
        folder = store.folder / "retrieval_text.progress"
        array, progress = encode_texts(store.items.text, texts, folder, overwrite=overwrite)
        parts.append((array, unit))
        progresses.append(progress)
    shape = (len(rows), encoded.features.shape[2])
    values = int(np.prod(encoded.features.shape[1:]))
    fused = Derived(shape, values, lambda rows: sum(part(array[rows]) for array, part in parts))
    made_by = (texts or images).provenance() | {"source": source, "frame_num": plan.frame_num}
    write_features(store, [RETRIEVAL], fused, storage, made_by)
    for progress in progresses:
        progress.remove()
    warn_of_losses(len(encoded.failed), encoded.total, store.folder / "skipped.csv")


def unit(vectors: np.ndarray) -> np.ndarray:
    """(..., D) -> the same directions with length 1; zeros stay zeros."""
    length = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return vectors / np.where(length > 0, length, 1)


if __name__ == "__main__":
    run_script(build_parser(), main, commands.remedy)
