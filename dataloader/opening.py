"""A data set opened for one method: the features that it takes, its neighbours as it wants them, checked, as splits."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from common.console import InputError
from dataloader.batches import Split, choose_frames, open_split
from dataloader.modalities import Wants
from dataloader.neighbours import Neighbours
from dataloader.place import Lacks
from dataloader.store import FeatureStore


@dataclass(frozen=True)
class Data:
    """A store as a method sees it: taken, used: modalities; shapes: of an item's features, with the frames used."""

    store: FeatureStore
    taken: tuple[str, ...]
    used: tuple[str, ...]
    shapes: dict[str, tuple[int, ...]]
    neighbours: Neighbours | None
    splits: dict[str, Split]


def open_data(folder: Path, wants: Wants, splits: Sequence[str], need: Sequence[str] = ()) -> Data:
    """Open the data set in `folder` and its `splits`, and check the content of the features that are used.

    need: features that must be there. InputError where the data set is not what the method can do with.
    """
    store = FeatureStore.open(folder, need)
    taken = choose(store, wants)
    used = wants.used(taken)
    neighbours = Neighbours.read(store) if wants.neighbours else None
    how = {"modalities": used, "frame_num": wants.frame_num, "neighbours": neighbours}
    how |= {"num_of_retrieved_items": wants.k, "similarity_temperature": wants.temperature}
    how |= {"neighbours_as": wants.neighbours}
    opened = {name: open_split(store, name, **how) for name in splits}
    shapes = shapes_of(store, wants.frame_num)
    for warning in store.check_features(*used):
        print(f"warning: {warning}", file=sys.stderr)
    return Data(store, taken, used, shapes, neighbours, opened)


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
    shapes = {name: store.features[name].shape[1:] for name in store.modalities}
    if "visual" in shapes:
        stored, dimension = shapes["visual"]
        shapes["visual"] = (len(choose_frames(stored, frame_num)), dimension)
    return shapes
