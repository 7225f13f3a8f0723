"""A data set opened for one method: the features that it takes, its neighbours as it wants them, checked, as splits."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from common.console import InputError
from dataloader.batches import Split, choose_frames, open_split
from dataloader.encoding import Encoding, tree_columns
from dataloader.modalities import METADATA, RETRIEVAL, Wants, in_order, side_of_metadata
from dataloader.neighbours import Neighbours, path_of, sources_of
from dataloader.place import Lacks
from dataloader.statistics import CREATOR, label_statistics
from dataloader.store import FeatureStore


@dataclass(frozen=True)
class Trained:
    """What a run knows of its metadata: the kinds of their columns, and how they became an array."""

    kinds: dict[str, str]
    encoding: Encoding | None


@dataclass(frozen=True)
class Data:
    """A store as a method sees it.

    taken: what it takes of the data set's modalities; used: what the method is given; shapes: of an item's features,
    with the frames used. kinds: of the columns of metadata that are used, by name; encoding: how they became an array.
    sources: neighbours of which statistics were made, by name; creators: creators' videos were counted too.
    """

    store: FeatureStore
    taken: tuple[str, ...]
    used: tuple[str, ...]
    shapes: dict[str, tuple[int, ...]]
    neighbours: Neighbours | None
    splits: dict[str, Split]
    kinds: dict[str, str] | None = None
    encoding: Encoding | None = None
    sources: dict[str, Neighbours] = field(default_factory=dict)
    creators: bool = False


def open_data(
    folder: Path, wants: Wants, splits: Sequence[str], need: Sequence[str] = (), trained: Trained | None = None
) -> Data:
    """Open the data set in `folder` and its `splits`, and check the content of the features that are used.

    need: features that must be there. trained: what a run knows of metadata; without it, it is learned from split
    train. InputError where the data set is not what the method can do with.
    """
    store = FeatureStore.open(folder, need)
    taken = choose(store, wants)
    used, shapes = wants.used(taken), shapes_of(store, wants.frame_num)
    features = {name: store.features[name] for name in used if name != METADATA}
    kinds = encoding = columns = None
    if METADATA in used:
        columns = store.metadata.only(trained.kinds, store.folder) if trained else store.metadata
        kinds = columns.kinds
        if wants.typed_columns:
            shapes[METADATA] = (sum(map(len, tree_columns(kinds))),)
        else:
            encoding = trained.encoding if trained else Encoding.fit(columns.take(store.rows("train")))
            array, columns = encoding.transform(columns, store.folder), None  # (N, Dm)
            used = add_encoded(features, used, array, wants)
            shapes |= {name: features[name].shape[1:] for name in used if name != "visual"}
    sources, creators = sources_wanted(store, wants) if wants.neighbours == "statistics" else ({}, False)
    neighbours = Neighbours.read(store) if wants.neighbours not in (None, "statistics") else sources.get(RETRIEVAL)
    how = {"features": features, "metadata": columns, "frame_num": wants.frame_num, "neighbours": neighbours}
    how |= {"num_of_retrieved_items": wants.k, "similarity_temperature": wants.temperature}
    how |= {"neighbours_as": wants.neighbours}
    opened = {name: open_split(store, name, **how) for name in splits}
    if wants.neighbours == "statistics":
        made = {"creators": creators, "k": wants.k, "temperature": wants.temperature, "seed": wants.seed}
        for name, split in opened.items():
            opened[name] = replace(split, statistics=label_statistics(store, sources, split.rows, **made))
    for warning in store.check_features(*used):
        print(f"warning: {warning}", file=sys.stderr)
    return Data(store, taken, used, shapes, neighbours, opened, kinds, encoding, sources, creators)


def sources_wanted(store: FeatureStore, wants: Wants) -> tuple[dict[str, Neighbours], bool]:
    """The neighbours by source that statistics are made of, and whether creators are one; those named, or all there."""
    creators = "user" in store.items.origin
    if wants.sources is None:
        names = sources_of(store)
        if not names and not creators:
            Neighbours.read(store)  # says that there are none, and what makes them
    else:
        names = [name for name in wants.sources if name != CREATOR]
        if CREATOR in wants.sources and not creators:
            raise InputError(f"--sources {CREATOR}: {store.folder} knows no creators (--user_column)")
        creators &= CREATOR in wants.sources
    found = {name: Neighbours.read(store, name) for name in names}
    for name, neighbours in found.items():
        if wants.k > neighbours.k:
            raise InputError(
                f"--num_of_retrieved_items {wants.k}: {path_of(store.folder, name)} holds {neighbours.k} an item",
                Lacks("neighbours", store.folder, flags=f" --source {name} --num_of_retrieved_items {wants.k}"),
            )
    return found, creators


def add_encoded(
    features: dict[str, np.ndarray], used: tuple[str, ...], array: np.ndarray, wants: Wants
) -> tuple[str, ...]:
    """Put metadata (N, Dm) among the features of a method; what it uses then.

    A method that takes anything is given them as features of their own. One of the published networks, which know no
    metadata, is given them behind the textual vector, or in its place: this is ours, and only where it was asked for.
    """
    if wants.any_modality:
        features[METADATA] = array
        return used
    side = side_of_metadata(wants.modalities)
    features[side] = np.concatenate([features[side], array], axis=1) if side in features else array
    return tuple(in_order({*used, side} - {METADATA}))


def choose(store: FeatureStore, wants: Wants) -> tuple[str, ...]:
    """The modalities that are taken of what the store has; InputError where the method cannot do with them."""
    if not store.modalities:
        raise InputError(f"{store.folder}: no features yet", Lacks("features", store.folder, wants.modalities[-1]))
    try:
        return wants.of(store.modalities)
    except InputError as error:
        lacks = Lacks("features", store.folder, error.lacks) if error.lacks else None
        raise InputError(f"{store.folder}: {error}", lacks) from None


def shapes_of(store: FeatureStore, frame_num: int | None = None) -> dict[str, tuple[int, ...]]:
    """Modality -> the shape of an item's features, with as many frames as are used."""
    shapes = {name: store.features[name].shape[1:] for name in store.arrays}
    if "visual" in shapes:
        stored, dimension = shapes["visual"]
        shapes["visual"] = (len(choose_frames(stored, frame_num)), dimension)
    return shapes
