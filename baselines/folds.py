"""--folds: a data set in several splits, each a data set of its own, with all that is fitted on train fitted anew."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
from tqdm import tqdm

from baselines.children import Children
from common.console import InputError
from common.files import read_json
from dataloader.neighbours import Neighbours
from dataloader.place import encoding_command
from dataloader.scaling import add_normalised
from dataloader.splits import fold_splits
from dataloader.store import FeatureStore

OF = "fold_of"  # in dataset.json: what a fold was made of
WEIGHTS = ("visual_weight", "lexical_weight")  # that retrieval_engineering.py --source features records
FROM_FILE = ("shape", "dtype", "sha256", "statistics", "unscaled", "normalise")  # of an array, known when it is written


def check_folds(store: FeatureStore, folds: int, by: str) -> None:
    """InputError where the folds cannot be made, before anything is written."""
    fold_splits(store.items, folds, by)
    for name, described in store.info["arrays"].items():
        if scaled_by_train(described):
            store.unscaled(name)
        if described.get("source") == "features" and not all(weight in described for weight in WEIGHTS):
            raise InputError(
                f"{store.folder}: an earlier version made its retrieval vectors and did not say of what; make them "
                f"anew with: {encoding_command(name, store.folder)} --source features --overwrite"
            )


def scaled_by_train(described: dict) -> bool:
    return "standard" in described.get("normalise", "")


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
        made = read_json(folder / "dataset.json").get(OF) == origin
        if made and with_neighbours:
            Neighbours.read(FeatureStore.open(folder))
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
    label = store.info["label"] | {"split_by": f"{origin['by']}, fold {origin['fold']} of {origin['folds']}"}
    items = replace(store.items, split=split)
    fold = FeatureStore.create(folder, items, family=store.family, label=label, overwrite=True)
    output, where = folder / "output.txt", ["--dataset_path", str(folder.parent), "--dataset_id", folder.name]
    of_features = None
    for name, described in store.info["arrays"].items():
        if described.get("source") == "features":
            of_features = described  # made below, of the fold's own features and words
        elif scaled_by_train(described):
            source = {key: value for key, value in described.items() if key not in FROM_FILE}
            mode, dtype = described["normalise"], described["dtype"]
            add_normalised(fold, name, store.unscaled(name), mode, dtype=dtype, keep_unscaled=False, **source)
        else:
            fold.adopt(name, store)
    if of_features:
        words = ["--source", "features", "--normalise", of_features["normalise"], "--dtype", of_features["dtype"]]
        words += [word for weight in WEIGHTS for word in (f"--{weight}", str(of_features[weight]))]
        children.run(["feature_engineering/retrieval_engineering.py", *where, *words], output)
    if neighbours is not None:
        words = ["--num_of_retrieved_items", str(neighbours.k), "--bank", neighbours.bank, "--device", device]
        children.run(["retriever.py", *where, *words], output)
    FeatureStore.open(folder).note(**{OF: origin})
