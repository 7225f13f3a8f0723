"""A data set's neighbours: searched, written, and taken again where they are those that would be searched."""

from __future__ import annotations

import time

import numpy as np
import torch

from common.arrays import scan
from common.console import InputError, listed
from common.files import require_writable
from dataloader.modalities import RETRIEVAL
from dataloader.names import BANKS
from dataloader.neighbours import Neighbours
from dataloader.search.exact import search
from dataloader.store import FeatureStore


def already_there(store: FeatureStore, k: int, bank: str) -> Neighbours | None:
    """The store's neighbours where they are those that would be searched."""
    try:
        found = Neighbours.read(store)
    except InputError:
        return None
    return found if (found.k, found.bank) == (k, bank) else None


def retrieve(store: FeatureStore, k: int, bank: str, device: torch.device, batch_size: int) -> Neighbours:
    """Search, and write neighbours.npz. An item whose vector is all zeros, as of a title without text, gets none."""
    store.check_features(RETRIEVAL)
    vectors = store.features[RETRIEVAL]
    nothing = scan(vectors)[2]  # (N,)
    rows = np.flatnonzero(np.isin(store.items.split, BANKS[bank]) & ~nothing)
    if k >= len(rows):
        raise InputError(
            f"--num_of_retrieved_items {k}: the bank ({bank}) has {len(rows)} items that can be compared, and an item "
            f"never retrieves itself, so at most {max(0, len(rows) - 1)} can be retrieved"
        )
    require_writable(store.folder)
    if nothing.any():
        which = listed(store.items.item_id[nothing])
        print(
            f"{int(nothing.sum())} items have vectors of zeros, which are similar to nothing: no neighbours ({which})"
        )
    start = time.perf_counter()
    how = {"device": device, "batch_size": batch_size, "progress": True}
    ids = np.full((len(store), k), -1, np.int32)  # -1: none
    similarity = np.zeros((len(store), k), np.float32)
    if nothing.any():
        known = np.flatnonzero(~nothing)
        found, similarity[known] = search(vectors[known], np.searchsorted(known, rows), k, **how)
        ids[known] = known[found]
    else:
        ids, similarity = search(vectors, rows, k, **how)
    seconds = time.perf_counter() - start
    backend = f"exact cosine, torch {torch.__version__} on {device.type}"
    neighbours = Neighbours(ids, similarity, k, bank, backend, store.fingerprint)
    path = neighbours.write(store)
    print(f"{path}: {k} neighbours for {len(store)} items from a bank of {len(rows)} ({bank}), {seconds:.1f} s")
    nearest, last = similarity[~nothing][:, [0, -1]].mean(axis=0)
    print(f"mean similarity: nearest {nearest:.3f}, {k}th {last:.3f}")
    return neighbours


def changed_since(store: FeatureStore) -> list[str]:
    """The features that the retrieval vectors were made of, by --source features, and that are others now."""
    features = store.description.features
    made_of = features[RETRIEVAL].made.get("made_of", {})
    return [name for name, sha256 in made_of.items() if name not in features or features[name].sha256 != sha256]
