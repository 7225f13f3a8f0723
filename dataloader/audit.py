"""What in a data set makes results look better than they are: the same videos, creators or future on both sides."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from sklearn.tree import DecisionTreeRegressor

from common.arrays import blocks, scan
from common.console import InputError
from dataloader.components import one_vector
from dataloader.importing.metadata import is_consequence
from dataloader.metadata import known
from dataloader.modalities import RETRIEVAL
from dataloader.neighbours import Neighbours
from dataloader.search.exact import search
from dataloader.store import FeatureStore

EXAMPLES = 3
HELD_OUT = ("valid", "test")
ALIKE = 0.999  # a cosine from which two videos' vectors are near-equal
EXPLAINS = 0.5  # a share of the label's variance that a single honest column hardly reaches
LEAVES, LEAST = 64, 20  # of the tree that says what one column explains
SHORTEST = 20  # characters of an example's text that are shown


@dataclass(frozen=True)
class Finding:
    what: str  # a clause that begins with a count
    examples: list[str]

    def lines(self) -> list[str]:
        return [self.what, *(f"  {example}" for example in self.examples[:EXAMPLES])]


def audit(store: FeatureStore) -> str:
    """All that is found, with counts and examples; reads every feature."""
    found = [*quick_findings(store), *alike_vectors(store)]
    lines = [line for finding in found for line in finding.lines()]
    return "\n".join([f"audit of {store.folder}", *(lines or ["nothing found"])])


def audit_line(store: FeatureStore) -> str:
    """One line of it, of what is found without reading features."""
    found = [finding.what for finding in quick_findings(store)]
    if not found:
        return "audit: nothing found"
    more = f"python -m dataloader.store {store.folder} --audit names some, and compares vectors"
    return f"audit: {'; '.join(found)} ({more})"


def quick_findings(store: FeatureStore) -> list[Finding]:
    kinds = (equal_texts, shared_creators, older_than_neighbours, consequences, empty_columns)
    return [finding for kind in kinds for finding in kind(store)]


def equal_texts(store: FeatureStore) -> list[Finding]:
    items = store.items
    first = {items.text[row]: row for row in reversed(items.rows("train")) if items.text[row]}
    hits = [(row, first[items.text[row]]) for s in HELD_OUT for row in items.rows(s) if items.text[row] in first]
    shown = [f"{pair(store, row, other)}: {items.text[row][:SHORTEST]!r}" for row, other in hits[:EXAMPLES]]
    return [Finding(f"{len(hits)} items of valid and test have a text that stands in train too", shown)] if hits else []


def shared_creators(store: FeatureStore) -> list[Finding]:
    items = store.items
    if "user" not in items.origin:
        return []
    train = pd.Series(items.user[items.rows("train")])
    count = train[train != ""].value_counts()
    held = np.concatenate([items.rows(split) for split in HELD_OUT])
    hits = [row for row in held if items.user[row] in count.index]
    names = list(dict.fromkeys(items.user[hits]))
    there = {name: int((items.user[held] == name).sum()) for name in names[:EXAMPLES]}
    shown = [f"{name}: {n} in valid and test, {count[name]} in train" for name, n in there.items()]
    what = f"{len(hits)} of {len(held)} items of valid and test are of {len(names)} creators who are in train too"
    return [Finding(what, shown)] if hits else []


def older_than_neighbours(store: FeatureStore) -> list[Finding]:
    """Items that retrieve what was published, or counted, after them."""
    try:
        ids = Neighbours.read(store).ids  # (N, K)
    except InputError:
        return []
    items, found = store.items, []
    for name, what in (("time", "published"), ("label_time", "counted")):
        if "time" not in items.origin or name not in items.origin:
            continue
        late = (getattr(items, name)[ids] > items.time[:, None]) & (ids >= 0)  # NaT is after nothing
        rows = np.flatnonzero(late.any(axis=1) & np.isin(items.split, HELD_OUT))
        asked = int(np.isin(items.split, HELD_OUT).sum())
        shown = [
            f"{items.item_id[row]}: {late[row].sum()} of {(ids[row] >= 0).sum()} neighbours" for row in rows[:EXAMPLES]
        ]
        text = (
            f"{len(rows)} of {asked} items of valid and test have neighbours that were {what} after they were published"
        )
        found += [Finding(text, shown)] if len(rows) else []
    return found


def consequences(store: FeatureStore) -> list[Finding]:
    """Metadata that may follow from popularity: by their names, and by what each explains alone."""
    if store.metadata is None:
        return []
    late = [name for name, kind in store.metadata.kinds.items() if kind not in ("yes/no", "time")]
    named = [name for name in late if is_consequence(name)]
    found = []
    if named:
        what = f"{len(named)} metadata columns are called as counts made after publication"
        found.append(Finding(what, named))
    shares = {name: explained(store, name) for name in store.metadata.columns}
    much = sorted((name for name in shares if shares[name] >= EXPLAINS), key=lambda name: -shares[name])
    if much:
        shown = [f"{name}: {shares[name]:.0%}" for name in much]
        what = f"{len(much)} metadata columns explain half of the label's variance on split valid alone, or more"
        found.append(Finding(what, shown))
    return found


def explained(store: FeatureStore, name: str) -> float:
    """The share of the variance of valid's labels that a small tree on one column explains; 0 if it cannot say."""
    values, items = store.metadata.columns[name], store.items
    train, valid = items.rows("train"), items.rows("valid")
    if len(train) < LEAST or len(valid) < LEAST:
        return 0.0
    if values.dtype.kind == "O":  # a category stands for the mean label of its videos in train, drawn to that of all
        label = items.label[train].mean(axis=1)
        groups = pd.Series(label).groupby(pd.Series(values[train], dtype=object)).agg(["sum", "count"])
        means = (groups["sum"] + LEAST * label.mean()) / (groups["count"] + LEAST)
        x = pd.Series(values, dtype=object).map(means).fillna(label.mean()).to_numpy(float)
    else:
        x = values.astype("M8[us]").astype(float) if values.dtype.kind == "M" else values.astype(float)
        x = np.where(known(values), x, np.nan)
    tree = DecisionTreeRegressor(max_leaf_nodes=LEAVES, min_samples_leaf=LEAST, random_state=0)
    tree.fit(x[train, None], items.label[train])
    predicted = tree.predict(x[valid, None]).reshape(len(valid), -1)
    truth = items.label[valid]
    spread = truth.var(axis=0)
    error = ((predicted - truth) ** 2).mean(axis=0)
    return float(np.max(np.where(spread > 0, 1 - error / np.where(spread > 0, spread, 1), 0)))


def empty_columns(store: FeatureStore) -> list[Finding]:
    if store.metadata is None:
        return []
    empty, constant = [], []
    for name, values in store.metadata.columns.items():
        there = values[known(values)]
        if not len(there):
            empty.append(name)
        elif len(there) == len(values) and len(pd.unique(there)) == 1:
            constant.append(name)
    found = [Finding(f"{len(empty)} metadata columns have nothing in them", empty)] if empty else []
    return found + (
        [Finding(f"{len(constant)} metadata columns are the same for every item", constant)] if constant else []
    )


def alike_vectors(store: FeatureStore) -> list[Finding]:
    """Items of valid and test whose vector is nearly that of one of train, by each kind of features."""
    found = []
    for name in [*store.arrays, *([RETRIEVAL] if RETRIEVAL in store.features else [])]:
        array, nothing = store.features[name], scan(store.features[name])[2]
        train, held = (
            np.concatenate([store.items.rows(split) for split in splits]) for splits in (("train",), HELD_OUT)
        )
        rows = np.concatenate([train[~nothing[train]], held[~nothing[held]]])
        bank = np.arange((~nothing[train]).sum())
        if len(bank) < 2 or len(rows) == len(bank):
            continue
        vectors = np.concatenate([one_vector(array[rows[block]]) for block in blocks(array, len(rows))])
        ids, similarity = search(vectors, bank, 1, progress=True)
        hits = [place for place in range(len(bank), len(rows)) if similarity[place, 0] >= ALIKE]
        shown = [f"{pair(store, rows[p], rows[ids[p, 0]])}: {similarity[p, 0]:.4f}" for p in hits[:EXAMPLES]]
        what = f"{len(hits)} items of valid and test have {name} features nearly equal to those of one in train"
        found += [Finding(what, shown)] if hits else []
    return found


def pair(store: FeatureStore, row: int, other: int) -> str:
    items = store.items
    return f"{items.item_id[row]} ({items.split[row]}) and {items.item_id[other]} ({items.split[other]})"
