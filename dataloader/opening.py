"""A data set opened for one method: the features that it takes, its neighbours as it wants them, checked, as splits."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from common.console import InputError
from dataloader.batches import Split, choose_frames, open_split
from dataloader.calibration import CALIBRATION, divided
from dataloader.candidates import candidates
from dataloader.encoding import Encoding, tree_columns
from dataloader.expectation import beyond_expectation
from dataloader.metadata import Metadata
from dataloader.modalities import METADATA, RETRIEVAL, Wants, in_order, side_of_metadata
from dataloader.neighbours import Neighbours, path_of, sources_of
from dataloader.place import Lacks
from dataloader.statistics import CREATOR, Statistics, label_statistics, newcomers, with_statistics, with_time
from dataloader.store import FeatureStore
from dataloader.wording import label_by_wording


@dataclass(frozen=True)
class Trained:
    """What a run knows of its metadata: the kinds of the data set's columns, and how all columns became an array."""

    kinds: dict[str, str] | None
    encoding: Encoding | None


@dataclass(frozen=True)
class Data:
    """A store as a method sees it.

    taken: what it takes of the data set's modalities; used: what the method is given; shapes: of an item's features,
    with the frames used. kinds: of the columns of metadata that are used, by name; encoding: how they became an array.
    sources: neighbours that are each candidates, or of which statistics were made; creators: their videos are too.
    k: how many of the neighbours are used; temperature: what their similarities are divided by.
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
    k: int = 0
    temperature: float = 1.0

    @property
    def nearest(self) -> Neighbours | None:
        """Neighbours of one source: of retrieval where these are used."""
        return self.neighbours or next(iter(self.sources.values()), None)

    def sketches(self) -> dict[str, list[float]]:
        """Of the similarities of each source, for a run to know them again."""
        return {name: found.sketch() for name, found in self._compared.items()}

    def other_than(self, sketches: dict[str, list[float]]) -> list[str]:
        """The sources whose similarities are not those of the sketches; those of earlier versions' runs have none."""
        there = {name: found for name, found in self._compared.items() if name in sketches}
        return [name for name, found in there.items() if not found.has_similarities(sketches[name])]

    @property
    def _compared(self) -> dict[str, Neighbours]:
        return ({RETRIEVAL: self.neighbours} if self.neighbours else {}) | self.sources


def open_data(
    store: FeatureStore, wants: Wants, splits: Sequence[str], need: Sequence[str] = (), trained: Trained | None = None
) -> Data:
    """Open the `splits` of a data set, and check the content of the features that are used.

    need: features that must be there. trained: what a run knows of metadata; without it, it is learned from split
    train. InputError where the data set is not what the method can do with.

    Where the method's intervals are calibrated, split valid comes in two, `valid` and `calibration`.
    """
    splits = ["valid" if split == CALIBRATION else split for split in splits]
    store.require(need)
    taken = choose(store, wants)
    used, shapes = wants.used(taken), shapes_of(store, wants.frame_num)
    features = {name: store.features[name] for name in used if name != METADATA}
    sources, creators = sources_wanted(store, wants) if wants.neighbours in ("each", "statistics") else ({}, False)
    neighbours = Neighbours.read(store) if wants.neighbours == "aggregated" else sources.get(RETRIEVAL)
    kinds = encoding = columns = of_candidates = None
    theirs = features
    if METADATA in used:
        columns = store.metadata.only(trained.kinds, store.folder) if trained else store.metadata
        kinds = columns.kinds
    asking = ["train", *splits] if wants.as_columns and not trained else splits  # an encoding is fitted on train
    dated = with_time(columns, store.items.time)
    said, new = learned_of_labels(store, wants, asking, features, dated, sources, creators)
    if said is not None and wants.as_columns:
        if wants.neighbours == "each":
            # Statistics of a candidate count the labels of all folds but its own, so that of the item itself too.
            of_candidates = with_statistics(dated, said.unknown())
        columns = with_statistics(dated, said)
    if columns is not None and wants.typed_columns:
        shapes[METADATA] = (sum(map(len, tree_columns(kinds))),)
    elif columns is not None:
        encoding = trained.encoding if trained else Encoding.fit(columns.take(store.rows("train")))
        array, columns = encoding.transform(columns, store.folder), None  # (N, Dm)
        used = add_encoded(features, used, array, wants)
        if of_candidates is not None:
            theirs = features | {METADATA: encoding.transform(of_candidates, store.folder)}
        shapes |= {name: features[name].shape[1:] for name in used if name != "visual"}
    how = {"features": features, "metadata": columns, "frame_num": wants.frame_num}
    if wants.neighbours == "aggregated":
        how |= {"neighbours": neighbours, "num_of_retrieved_items": wants.k}
        how["similarity_temperature"] = wants.temperature
    opened = {name: open_split(store, name, **how) for name in splits}
    for name, split in opened.items():
        if wants.neighbours == "each":
            made = {"creators": creators, "k": wants.k, "seed": wants.seed, "new": new}
            each = candidates(store, sources, split.rows, theirs, **made)
            opened[name] = replace(split, neighbours=each)
        elif said is not None and not wants.as_columns:
            opened[name] = replace(split, statistics=said.take(split.rows))
    opened = divided(store, opened) if wants.calibrates else opened
    for warning in store.check_features(*used):
        print(f"warning: {warning}", file=sys.stderr)
    return Data(
        store, taken, used, shapes, neighbours, opened, kinds, encoding, sources, creators, wants.k, wants.temperature
    )


def learned_of_labels(
    store: FeatureStore,
    wants: Wants,
    splits: Sequence[str],
    features: dict[str, np.ndarray],
    metadata: Metadata | None,
    sources: dict[str, Neighbours],
    creators: bool,
) -> tuple[Statistics | None, np.ndarray]:
    """What is said of the items of `splits` by the labels of others, of those it is known for, and by their wording.

    And (N,) which of train are taken for videos of new creators. None where the method wants nothing of it.
    """
    rows = np.unique(np.concatenate([np.empty(0, int), *(store.items.rows(split) for split in splits)]))
    new, parts = np.zeros(len(store), bool), []
    if not len(rows):
        return None, new
    counts = wants.neighbours == "statistics" or (wants.neighbours == "each" and wants.as_columns)
    if (counts or wants.wording) and "train" in splits and "user" in store.items.origin:
        new = newcomers(store, wants.drop_history, wants.seed)
    if counts:
        beyond = None  # a method that takes each neighbour subtracts what it expects of them itself
        if wants.neighbours == "statistics":
            beyond = store.remembered(
                ("beyond", wants.seed, *features, metadata and tuple(metadata.columns)),
                lambda: beyond_expectation(store, features, metadata, wants.seed, "train" in splits),
            )
            if beyond is not None:  # of those who came later nothing was expected
                later = ((0, 0), (0, len(store) - beyond.shape[1]), (0, 0))
                beyond = np.pad(beyond, later, constant_values=np.nan)
        how = {"creators": creators, "k": wants.k, "temperature": wants.temperature, "seed": wants.seed}
        parts.append(label_statistics(store, sources, rows, **how, beyond=beyond, new=new))
    if wants.wording:
        apart = bool(new.any()) and new[store.items.split == "train"].mean() > 0.5
        parts += label_by_wording(store, rows, wants.seed, apart)
    return Statistics.joined(parts).of(rows, len(store)) if parts else None, new


def sources_wanted(store: FeatureStore, wants: Wants) -> tuple[dict[str, Neighbours], bool]:
    """The neighbours by source, and whether creators are one; those named, or all there."""
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
        if wants.k > neighbours.k and not wants.as_columns:  # where sources are merged, k is the most
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
        return tuple(in_order({*used, METADATA}))
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
