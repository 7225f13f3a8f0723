"""Exact cosine search in blocks: the top K of a bank for every item."""

from __future__ import annotations

import numpy as np
import torch
from tqdm import tqdm

CHUNK = 64  # columns whose maximum stands for them in the first step of the selection
SPARE = 2  # candidates beyond k: the gap behind the k-th tells whether the k-th is certain
# Float32 products of unit vectors err by some 1e-7: two similarities closer than this are computed again in float64.
CLOSE = 1e-6
SHORTEST, LONGEST = 1e-15, 1e15  # lengths whose squares float32 holds well
SCORE_BYTES = 640 << 20  # of a block of scores: queries a block are fewer where the bank is very large


def search(
    vectors: np.ndarray,
    bank: np.ndarray,
    k: int,
    *,
    device: torch.device | str = "cpu",
    batch_size: int = 2048,
    progress: bool = False,
    since: np.ndarray | None = None,
    asked: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Exact top k by cosine: vectors (N, R), bank (M,) ascending rows -> ids (N, k) int32, similarity (N, k) float32.

    Best first; equal float32 similarities go to the lower row; row i is never among its own neighbours (k < M).
    since, asked: (N,) int64 each: row i retrieves only rows j with since[j] <= asked[i], and -1 where there are no k.
    Blocks of queries meet the distinct vectors of the bank, so no N x M matrix exists. What float32 cannot tell
    apart, at the border or within the top k, is computed again in float64, so that who is retrieved depends
    neither on the block size nor on the order in which a matrix product sums.
    """
    device = torch.device(device)
    first, sharing = _distinct(vectors, bank)  # (U,) a row of each distinct vector; the groups of equal ones
    shared = np.isin(first, list(sharing))  # (U,)
    early = None  # (U,) since when a vector can be retrieved: one that several rows share, since the first of them
    if since is not None:
        early = torch.from_numpy(np.array([since[sharing.get(row, row)].min() for row in first.tolist()])).to(device)
    own = np.full(len(vectors), -1)  # the column of a row's own vector, where no other row shares it
    own[first[~shared]] = np.flatnonzero(~shared)
    batch_size = max(1, min(batch_size, len(vectors), SCORE_BYTES // (4 * len(first))))
    keys = np.empty((len(first), vectors.shape[1]), dtype=np.float32)  # (U, R)
    for rows in np.array_split(np.arange(len(first)), -(-len(first) // batch_size)):
        keys[rows] = unit(vectors[first[rows]])
    keys = torch.from_numpy(keys).to(device)
    candidates = min(k + SPARE, len(first))
    columns = -(-len(first) // CHUNK) * CHUNK
    scores = torch.full((batch_size, columns), -torch.inf, device=device)  # (B, U, padded to whole chunks)

    ids = np.empty((len(vectors), k), dtype=np.int32)
    similarity = np.empty((len(vectors), k), dtype=np.float32)
    starts = range(0, len(vectors), batch_size)
    for start in tqdm(starts, desc="retrieving", unit="block", disable=None if progress else True):
        query = np.arange(start, min(start + batch_size, len(vectors)))
        block = scores[: len(query)]
        _multiply(unit(vectors[query]), keys, block[:, : len(first)])
        alone = np.flatnonzero(own[query] >= 0)
        block[torch.from_numpy(alone), torch.from_numpy(own[query[alone]])] = -torch.inf
        if early is not None:
            late = early[None, :] > torch.from_numpy(asked[query]).to(device)[:, None]  # (B, U)
            block[:, : len(first)].masked_fill_(late, -torch.inf)
        value, found = _top(block, candidates)  # (B, candidates) each
        found = np.where(value > -np.inf, found, 0)  # what is not to be retrieved may stand behind the last column
        unsure = np.ones(len(query), dtype=bool)
        if candidates > k:
            there = np.isfinite(value[:, :k])
            ids[query] = np.where(there, first[found[:, :k]], -1)
            similarity[query] = np.where(there, value[:, :k], 0)
            with np.errstate(invalid="ignore"):
                gap = value[:, :k] - value[:, 1 : k + 1]  # NaN where there are no more
            unsure = (gap < CLOSE).any(axis=1) | shared[found[:, :k]].any(axis=1)
        for i in np.flatnonzero(unsure):
            # By time, the query itself may be all that is known of a vector that rows share: one more is looked at.
            border = value[i, min(k + (since is not None), candidates) - 1] - CLOSE
            row = block[i, : len(first)].cpu().numpy()
            near = first[np.flatnonzero((row >= border) & (row > -np.inf))]
            groups = [sharing.get(row, np.array([row])) for row in near.tolist()]
            if since is not None:
                groups = [group[since[group] <= asked[query[i]]] for group in groups]
            ids[query[i]], similarity[query[i]] = _exactly(vectors, query[i], groups, k)
    return ids, similarity


def unit(vectors: np.ndarray) -> np.ndarray:
    """(B, R) of any float type -> float32 rows of length 1."""
    rows = torch.from_numpy(np.array(vectors, dtype=np.float32))  # (B, R)
    length = torch.linalg.vector_norm(rows, dim=1, keepdim=True)  # (B, 1)
    if not ((length > SHORTEST) & (length < LONGEST)).all():  # the squares overflow or vanish in float32
        rows = rows.double()
        length = torch.linalg.vector_norm(rows, dim=1, keepdim=True)
    return (rows / length).float().numpy()


def _distinct(vectors: np.ndarray, bank: np.ndarray) -> tuple[np.ndarray, dict[int, np.ndarray]]:
    """The first row of each distinct vector of the bank, ascending, and all rows of those that several rows share."""
    heads = np.ascontiguousarray(vectors[bank, : min(4, vectors.shape[1])], dtype=np.float32) + 0.0  # -0 is 0
    heads = heads.view(f"V{heads.shape[1] * 4}").ravel()
    _, inverse, counts = np.unique(heads, return_inverse=True, return_counts=True)
    alike = counts[inverse] > 1
    groups: dict[bytes, list[int]] = {}
    for row in bank[alike].tolist():  # only rows that share their first values are compared as a whole
        groups.setdefault((vectors[row].astype(np.float32) + 0.0).tobytes(), []).append(row)
    first = np.sort(np.append(bank[~alike], [rows[0] for rows in groups.values()]).astype(int))
    return first, {rows[0]: np.array(rows) for rows in groups.values() if len(rows) > 1}


def _multiply(query: np.ndarray, keys: torch.Tensor, out: torch.Tensor) -> None:
    """out (B, U) = query (B, R) keys' (R, U)."""
    if keys.device.type == "cpu":  # numpy's OpenBLAS: at this shape 1.4 times torch's MKL (benchmarks/retrieval.py)
        np.matmul(query, keys.numpy().T, out=out.numpy())
    else:
        torch.mm(torch.from_numpy(query).to(keys.device), keys.T, out=out)


def _top(scores: torch.Tensor, n: int) -> tuple[np.ndarray, np.ndarray]:
    """The n largest of each row of (B, columns) and where they stand, descending; ties in no particular order.

    They lie in the n chunks with the largest maxima, so one pass over the scores finds the chunks and the costly
    selection sees n * CHUNK columns.
    """
    chunks = scores.view(len(scores), -1, CHUNK)  # (B, C, CHUNK)
    count = chunks.shape[1]
    best = chunks.amax(dim=2).topk(min(n, count), dim=1, sorted=False).indices  # (B, n)
    rows = torch.arange(len(scores), device=scores.device)[:, None] * count  # (B, 1)
    among = chunks.flatten(0, 1).index_select(0, (rows + best).flatten()).view(len(scores), -1)  # (B, n * CHUNK)
    value, place = among.topk(n, dim=1)  # (B, n)
    columns = best.gather(1, place // CHUNK) * CHUNK + place % CHUNK  # (B, n)
    return value.cpu().numpy(), columns.cpu().numpy()


def _exactly(vectors: np.ndarray, row: int, groups: list[np.ndarray], k: int) -> tuple[np.ndarray, np.ndarray]:
    """Top k of the rows in `groups` (each of one vector) for `row`, by float64 similarity rounded to float32.

    -1 pads where there are fewer.
    """
    if not groups:
        return np.full(k, -1), np.zeros(k)
    query = vectors[row].astype(np.float64)  # (R,)
    keys = vectors[[group[0] for group in groups]].astype(np.float64)  # (G, R)
    length = np.sqrt(np.einsum("gr,gr->g", keys, keys)) * np.sqrt(query @ query)
    similarity = (np.einsum("gr,r->g", keys, query) / length).astype(np.float32)
    groups = [group[: k + 1] for group in groups]  # one more, should the row itself be among them
    similarity = np.repeat(similarity, [len(group) for group in groups])
    rows = np.concatenate(groups)
    similarity, rows = similarity[rows != row], rows[rows != row]
    order = np.lexsort((rows, -similarity))[:k]
    pads = k - len(order)
    return np.append(rows[order], np.full(pads, -1)), np.append(similarity[order], np.zeros(pads, np.float32))
