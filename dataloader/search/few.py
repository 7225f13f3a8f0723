"""Exact cosine search for some items alone: the bank is read once, in blocks, from where it lies on the disk."""

from __future__ import annotations

import numpy as np

from common.arrays import BLOCK_BYTES
from dataloader.components import one_vector
from dataloader.search.exact import CLOSE, LONGEST, SHORTEST, unit


def search_few(
    vectors: np.ndarray,
    asking: np.ndarray,
    bank: np.ndarray,
    k: int,
    *,
    since: np.ndarray | None = None,
    asked: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """For rows `asking` (n,) of vectors (N, R) or of frames (N, F, R) -> ids (n, k) int32, similarity (n, k) float32.

    Whom dataloader/search/exact.py finds for them, and in the same order: equal similarities go to the lower row, -1
    pads where there are fewer, an item is never among its own neighbours, a vector of zeros has none and is none's.
    since, asked: as there. What is held is a block of the bank, not the bank.
    """
    asks = one_vector(vectors[asking])  # (n, R)
    there = asks.any(axis=1)
    query = np.where(there[:, None], unit(np.where(there[:, None], asks, 1)), 0)
    best: list[tuple[np.ndarray, np.ndarray]] = [(np.empty(0, int), np.empty(0, np.float32))] * len(asking)
    step = max(1, BLOCK_BYTES // max(1, 4 * int(np.prod(vectors.shape[1:]))))
    for start in range(0, len(bank), step):
        rows = bank[start : start + step]
        keys = one_vector(vectors[rows])
        with np.errstate(over="ignore"):
            length = np.sqrt(np.einsum("br,br->b", keys, keys))
        if not ((length > SHORTEST) & (length < LONGEST)).all():  # zeros, or squares that float32 does not hold
            there_too = keys.any(axis=1)
            rows, keys = rows[there_too], unit(keys[there_too])
            length = np.float32(1)
        scores = query @ keys.T / length  # (n, b)
        scores[asking[:, None] == rows] = -np.inf
        if since is not None:
            scores[since[rows] > asked[asking][:, None]] = -np.inf
        for place in np.flatnonzero(there):
            best[place] = nearest(best[place], rows, scores[place], k)
    ids, similarity = np.full((len(asking), k), -1, np.int32), np.zeros((len(asking), k), np.float32)
    for place, (rows, _) in enumerate(best):
        # Products of float32 are not certain enough to order by: what is left is computed again.
        found = cosine(asks[place], one_vector(vectors[rows]))
        order = np.lexsort((rows, -found))[:k]
        ids[place, : len(order)], similarity[place, : len(order)] = rows[order], found[order]
    return ids, similarity


def nearest(
    known: tuple[np.ndarray, np.ndarray], rows: np.ndarray, scores: np.ndarray, k: int
) -> tuple[np.ndarray, np.ndarray]:
    """Of the known rows and of further ones those that may be among the k nearest, with their scores."""
    rows, scores = np.append(known[0], rows), np.append(known[1], scores)
    border = np.partition(scores, len(scores) - k)[-k] - CLOSE if len(scores) > k else -np.inf
    kept = (scores >= border) & (scores > -np.inf)
    return rows[kept], scores[kept]


def cosine(query: np.ndarray, keys: np.ndarray) -> np.ndarray:
    """(R,) and (m, R) -> (m,) float32, computed as float64."""
    keys = keys.astype(np.float64)
    query = query.astype(np.float64)
    length = np.sqrt(np.einsum("mr,mr->m", keys, keys)) * np.sqrt(query @ query)
    return (np.einsum("mr,r->m", keys, query) / np.maximum(length, 1e-300)).astype(np.float32)
