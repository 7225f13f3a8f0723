"""What of a video a prediction comes from: what is predicted without a part of what is known of it.

Nothing is claimed beyond that: parts that say the same cover for one another, so effects need not sum to anything.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np

from common.arrays import Joined
from dataloader.components import MOST_FITTED
from dataloader.growing import joined_metadata
from dataloader.modalities import METADATA, RETRIEVAL
from dataloader.neighbours import Neighbours
from dataloader.store import FeatureStore

NEIGHBOURS, CREATOR = "neighbours", "creator"


def without(view: FeatureStore, base: FeatureStore, used: set[str]) -> Iterator[tuple[str, FeatureStore]]:
    """Name of a part -> the view without it, of all parts that the new items at the end of `view` have.

    base: the data set without them. used: features that the run takes. A modality's vectors become the mean of train's,
    a title and columns unknown, a creator nobody; who is retrieved stays, but for the neighbours themselves.
    """
    n = len(base)
    for name in sorted(used - {RETRIEVAL, METADATA}):
        mean = base.remembered(("mean", name), lambda name=name: mean_of(base, name))
        changed = copied(view)
        absent = np.broadcast_to(mean.astype(view.features[name].dtype), (len(view) - n, *mean.shape))
        changed.features[name] = Joined(base.features[name], absent)
        if name == "textual":
            text = view.items.text.copy()
            text[n:] = ""
            changed.items = replace(view.items, text=text)
        yield name, changed
    if METADATA in used and view.metadata is not None:
        changed = copied(view)
        changed.metadata = joined_metadata(base.metadata, None, len(view) - n)
        yield METADATA, changed
    if (view.items.user[n:] != "").any():
        user = view.items.user.copy()
        user[n:] = ""
        changed = copied(view)
        changed.items = replace(view.items, user=user)
        yield CREATOR, changed
    if view.search is not None:
        changed = copied(view)
        changed.search = nobody(view.search)
        yield NEIGHBOURS, changed


def copied(view: FeatureStore) -> FeatureStore:
    """The same view, to be changed."""
    other = FeatureStore(view.folder, view.items, view.description)
    other.features, other.metadata, other.learned = dict(view.features), view.metadata, view.learned
    other.search, other.memory = view.search, view.memory
    return other


def mean_of(store: FeatureStore, name: str) -> np.ndarray:
    """(F, D) or (D,): over items of train."""
    rows = store.learned_rows
    rows = rows[:: max(1, len(rows) // MOST_FITTED)]
    return np.asarray(store.features[name][rows], np.float32).mean(axis=0)


def nobody(search: Callable[[str], Neighbours]) -> Callable[[str], Neighbours]:
    def searched(source: str) -> Neighbours:
        found = search(source)
        ids, similarity = found.ids, found.similarity
        ids = replace(ids, values=np.full_like(ids.values, -1))
        return replace(found, ids=ids, similarity=replace(similarity, values=np.zeros_like(similarity.values)))

    return searched
