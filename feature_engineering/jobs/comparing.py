"""Vectors that the retriever compares, made for a data set: by encoders, or of the features that it has."""

from __future__ import annotations

import contextlib
import hashlib
import shutil
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from common.arrays import Derived, Rows, blocks
from common.console import InputError, listed, number
from common.settings import setting
from dataloader.components import one_vector
from dataloader.growing import additions
from dataloader.modalities import RETRIEVAL, in_order, is_name
from dataloader.place import Lacks, place
from dataloader.store import FeatureStore
from feature_engineering.decoding.captured import write_pictures
from feature_engineering.encoding.captions import CAPTIONS, captioned_by, read_captions
from feature_engineering.encoding.lexical import Lexical
from feature_engineering.jobs.progress import Progress, other_work
from feature_engineering.jobs.skipped import leave_out, warn_of_losses
from feature_engineering.jobs.storing import FITTED, write_features
from feature_engineering.settings import DecodingSettings, StorageSettings

if TYPE_CHECKING:  # what imports torch takes seconds, and what needs no encoder does not wait for it
    from feature_engineering.decoding.frames import Plan
    from feature_engineering.encoding.images import ImageEncoder
    from feature_engineering.encoding.texts import TextEncoder

SEPARATOR = " [SEP] "
OF_TEXTS, OF_FRAMES = ("captions", "text"), ("frames", "fused")  # by an encoder
FEATURES, WORDS, USER = "features", "words", "user"  # by none
HEAVIEST = 1e6  # weight of a source
CREATOR = 128  # dimensions of a creator's direction: two of these have a cosine of 0 +- 0.09


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


def sources(text: str) -> dict[str, float]:
    """`text`, or `text:1+frames:0.5` -> the weight of each source; ValueError for what is none."""
    found: dict[str, float] = {}
    for part in text.split("+"):
        name, colon, weight = part.partition(":")
        factor = float(weight) if colon else 1.0
        if name in (RETRIEVAL, "metadata") or not (name in OF_TEXTS or is_name(name)):
            raise ValueError(f"{name!r} is no source")
        if name in found or not (0 < factor <= HEAVIEST):
            raise ValueError(
                f"{name!r} is there twice" if name in found else f"{part!r} has no weight above 0, at most {HEAVIEST:g}"
            )
        found[name] = factor
    if len(found) > 1 and FEATURES in found:
        raise ValueError(f"{FEATURES!r} stands alone: it is several already")
    return found


def in_words(weights: Mapping[str, float]) -> str:
    """What dataset.json calls them: `sources` reads it again."""
    return next(iter(weights)) if len(weights) == 1 else "+".join(f"{name}:{w:.15g}" for name, w in weights.items())


@dataclass
class Making:
    """What sources are made by: encoders where one is asked for, the frames, and of the words what train says."""

    images: ImageEncoder | None
    texts: TextEncoder | None
    lexical: Lexical | None
    plan: Plan | None
    decoding: DecodingSettings
    storage: StorageSettings
    overwrite: bool = False

    def provenance(self, store: FeatureStore, weights: Mapping[str, float]) -> dict[str, Any]:
        """What dataset.json says of vectors of these sources."""
        encoder, made_of = self.texts or self.images, in_order(of_store(weights))
        said = {"source": in_words(weights)} | (encoder.provenance() if encoder else {})
        said |= {"frame_num": self.plan.frame_num} if self.plan else {}
        with contextlib.suppress(InputError):  # of captions from elsewhere nothing is known
            captioned = captioned_by(store.folder / CAPTIONS).items() if "captions" in weights else {}
            said |= {"captions": {key: value for key, value in captioned if key != "folder"}} if captioned else {}
        said |= {"made_of": {name: store.description.features[name].sha256 for name in made_of}} if made_of else {}
        return said | (fitted(store) if WORDS in weights else {})


def recipe(made: Mapping[str, Any]) -> dict[str, float]:
    """The sources of vectors of which dataset.json says `made`; none where they came from elsewhere."""
    try:
        weights = sources(str(made.get("source", "")))
    except ValueError:
        return {}
    return weights if set(of_store(weights)) <= set(made.get("made_of", {})) else {}


def of_store(weights: Mapping[str, float]) -> list[str]:
    """The sources that are features of the data set, and not made for this."""
    return [name for name in weights if name not in (*OF_TEXTS, *OF_FRAMES, FEATURES, WORDS, USER)]


def reads_texts(weights: Collection[str]) -> bool:
    return any(name in (*OF_TEXTS, "fused") for name in weights)


def from_sources(store: FeatureStore, weights: Mapping[str, float], making: Making) -> None:
    """Retrieval vectors of one source, or of several side by side, each of length 1 and times its weight."""
    progresses: list[Progress] = []
    stems = {name: stem_of(name, weights) for name in weights if reads_texts([name])}
    own = {f"{stem}.progress" for stem in (*stems.values(), *([RETRIEVAL] if making.plan else []))}
    unfinished = unfinished_of_encoders(store, making.overwrite, own)
    parts: dict[str, np.ndarray | Rows | Derived] = {}
    for name in sorted(weights, key=lambda name: name not in OF_FRAMES):  # frames first: items may be left out
        if name in OF_FRAMES:
            store, parts[name], progress = encoded_frames(store, making)
            progresses.append(progress)
        if reads_texts([name]):
            vectors, progress = encoded_texts(store, name, stems[name], making)
            progresses.append(progress)
            parts[name] = added(parts[name], vectors) if name == "fused" else vectors
        elif name == WORDS:
            parts[name] = making.lexical.transform(store.items.text)  # (N, R)
        elif name == USER:
            parts[name] = of_creators(store, making.storage)  # (N, CREATOR)
        elif name not in OF_FRAMES:
            store.check_features(name)
            parts[name] = flat(store.features[name])
    together = next(iter(parts.values()))
    if len(weights) > 1:
        together = side_by_side([(weight, directions(parts[name])) for name, weight in weights.items()])
    say_nothing_to_compare(store, together, making.storage)
    write_features(store, [RETRIEVAL], together, making.storage, making.provenance(store, weights))
    for progress in progresses:
        progress.remove()
    for folder in unfinished:
        shutil.rmtree(folder, ignore_errors=True)
    if making.plan:
        warn_of_losses(len(progresses[0].failed), progresses[0].total, store.folder / "skipped.csv")


def stem_of(name: str, weights: Mapping[str, float]) -> str:
    """Of the progress of what encodes texts: its own beside other sources, as frames have theirs."""
    return RETRIEVAL if [*weights] == [name] != ["fused"] else f"{RETRIEVAL}_{name.replace('fused', 'text')}"


def encoded_frames(store: FeatureStore, making: Making) -> tuple[FeatureStore, Derived, Progress]:
    """The items that can be decoded, and the mean of their frames' directions (N, D)."""
    from feature_engineering.encoding.images import encode_frames

    plan, how = making.plan, {"overwrite": making.overwrite, "then": making.storage.as_flags}
    encoded = encode_frames(store.folder / "retrieval.progress", plan, making.images, making.decoding, **how)
    store, rows = leave_out(store, encoded, making.decoding.on_error, "retrieval", plan.place)
    write_pictures(store, encoded.notes("captured"))
    array = Rows(encoded.features, rows)  # (N, F, D)
    return store, derived(array, lambda block: unit(unit(block).mean(axis=1))), encoded


def encoded_texts(store: FeatureStore, source: str, stem: str, making: Making) -> tuple[Rows, Progress]:
    """(N, D)"""
    from feature_engineering.encoding.texts import encode_texts

    texts = with_captions(store) if source == "captions" else store.items.text
    how = {"overwrite": making.overwrite, "then": making.storage.as_flags}
    return encode_texts(texts, making.texts, store.folder / f"{stem}.progress", **how)


def of_creators(store: FeatureStore, storage: StorageSettings) -> np.ndarray:
    """(N, CREATOR): each creator's own direction, drawn by the name; zeros where the creator is unknown.

    InputError where all are, unless they join others that have been made.
    """
    names, row = np.unique(store.items.user, return_inverse=True)
    if not any(names) and storage.like is None:
        raise InputError(f"{store.folder}: --source {USER} compares creators, and it has none; import it with them")
    seeds = [int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") for name in names]
    drawn = np.stack([np.random.default_rng(seed).standard_normal(CREATOR, np.float32) for seed in seeds])
    return np.where((names != "")[:, None], unit(drawn), 0).astype(np.float32)[row]


# ---- arrays that are made as they are read ----------------------------------------------------------------------


def derived(array: np.ndarray | Rows | Derived, make: Callable) -> Derived:
    """What `make` makes of blocks of `array` (N, ..., D): (N, D)."""
    held = array.values if isinstance(array, Derived) else int(np.prod(array.shape[1:]))
    return Derived((len(array), array.shape[-1]), held, lambda rows: make(array[rows]))


def flat(array: np.ndarray) -> Derived:
    return derived(array, one_vector)


def directions(array: np.ndarray | Rows | Derived) -> Derived:
    return derived(array, unit)


def added(first: Derived, then: Rows) -> Derived:
    """Directions (N, D) and vectors of as many dimensions, whose directions are added."""
    return Derived(first.shape, first.values, lambda rows: first[rows] + unit(then[rows]))


def side_by_side(parts: Sequence[tuple[float, Derived]]) -> Derived:
    """Each times its weight."""
    width = sum(array.shape[1] for _, array in parts)
    held = width + sum(array.values for _, array in parts)
    return Derived(
        (len(parts[0][1]), width), held, lambda rows: np.concatenate([w * part[rows] for w, part in parts], axis=1)
    )


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


def sides_of(store: FeatureStore, weights: WeightSettings) -> dict[str, float]:
    """Which features --source features compares, and their weights: others only where there are none of these."""
    sides = {name: w for name, w in (("textual", 1), ("visual", weights.visual_weight)) if name in store.features}
    return sides or dict.fromkeys(store.arrays, 1)


def features_provenance(store: FeatureStore, weights: WeightSettings) -> dict[str, Any]:
    """What dataset.json says of vectors of --source features."""
    made_of = {name: store.description.features[name].sha256 for name in in_order(sides_of(store, weights))}
    return {"source": FEATURES, **asdict(weights), "made_of": made_of} | fitted(store)


def from_features(
    store: FeatureStore, weights: WeightSettings, storage: StorageSettings, overwrite: bool, lexical: Lexical | None
) -> None:
    """--source features: (N, D), what there is side by side; with both weights 0 the textual features alone decide.

    lexical: of the words, None where they do not count.
    """
    unfinished, sides = unfinished_of_encoders(store, overwrite), sides_of(store, weights)
    words = np.zeros((len(store), 0), np.float32) if lexical is None else lexical.transform(store.items.text)  # (N, R)
    if lexical is not None and not words.shape[1]:
        print(f"{store.folder}: no word stands in two titles of split train: the features alone are compared")
    if not sides and not words.shape[1]:
        raise InputError(f"{store.folder}: no features to compare yet", Lacks("features", store.folder, "textual"))
    store.check_features(*sides)
    parts = [(weight, directions(flat(store.features[name]))) for name, weight in sides.items()]
    # The words keep their length: a title of which the analysis keeps little says little.
    joined = side_by_side([*parts, (weights.lexical_weight, derived(words, np.asarray))])
    say_nothing_to_compare(store, joined, storage)
    write_features(store, [RETRIEVAL], joined, storage, features_provenance(store, weights))
    for folder in unfinished:
        shutil.rmtree(folder)


def unfinished_of_encoders(store: FeatureStore, overwrite: bool, own: Collection[str] = ()) -> list[Path]:
    """Work that an encoder may have spent hours on, which only --overwrite drops; InputError without it.

    own: names of those that this command goes on with.
    """
    unfinished = [path for path in sorted(store.folder.glob(f"{RETRIEVAL}*.progress")) if path.name not in own]
    if unfinished and not overwrite:
        raise other_work(unfinished[0], "by an encoder")
    return unfinished


def say_nothing_to_compare(store: FeatureStore, vectors: np.ndarray | Rows | Derived, storage: StorageSettings) -> None:
    """Which items have vectors of zeros; InputError where all have, unless they join others that have been made."""
    zero = np.concatenate([~np.asarray(vectors[rows]).any(axis=1) for rows in blocks(vectors)])  # (N,)
    if zero.all() and storage.like is None:
        raise InputError(f"{store.folder}: all that counts of every item's features and title is zero")
    if zero.any():
        ids = listed(store.items.item_id[zero])
        print(f"{int(zero.sum())} of {len(store)} items have nothing to compare, and get no neighbours ({ids})")


def unit(vectors: np.ndarray) -> np.ndarray:
    """(..., D) -> the same directions with length 1; zeros stay zeros."""
    length = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return vectors / np.where(length > 0, length, 1)
