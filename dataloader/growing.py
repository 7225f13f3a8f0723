"""A data set that grows: what a run sees of one that has grown since, and of videos that are in none.

Each time items are added, `lineage` in dataset.json takes up what the data set was before: its fingerprint and how many
items it had. Which time an item, or its label, came is kept with the items. So an older run opens the data set as it
was, and retrieves from what it was trained with, or from all that is known now.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace

import numpy as np

from common.arrays import Joined, OfRows
from common.console import InputError
from dataloader.description import FILE, Description
from dataloader.items import ORIGIN, Items
from dataloader.metadata import AGE, LETTERS, Metadata
from dataloader.names import BANKS, GROWN, TRAINED
from dataloader.neighbours import Known, Neighbours, head_of
from dataloader.replacing import write_grown
from dataloader.store import FeatureStore

ADDED = "added"  # a column of the items: 0, or the number of the addition that an item or its label came with
GREW = "grew"  # in dataset.json: of each addition the fingerprint before it, and digests before and after it
ITEMS, CAME = "items", "came"


def additions(store: FeatureStore) -> list[dict]:
    """What dataset.json says of each; InputError where that is nonsense."""
    found = store.description.lineage.get(GREW, [])
    sound = isinstance(found, list) and all(
        isinstance(one, dict) and isinstance(one.get("fingerprint"), str) and isinstance(one.get("digests"), dict)
        for one in found
    )
    if not sound:
        raise InputError(f"{store.folder / FILE}: what it grew from is not said as it was written (edited?)")
    return found


def states(store: FeatureStore) -> list[str]:
    """The fingerprints that the data set had before each addition, and the one it has now."""
    return [one["fingerprint"] for one in additions(store)] + [store.fingerprint]


def digests(description: Description) -> dict[str, str]:
    """Of the items, and of each kind of features by its name."""
    return {ITEMS: description.items} | {name: feature.sha256 for name, feature in description.features.items()}


def changed_since(store: FeatureStore, then: int, names: Collection[str]) -> list[str]:
    """Those of the features `names` whose old rows were made anew since the state number `then`, or items left out."""
    chain = [one["digests"] for one in additions(store)[then:]]
    now, found = digests(store.description), []
    for name in (ITEMS, *names):
        links = [one.get(name) for one in chain]
        sound = all(isinstance(link, list) and len(link) == 2 for link in links)
        befores = [link[0] for link in links[1:]] + [now.get(name)] if sound else []
        if not sound or any(link[1] != before for link, before in zip(links, befores, strict=True)):
            found.append(name)
    return found


def added(items: Items) -> np.ndarray:
    """(N,) with which addition an item or its label came, 0 for those that were there from the start."""
    return items.extra.get(ADDED, np.zeros(len(items))).astype(int)


def as_of(store: FeatureStore, fingerprint: str, names: Collection[str], bank: str = TRAINED) -> FeatureStore:
    """The data set as it was when it had this fingerprint, one of `states`; with the bank "grown" train has grown.

    What is tested is what was not trained on: valid as it was then, and test with what has been added to it since.
    names: the features that are wanted; InputError where they are not those of then any more.
    """
    then = states(store).index(fingerprint)
    if changed := changed_since(store, then, names):
        raise InputError(
            f"{store.folder}: has not only grown since the run was trained, its {' and '.join(changed)} were made anew "
            "too; train anew"
        )
    later = added(store.items) > then  # (N,)
    split = store.items.split.copy()
    hidden = later & np.isin(split, ("train", "valid") if bank == TRAINED else ("valid",))
    split[hidden] = ""
    view = view_of(store, replace(store.items, split=split), store.features, store.metadata)
    view.learned = ~later
    return view


def grown_in_words(view: FeatureStore, bank: str) -> str:
    """What a run is told of a data set that has grown since it was trained."""
    later = ~view.learned
    train = int((later & (view.items.split == "train")).sum())
    told = f"retrieves from {train} of them too" if bank == GROWN else "retrieves from what it was trained with"
    return f"{view.folder} has grown by {int(later.sum())} items or counts since the run was trained, which {told}"


def with_new(store: FeatureStore, new: FeatureStore, names: list[str]) -> FeatureStore:
    """A data set with the items of `new` behind its own, as split predict, with the features `names` of both.

    Nothing is written, and no array of `store` is read. `new` has the same columns of metadata, if `store` has any.
    """
    items = joined_items(store.items, new.items)
    n = len(store)
    split = np.where(items.split == "predict", "", items.split)  # whoever else has no label is not asked about
    split[n:] = "predict"
    items = replace(items, split=split)
    features = {name: Joined(store.features[name], new.features[name]) for name in names}
    metadata = None if store.metadata is None else joined_metadata(store.metadata, new.metadata, len(new))
    view = view_of(store, items, features, metadata)
    view.learned = None if store.learned is None else np.append(store.learned, np.zeros(len(new), bool))
    if view.memory is None:
        view.memory = store.memory = {}
    return view


def view_of(
    store: FeatureStore, items: Items, features: dict[str, np.ndarray], metadata: Metadata | None
) -> FeatureStore:
    view = FeatureStore(store.folder, items, store.description)
    view.features, view.metadata = dict(features), metadata
    view.memory = store.memory
    return view


def searching(
    store: FeatureStore, splits: Sequence[str], k: int, lists: Mapping[str, tuple[int, str]]
) -> Callable[[str], Neighbours]:
    """Who finds, by each source, the neighbours of the items of `splits` of a view.

    lists: source -> how many, and of which bank; of a source that it does not name as the data set's own have, or k of
    train.
    """
    from dataloader.search.few import search_few  # it imports torch, which scripts of features do without

    found: dict[str, Neighbours] = {}

    def search(source: str) -> Neighbours:
        if source not in found:
            asking, known = np.flatnonzero(np.isin(store.items.split, splits)), Known.of(store)
            many, bank = lists.get(source) or head_of(store.folder, source) or (k, "train")
            rows = np.flatnonzero(np.isin(store.items.split, BANKS[bank]))
            times = {} if known is None else {"since": known.since, "asked": known.asked}
            ids, similarity = search_few(store.features[source], asking, rows, many, **times)
            values = (OfRows(asking, of, len(store)) for of in (ids, similarity))
            found[source] = Neighbours(*values, many, bank, "exact cosine", store.fingerprint, Known.rule_of(store))
        return found[source]

    return search


def joined_items(first: Items, then: Items) -> Items:
    """The items of both, one after the other."""
    columns = ("item_id", "text", "popularity", "label", "split", *ORIGIN)
    values = {name: np.concatenate([getattr(first, name), getattr(then, name)]) for name in columns}
    extra = {}
    for name in first.extra:
        nothing = np.full(len(then), 0.0 if name == ADDED else np.nan)
        extra[name] = np.append(first.extra[name], then.extra.get(name, nothing))
    return Items(**values, extra=extra)


def joined_metadata(first: Metadata, then: Metadata | None, n: int) -> Metadata:
    """The columns of `first`, of its items and of n others; unknown where these have no such column."""
    columns = {}
    for name, values in first.columns.items():
        theirs = then.columns.get(name) if then is not None else None
        theirs = unknown(first.kinds[name], n) if theirs is None else theirs
        columns[name] = np.concatenate([values, theirs])
    return Metadata(columns)


def unknown(kind: str, n: int) -> np.ndarray:
    """(n,) of a column of this kind of which nothing is known."""
    return {
        "f": np.full(n, np.nan),
        "O": np.full(n, None, object),
        "M": np.full(n, "NaT", "M8[us]"),
        "i": np.full(n, -1, np.int8),
    }[LETTERS[kind]]


def grow(store: FeatureStore, new: FeatureStore | None, filled: Items, split: str, came: str = "") -> FeatureStore:
    """The data set with the items of `new` behind its own, and with the counts of `filled`, which are items of it.

    filled: items of split predict, by their ids, that have a count by now; they go to `split`. came: digest of the new
    items as they were given, by which a killed addition is known. All others keep their row, split and bits. Files are
    replaced together, as by FeatureStore.keep: a kill leaves the old data set or the new one. Neighbours are gone, as
    their bank has grown.
    """
    number = len(additions(store)) + 1
    items = store.items
    columns = {name: getattr(items, name).copy() for name in ("popularity", "label", "split", "label_time")}
    when, metadata = added(items), store.metadata and store.metadata.take(np.arange(len(store)))
    row_of = {item_id: row for row, item_id in enumerate(items.item_id)}
    for place, item_id in enumerate(filled.item_id):
        row = row_of[item_id]
        columns["split"][row], when[row] = split, number
        columns["popularity"][row], columns["label"][row] = filled.popularity[place], filled.label[place]
        if not np.isnat(filled.label_time[place]):
            columns["label_time"][row] = filled.label_time[place]
            if metadata is not None and AGE in metadata.columns:
                age = (filled.label_time[place] - items.time[row]) / np.timedelta64(1, "D")
                metadata.columns[AGE][row] = metadata.columns[AGE][row] if np.isnan(age) else age
    items = replace(items, **columns)
    if new is not None:
        items = joined_items(items, new.items)
        when = np.append(when, np.full(len(new), number))
        metadata = metadata and joined_metadata(metadata, new.metadata, len(new))
    items = replace(items, extra=items.extra | {ADDED: when.astype(np.float64)})
    if problems := items.problems():
        raise InputError(f"{store.folder}: not written: {'; '.join(problems)}")
    store.check_features(*store.features)  # what is damaged must not be written anew as if it were right
    before, earlier = digests(store.description), additions(store)

    def lineage(grown: Description) -> dict:
        pairs = {name: [before[name], digest] for name, digest in digests(grown).items()}
        last = {"fingerprint": store.fingerprint, "items": len(store), "digests": pairs, CAME: came}
        return store.description.lineage | {GREW: [*earlier, last]}

    write_grown(store, new, items, metadata, lineage)
    return FeatureStore.open(store.folder)
