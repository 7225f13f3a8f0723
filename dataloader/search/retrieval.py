"""A data set's neighbours: searched, written, and taken again where they are those that would be searched."""

from __future__ import annotations

import time
from dataclasses import asdict

import numpy as np
import torch

from common.arrays import blocks, scan
from common.console import InputError, listed
from common.files import require_writable
from dataloader.modalities import RETRIEVAL
from dataloader.names import AUTO, BANKS, SPLITS
from dataloader.neighbours import Known, Neighbours
from dataloader.search.exact import search
from dataloader.store import FeatureStore

MOST_EXACT = 200_000  # items of the bank that exact search is taken for unasked: beyond, it takes an hour and more


def already_there(store: FeatureStore, k: int, bank: str, source: str = RETRIEVAL) -> Neighbours | None:
    """The store's neighbours where they are those that would be searched."""
    try:
        found = Neighbours.read(store, source)
    except InputError:
        return None
    return found if (found.k, found.bank) == (k, bank) else None


def retrieve(
    store: FeatureStore,
    k: int,
    bank: str,
    device: torch.device,
    batch_size: int,
    source: str = RETRIEVAL,
    backend: str = AUTO,
) -> Neighbours:
    """Search, and write neighbours.npz, or of another `source` neighbours/<source>.npz.

    An item whose vector is all zeros, as of a title without text, gets none. Of frames the mean is compared.
    """
    store.check_features(source)
    vectors = store.features[source]
    if vectors.ndim == 3:
        vectors = np.concatenate([vectors[rows].mean(axis=1, dtype=np.float32) for rows in blocks(vectors)])  # (N, D)
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
    start, known_then, recall = time.perf_counter(), Known.of(store), None
    if backend == AUTO:
        backend = "exact" if len(rows) <= MOST_EXACT else "ivfpq"  # the fastest of them: docs/scale.md
    if backend == "exact":
        ids, similarity = exactly(vectors, rows, np.flatnonzero(~nothing), k, known_then, device, batch_size)
        said = f"exact cosine, torch {torch.__version__} on {device.type}"
    else:
        # What needs FAISS is imported where it is asked for.
        from dataloader.search.approximate import search_approximately
        from dataloader.search.index import open_index

        index = open_index(store.folder, source, backend, vectors, rows, known_then and known_then.since)
        times = {} if known_then is None else asdict(known_then)
        found = search_approximately(vectors, np.flatnonzero(~nothing), index, k, **times)
        ids, similarity, recall = found.ids, found.similarity, found.recall
        said = f"{index.described}, {index.effort_name} {found.effort}"
        if found.compared_all:
            print(f"of {found.compared_all} items all whom they may retrieve were compared")
    seconds = time.perf_counter() - start
    neighbours = Neighbours(ids, similarity, k, bank, said, store.fingerprint, Known.rule_of(store), recall)
    path = neighbours.write(store, source)
    of = f"a bank of {len(rows)} ({neighbours.bank_in_words})"
    print(f"{path}: {k} neighbours for {len(store)} items from {of}, {seconds:.1f} s")
    nearest, last = similarity[:, 0][ids[:, 0] >= 0], similarity[:, -1][ids[:, -1] >= 0]
    if len(last):
        print(f"mean similarity: nearest {nearest.mean():.3f}, {k}th {last.mean():.3f}")
    if known_then is not None:
        for split in SPLITS:
            of = ids[store.items.rows(split)]
            if len(of):
                none, fewer = int((of[:, 0] < 0).sum()), int((of[:, -1] < 0).sum())
                print(f"{split}: {none} of {len(of)} items could know of no neighbour, {fewer} of fewer than {k}")
    return neighbours


def exactly(
    vectors: np.ndarray,
    bank: np.ndarray,
    asking: np.ndarray,
    k: int,
    known_then: Known | None,
    device: torch.device,
    batch_size: int,
) -> tuple[np.ndarray, np.ndarray]:
    """ids (N, k), similarity (N, k); -1 and 0 for those that are not `asking`, whose vectors are zeros."""
    how = {"device": device, "batch_size": batch_size, "progress": True}
    if len(asking) == len(vectors):
        return search(vectors, bank, k, **how, **({} if known_then is None else asdict(known_then)))
    ids, similarity = np.full((len(vectors), k), -1, np.int32), np.zeros((len(vectors), k), np.float32)
    times = {} if known_then is None else {"since": known_then.since[asking], "asked": known_then.asked[asking]}
    found, similarity[asking] = search(vectors[asking], np.searchsorted(asking, bank), k, **how, **times)
    ids[asking] = np.where(found < 0, -1, asking[found])
    return ids, similarity


def changed_since(store: FeatureStore) -> list[str]:
    """The features that the retrieval vectors were made of, by --source features, and that are others now."""
    features = store.description.features
    made_of = features[RETRIEVAL].made.get("made_of", {})
    return [name for name, sha256 in made_of.items() if name not in features or features[name].sha256 != sha256]
