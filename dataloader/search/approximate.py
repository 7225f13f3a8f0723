"""Approximate cosine search by FAISS: an index proposes whom an item may retrieve, and the bank's rules hold exactly.

What it proposes is filtered, compared exactly, and ordered as dataloader/search/exact.py orders; where it proposes too
few who are allowed, all who are allowed are compared.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from common.console import PROGRESS_BAR, InputError
from dataloader.search.exact import unit
from dataloader.search.few import cosine, search_few
from dataloader.search.index import Index

SPARE = 16  # proposals beyond k, as some are not allowed
FEW = 4096  # allowed: these are compared, all of them
ASKED_FOR = 0.95  # recall of the nearest WITHIN
WITHIN = 10
SAMPLE = 500  # items whose recall is measured
ROWS_AT_ONCE = 256


@dataclass
class Found:
    """ids (N, k) int32 and similarity (N, k) float32, as of exact.search; recall@: number of neighbours -> share."""

    ids: np.ndarray
    similarity: np.ndarray
    effort: int
    recall: dict[int, float]
    compared_all: int = 0  # items for which all who are allowed were compared


@dataclass
class Searching:
    """What is searched, and the rules: since, asked (N,) as of exact.search; rows (M,) of the index."""

    vectors: np.ndarray
    index: Index
    k: int
    since: np.ndarray | None
    asked: np.ndarray | None
    known: np.ndarray = field(init=False)  # (M,) ascending: since when the index's rows from here on are known at all

    def __post_init__(self):
        rows = self.index.rows
        if self.since is not None:
            self.known = np.minimum.accumulate(self.since[rows][::-1])[::-1]
            self.sorted_since = np.sort(self.since[rows])
        self.place = np.full(len(self.vectors), -1)
        self.place[rows] = np.arange(len(rows))

    def cuts(self, asking: np.ndarray) -> np.ndarray:
        """(n,) how many of the index's rows, from the first, hold all that each item may retrieve."""
        if self.since is None:
            return np.full(len(asking), len(self.index.rows))
        return np.searchsorted(self.known, self.asked[asking], side="right")

    def allowed(self, asking: np.ndarray) -> np.ndarray:
        """(n,) how many each may retrieve."""
        own = self.place[asking] >= 0
        if self.since is None:
            return len(self.index.rows) - own
        count = np.searchsorted(self.sorted_since, self.asked[asking], side="right")
        return count - (own & (self.since[asking] <= self.asked[asking]))

    def block(self, asking: np.ndarray, effort: int) -> tuple[np.ndarray, np.ndarray, int]:
        """For rows `asking` (n,): ids (n, k), similarity (n, k), and of how many all who are allowed were compared."""
        rules = {"since": self.since, "asked": self.asked}
        cut = int(self.cuts(asking).max(initial=0))
        if cut <= FEW:
            return (*search_few(self.vectors, asking, np.sort(self.index.rows[:cut]), self.k, **rules), len(asking))
        asks = np.asarray(self.vectors[asking], np.float32)  # (n, R)
        proposed = self.index.propose(unit(asks), self.index.widening * self.k + SPARE, cut, effort)  # (n, p) rows, -1
        fine = (proposed >= 0) & (proposed != asking[:, None])
        proposed = np.maximum(proposed, 0)
        if self.since is not None:
            fine &= self.since[proposed] <= self.asked[asking][:, None]
        ids, similarity = np.full((len(asking), self.k), -1, np.int32), np.zeros((len(asking), self.k), np.float32)
        for i in range(len(asking)):
            rows = proposed[i, fine[i]]
            if len(rows) > self.k + SPARE:  # float32 says which are worth computing exactly
                # torch's product, as numpy's threads and torch's wait for each other: tens of times as slow
                scores = torch.mv(torch.from_numpy(unit(self.vectors[rows])), torch.from_numpy(asks[i])).numpy()
                rows = rows[np.argpartition(-scores, self.k + SPARE)[: self.k + SPARE]]
            found = cosine(asks[i], self.vectors[rows])
            order = np.lexsort((rows, -found))[: self.k]
            ids[i, : len(order)], similarity[i, : len(order)] = rows[order], found[order]
        lacking = np.flatnonzero((ids >= 0).sum(axis=1) < np.minimum(self.k, self.allowed(asking)))
        if len(lacking):
            rest = np.sort(self.index.rows[:cut])
            ids[lacking], similarity[lacking] = search_few(self.vectors, asking[lacking], rest, self.k, **rules)
        return ids, similarity, len(lacking)


def search_approximately(
    vectors: np.ndarray,
    asking: np.ndarray,
    index: Index,
    k: int,
    *,
    since: np.ndarray | None = None,
    asked: np.ndarray | None = None,
    seed: int = 0,
    say: Callable[[str], Any] = print,
) -> Found:
    """Whom the rows `asking` (n,) of vectors (N, R) retrieve of the index's.

    since, asked: as of exact.search. The effort of a query is raised until, on a seeded sample of items, it finds
    ASKED_FOR of the WITHIN nearest that exact search finds. InputError where the index is of other vectors.
    """
    if not np.array_equal(asking, np.unique(asking)):
        raise InputError("the items that ask are not in order, each once")
    searching = Searching(vectors, index, k, since, asked)
    # Items that ask at about the same time are searched together: what they may retrieve is about the same.
    order = asking if asked is None else asking[np.argsort(asked[asking], kind="stable")]
    sample = np.sort(np.random.default_rng(seed).choice(asking, min(SAMPLE, len(asking)), replace=False))
    exact, _ = search_few(vectors, sample, np.sort(index.rows), k, since=since, asked=asked)
    effort, recall = index.least_effort, {}
    for effort in index.efforts():
        got = np.concatenate([searching.block(part, effort)[0] for part in parts(sample)])
        recall = {n: share_found(got, exact, n) for n in sorted({min(k, WITHIN), k})}
        if recall[min(k, WITHIN)] >= ASKED_FOR:
            break
    found = Found(np.full((len(vectors), k), -1, np.int32), np.zeros((len(vectors), k), np.float32), effort, recall)
    said = ", ".join(f"recall@{n} {share:.3f}" for n, share in recall.items())
    say(f"{index.described}, {index.effort_name} {effort}: {said} of {len(sample)} items")
    with tqdm(total=len(order), desc="retrieving", unit="video", **PROGRESS_BAR) as bar:
        for part in parts(order):
            found.ids[part], found.similarity[part], all_of = searching.block(part, effort)
            found.compared_all += all_of
            bar.update(len(part))
    return found


def parts(rows: np.ndarray) -> list[np.ndarray]:
    return np.array_split(rows, max(1, -(-len(rows) // ROWS_AT_ONCE)))


def share_found(got: np.ndarray, exact: np.ndarray, n: int) -> float:
    """Of the n nearest by exact search (m, k), how many stand among the n nearest that were found."""
    there = exact[:, :n] >= 0
    hit = (exact[:, :n, None] == got[:, None, :n]).any(axis=2) & there
    return float(hit.sum() / max(1, there.sum()))
