"""--folds: a data set in several splits, each a data set of its own, with all that is fitted on train fitted anew."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
from tqdm import tqdm

from baselines.comparison.children import Children
from common.console import InputError
from dataloader.description import Feature
from dataloader.growing import ADDED
from dataloader.importing.scaling import add_normalised
from dataloader.importing.splits import fold_splits
from dataloader.modalities import RETRIEVAL
from dataloader.neighbours import Neighbours, sources_of
from dataloader.place import Lacks
from dataloader.store import FeatureStore

OF = "fold_of"  # in dataset.json: what a fold was made of
MADE_OF_TRAIN = ("features", "words")  # sources of retrieval_engineering.py that learn from split train
WEIGHTS = ("visual_weight", "lexical_weight")  # that retrieval_engineering.py --source features records
BY_SCALING = ("statistics", "unscaled", "normalise")  # what is said of features when they are scaled anew


def check_folds(store: FeatureStore, folds: int, by: str) -> None:
    """InputError where the folds cannot be made, before anything is written."""
    fold_splits(store.items, folds, by)
    for name, feature in store.description.features.items():
        if scaled_by_train(feature):
            store.unscaled(name)
        if feature.made.get("source") == "features" and not all(weight in feature.made for weight in WEIGHTS):
            raise InputError(
                f"{store.folder}: an earlier version made its retrieval vectors and did not say of what",
                Lacks("features", store.folder, name, " --source features --overwrite"),
            )


def scaled_by_train(feature: Feature) -> bool:
    return "standard" in feature.made.get("normalise", "")


def make_folds(
    store: FeatureStore,
    neighbours: Neighbours | None,
    place: Path,
    folds: int,
    by: str,
    device: str,
    children: Children,
) -> list[tuple[FeatureStore, Neighbours | None]]:
    """`<place>/fold1` ...: the store in each split of `fold_splits`; those that are there already are taken.

    device: of the search for neighbours. Ctrl-C ends the children.
    """
    splits = fold_splits(store.items, folds, by)
    origin = {"fingerprint": store.fingerprint, "by": by, "folds": folds}
    if neighbours is not None:
        origin |= {"neighbours": neighbours.digest(), "k": neighbours.k, "bank": neighbours.bank}
        origin |= {"sources": there} if (there := sources_of(store)) != [RETRIEVAL] else {}
    found = []
    for number, split in enumerate(tqdm(splits, "folds", unit="fold", disable=None, leave=False), start=1):
        folder = place / f"fold{number}"
        # Who is tested where belongs to it: another version may split otherwise.
        of = origin | {"fold": number, "split": hashlib.sha256("\n".join(split).encode()).hexdigest()[:16]}
        if not _is_made(folder, of, neighbours is not None):
            try:
                _make(store, neighbours, folder, split, of, device, children)
            except BaseException:
                children.stop()
                raise
        fold = FeatureStore.open(folder)
        found.append((fold, Neighbours.read(fold) if neighbours is not None else None))
    return found


def folds_in_words(folds: int, by: str) -> str:
    how = {
        "creator": "a creator's videos on one side",
        "time": "tested on what came after all that was trained on; the oldest block is never tested",
        "random": "at random",
    }[by]
    return f"{folds} folds, {how}"


def _is_made(folder: Path, origin: dict, with_neighbours: bool) -> bool:
    """Neighbours are written last, and a fold is made anew unless all of it is there."""
    try:
        fold = FeatureStore.open(folder)
        made = fold.description.lineage.get(OF) == origin
        if made and with_neighbours:
            Neighbours.read(fold)
    except (InputError, FileNotFoundError):
        return False
    return made


def _make(
    store: FeatureStore,
    neighbours: Neighbours | None,
    folder: Path,
    split: np.ndarray,
    origin: dict,
    device: str,
    children: Children,
) -> None:
    label = replace(store.label, split_by=f"{origin['by']}, fold {origin['fold']} of {origin['folds']}")
    # A fold has not grown: all that is in it is there from the start.
    extra = {name: values for name, values in store.items.extra.items() if name != ADDED}
    items = replace(store.items, split=split, extra=extra)
    fold = FeatureStore.create(folder, items, family=store.family, label=label, overwrite=True)
    output, where = folder / "output.txt", ["--dataset_path", str(folder.parent), "--dataset_id", folder.name]
    of_train = {}
    for name, feature in store.description.features.items():
        if feature.made.get("source") in MADE_OF_TRAIN:
            of_train[name] = feature  # made below, of the fold's own features and words
        elif scaled_by_train(feature):
            source = {key: value for key, value in feature.made.items() if key not in BY_SCALING}
            mode, dtype = feature.made["normalise"], feature.dtype
            add_normalised(fold, name, store.unscaled(name), mode, dtype=dtype, keep_unscaled=False, **source)
        else:
            fold.adopt(name, store)  # metadata too: what is learned from train is learned by each run
    for feature in of_train.values():
        made = feature.made
        words = ["--source", made["source"], "--normalise", made["normalise"], "--dtype", feature.dtype]
        words += [word for weight in WEIGHTS if weight in made for word in (f"--{weight}", str(made[weight]))]
        children.run(["feature_engineering/retrieval_engineering.py", *where, *words], output)
    if neighbours is not None:
        words = ["--num_of_retrieved_items", str(neighbours.k), "--bank", neighbours.bank, "--device", device]
        there = dict.fromkeys([RETRIEVAL, *sources_of(store)])
        children.run(["retriever.py", *where, *words, "--source", *there], output)
    FeatureStore.open(folder).note(**{OF: origin})
