"""Vectors that the retriever compares, made for a data set: by encoders, or of the features that it has."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import numpy as np

from common.arrays import Derived, Rows, blocks
from common.console import InputError, listed, number
from common.settings import setting
from dataloader.components import one_vector
from dataloader.growing import additions
from dataloader.modalities import RETRIEVAL, in_order
from dataloader.place import Lacks, place
from dataloader.store import FeatureStore
from feature_engineering.decoding.captured import write_pictures
from feature_engineering.encoding.captions import CAPTIONS, read_captions
from feature_engineering.encoding.lexical import Lexical
from feature_engineering.jobs.progress import other_work
from feature_engineering.jobs.skipped import leave_out, warn_of_losses
from feature_engineering.jobs.storing import write_features
from feature_engineering.settings import DecodingSettings, FrameSettings, StorageSettings

if TYPE_CHECKING:  # what imports torch takes seconds, and what needs no encoder does not wait for it
    from feature_engineering.encoding.images import ImageEncoder
    from feature_engineering.encoding.texts import TextEncoder

SEPARATOR = " [SEP] "
OF_FRAMES = ("frames", "fused")
WORDS = "words"
FITTED = "fitted"  # in dataset.json, of vectors with words: how often items had been added when these were counted


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


def from_texts(
    store: FeatureStore, source: str, encoder: TextEncoder, storage: StorageSettings, overwrite: bool
) -> None:
    """--source captions and text."""
    from feature_engineering.encoding.texts import encode_texts

    texts = with_captions(store) if source == "captions" else store.items.text
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


def lexical_of(store: FeatureStore) -> Lexical:
    """Of split train's texts."""
    return Lexical.fit(store.items.text[store.items.split == "train"])


def fitted(store: FeatureStore) -> dict[str, int]:
    """What is to be said of vectors of words: how often the data set had grown when its train was counted."""
    number = len(additions(store))
    return {FITTED: number} if number else {}


def from_words(store: FeatureStore, storage: StorageSettings, lexical: Lexical) -> None:
    """--source words: (N, R) of what split train says; zeros for a title without a known word."""
    words = lexical.transform(store.items.text)
    if not words.shape[1]:
        raise InputError(f"{store.folder}: no word stands in two titles of split train")
    write_features(store, [WORDS], words, storage, {"source": WORDS} | fitted(store))


def from_features(
    store: FeatureStore, weights: WeightSettings, storage: StorageSettings, overwrite: bool, lexical: Lexical | None
) -> None:
    """--source features: (N, D), what there is side by side; with both weights 0 the textual features alone decide.

    lexical: of the words, None where they do not count.
    """
    # An encoder may have worked for hours on what an unfinished run left, so only --overwrite drops it.
    unfinished = sorted(store.folder.glob("retrieval*.progress"))
    if unfinished and not overwrite:
        raise other_work(unfinished[0], "by an encoder")
    # Features of other kinds are compared only where there are neither of these.
    sides = {
        name: weight for name, weight in (("textual", 1), ("visual", weights.visual_weight)) if name in store.features
    }
    sides = sides or dict.fromkeys(store.arrays, 1)
    words = np.zeros((len(store), 0), np.float32) if lexical is None else lexical.transform(store.items.text)  # (N, R)
    if lexical is not None and not words.shape[1]:
        print(f"{store.folder}: no word stands in two titles of split train: the features alone are compared")
    if not sides and not words.shape[1]:
        raise InputError(f"{store.folder}: no features to compare yet", Lacks("features", store.folder, "textual"))

    store.check_features(*sides)

    def side_by_side(rows: slice) -> np.ndarray:  # (n, D)
        parts = [weight * unit(one_vector(store.features[name][rows])) for name, weight in sides.items()]
        return np.concatenate([*parts, weights.lexical_weight * words[rows]], axis=1)

    width = sum(store.features[name].shape[-1] for name in sides) + words.shape[1]
    held = sum(int(np.prod(store.features[name].shape[1:])) for name in sides)
    joined = Derived((len(store), width), width + held, side_by_side)
    zero = np.concatenate([~joined[rows].any(axis=1) for rows in blocks(joined)])  # (N,)
    if zero.all() and storage.like is None:
        raise InputError(f"{store.folder}: all that counts of every item's features and title is zero")
    if zero.any():
        ids = listed(store.items.item_id[zero])
        print(f"{int(zero.sum())} of {len(store)} items have nothing to compare, and get no neighbours ({ids})")
    made_of = {name: store.description.features[name].sha256 for name in in_order(sides)}
    source = {"source": "features", **asdict(weights), "made_of": made_of} | fitted(store)
    write_features(store, [RETRIEVAL], joined, storage, source)
    for folder in unfinished:
        shutil.rmtree(folder)


def from_frames(
    store: FeatureStore,
    images: ImageEncoder,
    texts: TextEncoder | None,
    frames: FrameSettings,
    decoding: DecodingSettings,
    storage: StorageSettings,
    overwrite: bool,
) -> None:
    """--source fused, and without `texts` --source frames. Both encoders are one, of texts and pictures."""
    from feature_engineering.decoding.frames import make_plan
    from feature_engineering.encoding.images import encode_frames
    from feature_engineering.encoding.texts import encode_texts

    source = "frames" if texts is None else "fused"
    plan = make_plan(store, frames, decoding.on_error)
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
