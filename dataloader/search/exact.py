"""Exact cosine search in blocks: the top K of a bank for every item."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from tqdm import tqdm

CHUNK = 16  # columns whose maximum stands for them in the first step of the selection
KEYS = 4096  # columns multiplied at once: their scores are still in the processor's cache when maxima are looked for
SPARE = 2  # candidates beyond k: the gap behind the k-th tells whether the k-th is certain
# Float32 products of unit vectors err by some 1e-7: two similarities closer than this are computed again in float64.
CLOSE = 1e-6
SHORTEST, LONGEST = 1e-15, 1e15  # lengths whose squares float32 holds well
SCORE_BYTES = {"cpu": 12 << 20, "cuda": 640 << 20}  # of a block of scores, if that leaves it FEWEST queries
FEWEST = 384
AT_ONCE = 512  # keys made at once
PAIR_BYTES = 1 << 20  # of vectors that candidates are compared by
LOWEST = torch.finfo(torch.float32).min  # below any score, above those that are not to be found
ROUNDING = 2.0**-8  # of bfloat16
MOST_ROUGH = 0.02  # share of the bank beyond which candidates cost more to compare than rough scores have saved


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
    Blocks of queries meet the distinct vectors of the bank, so no N x M matrix exists. A processor that multiplies in
    bfloat16 much faster than in float32 does so first; a bound on what that loses says who may be among the top k, and
    they are compared in float32. What float32 cannot tell apart, at the border or within the top k, is computed again
    in float64, so that who is retrieved depends neither on the block size nor on the order in which a product sums.
    """
    device = torch.device(device)
    first, sharing = _distinct(vectors, bank)  # (U,) a row of each distinct vector; the groups of equal ones
    shared = np.isin(first, list(sharing))  # (U,)
    early = None  # (U,) since when a vector can be retrieved: one that several rows share, since the first of them
    if since is not None:
        early = torch.from_numpy(np.array([since[sharing.get(row, row)].min() for row in first.tolist()])).to(device)
    own = np.full(len(vectors), -1)  # the column of a row's own vector, where no other row shares it
    own[first[~shared]] = np.flatnonzero(~shared)
    keys = Keys.of(vectors, first, device, _rough(device))
    candidates = min(k + SPARE, len(first))
    score_bytes = SCORE_BYTES["cpu" if device.type == "cpu" else "cuda"]
    at_once = max(FEWEST, score_bytes // (keys.dtype.itemsize * len(first)))
    batch_size = max(1, min(batch_size, len(vectors), at_once))

    ids = np.empty((len(vectors), k), dtype=np.int32)
    similarity = np.empty((len(vectors), k), dtype=np.float32)
    starts = range(0, len(vectors), batch_size)
    for start in tqdm(starts, desc="retrieving", unit="block", disable=None if progress else True):
        query = np.arange(start, min(start + batch_size, len(vectors)))
        asks = unit(vectors[query])  # (B, R)
        late = None if early is None else (early, torch.from_numpy(asked[query]).to(device))
        found = keys.candidates(asks, own[query], late, candidates)
        if found is None:  # too many are within what bfloat16 loses, and will be for others
            keys = Keys.of(vectors, first, device, torch.float32)
            found = keys.candidates(asks, own[query], late, candidates)
        row, column, value = found  # (P,) each
        if value is None:
            value = _compared(vectors, first, asks, row, column)
        value, column = _padded(row, column, value, len(query), candidates)  # (B, candidates or more) each
        unsure = np.ones(len(query), dtype=bool)
        if candidates > k:
            there = np.isfinite(value[:, :k])
            ids[query] = np.where(there, first[column[:, :k]], -1)
            similarity[query] = np.where(there, value[:, :k], 0)
            with np.errstate(invalid="ignore"):
                gap = value[:, :k] - value[:, 1 : k + 1]  # NaN where there are no more
            unsure = (gap < CLOSE).any(axis=1) | (shared[column[:, :k]] & there).any(axis=1)
        for i in np.flatnonzero(unsure):
            # By time, the query itself may be all that is known of a vector that rows share: one more is looked at.
            border = value[i, min(k + (since is not None), candidates) - 1] - CLOSE
            near = np.sort(first[column[i, (value[i] >= border) & (value[i] > -np.inf)]])
            groups = [sharing.get(row, np.array([row])) for row in near.tolist()]
            if since is not None:
                groups = [group[since[group] <= asked[query[i]]] for group in groups]
            ids[query[i]], similarity[query[i]] = _exactly(vectors, query[i], groups, k)
    return ids, similarity


def unit(vectors: np.ndarray) -> np.ndarray:
    """(B, R) of any float type -> float32 rows of length 1."""
    native = np.array(vectors, vectors.dtype.newbyteorder("="))  # torch takes no other order of bytes
    rows = torch.from_numpy(native).float()  # (B, R); float16 twice as fast as by numpy
    length = torch.linalg.vector_norm(rows, dim=1, keepdim=True)  # (B, 1)
    if not ((length > SHORTEST) & (length < LONGEST)).all():  # the squares overflow or vanish in float32
        rows = rows.double()
        length = torch.linalg.vector_norm(rows, dim=1, keepdim=True)
    return rows.div_(length).float().numpy()


def _rough(device: torch.device) -> torch.dtype:
    """What scores are computed in first: bfloat16 on a processor with units for it."""
    units = device.type == "cpu" and torch.cpu.get_capabilities().get("avx512_bf16", False)
    return torch.bfloat16 if units else torch.float32


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


@dataclass
class Keys:
    """The distinct vectors of the bank, of length 1, in blocks (R, b) of `dtype`.

    lost: the most that one of them lost by it, as the length of the difference.
    """

    blocks: list[torch.Tensor]
    count: int
    dtype: torch.dtype
    lost: float

    @classmethod
    def of(cls, vectors: np.ndarray, first: np.ndarray, device: torch.device, dtype: torch.dtype) -> Keys:
        width = -(-len(first) // (CHUNK * -(-len(first) // KEYS))) * CHUNK  # as equal as whole chunks allow
        blocks, lost = [], 0.0
        for start in range(0, len(first), width):
            block, rows = torch.zeros(vectors.shape[1], width, dtype=dtype), first[start : start + width]
            for part in np.array_split(np.arange(len(rows)), -(-len(rows) // AT_ONCE)):
                keys = torch.from_numpy(unit(vectors[rows[part]]))  # (p, R)
                block[:, part[0] : part[-1] + 1] = keys.T
                lost = max(lost, _lost(keys, block[:, part[0] : part[-1] + 1].T).max().item())
            blocks.append(block.to(device))
        return cls(blocks, len(first), dtype, lost)

    def candidates(
        self, asks: np.ndarray, own: np.ndarray, late: tuple | None, n: int
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray | None] | None:
        """Of unit vectors (B, R) all pairs that may be among the n nearest: rows, columns, float32 scores (P,) each.

        No scores where they are rough, and None at all where these leave so many pairs that they are of no use.
        own (B,): columns that are not to be found, or -1; late: since when a column can be, and when each row asks.
        """
        device, width = self.blocks[0].device, self.blocks[0].shape[1]
        query = torch.from_numpy(asks).to(device, self.dtype)  # (B, R)
        scores = torch.empty(len(self.blocks), len(asks), width, dtype=self.dtype, device=device)  # (J, B, b)
        chunks = scores.view(len(self.blocks), len(asks), CHUNK, -1)  # a chunk: every so many-th column of its block
        best = torch.empty(len(asks), len(self.blocks), chunks.shape[3], dtype=self.dtype, device=device)  # (B, J, C)
        for j, block in enumerate(self.blocks):
            if device.type == "cpu" and self.dtype == torch.float32:
                np.matmul(asks, block.numpy(), out=scores[j].numpy())  # OpenBLAS, on AMD 1.4 times torch's MKL
            else:
                torch.mm(query, block, out=scores[j])
            here = np.flatnonzero((own >= j * width) & (own < (j + 1) * width))
            scores[j, torch.from_numpy(here), torch.from_numpy(own[here] - j * width)] = -torch.inf
            scores[j, :, max(0, self.count - j * width) :] = -torch.inf
            if late is not None:
                early = late[0][j * width : (j + 1) * width]
                scores[j, :, : len(early)].masked_fill_(early > late[1][:, None], -torch.inf)
            torch.amax(chunks[j], dim=1, out=best[:, j])
        best = best.flatten(1)  # (B, J * C)
        some = best if best.shape[1] < 16 * n else best[:, : best.shape[1] // 4 * 4].view(len(asks), 4, -1).amax(dim=1)
        border = torch.full((len(asks), 1), -torch.inf, device=device)
        if some.shape[1] >= n:  # there are n that score at least what the n-th of the maxima does
            border = some.topk(n, dim=1, sorted=False).values.float().amin(dim=1, keepdim=True)  # (B, 1)
        margin = torch.full_like(border, CLOSE)
        if self.dtype != torch.float32:  # Cauchy-Schwarz for the vectors, and the score is rounded too
            lost = _lost(torch.from_numpy(asks), query) * (1 + self.lost) + self.lost
            margin += lost[:, None] + ROUNDING * (border.abs() + 3 * lost[:, None])
        border = (border - 2 * margin).clamp_(min=LOWEST)
        row, chunk = (best >= border).nonzero(as_tuple=True)  # (P,) each, rows ascending
        if self.dtype != torch.float32:
            # Rows without a border are those that may retrieve few, or of a small bank: all of it is compared.
            several = int((border[row] > LOWEST).sum())
            if several > len(asks) * (4 * n + MOST_ROUGH * self.count):
                return None
        j, place = chunk // chunks.shape[3], chunk % chunks.shape[3]
        value = chunks[j, row, :, place]  # (P, CHUNK)
        pair, i = (value >= border[row]).nonzero(as_tuple=True)
        column = j[pair] * width + i * chunks.shape[3] + place[pair]
        known = value[pair, i].cpu().numpy() if self.dtype == torch.float32 else None
        return row[pair].cpu().numpy(), column.cpu().numpy(), known


def _lost(vectors: torch.Tensor, rounded: torch.Tensor) -> torch.Tensor:
    """(B, R) each -> (B,) lengths of their differences, and a little more, as these are computed too."""
    return torch.linalg.vector_norm(vectors - rounded.float(), dim=1) * 1.001


def _compared(
    vectors: np.ndarray, first: np.ndarray, asks: np.ndarray, row: np.ndarray, column: np.ndarray
) -> np.ndarray:
    """Similarities (P,) of the queries asks[row], rows ascending, to the vectors of the columns, in float32."""
    value = np.empty(len(row), np.float32)
    step = max(1, PAIR_BYTES // (4 * asks.shape[1]))
    for start in range(0, len(row), step):
        part = slice(start, start + step)
        keys = np.asarray(vectors[first[column[part]]], np.float32)  # (p, R)
        with np.errstate(over="ignore"):
            length = np.sqrt(np.vecdot(keys, keys))
        if not ((length > SHORTEST) & (length < LONGEST)).all():
            keys, length = unit(keys), 1
        value[part] = np.vecdot(keys, asks[row[part]]) / length
    return value


def _padded(
    row: np.ndarray, column: np.ndarray, value: np.ndarray, rows: int, least: int
) -> tuple[np.ndarray, np.ndarray]:
    """(P,) each, rows ascending -> values and columns (rows, `least` or more), values descending, padded by -inf."""
    count = np.bincount(row, minlength=rows)
    place = np.arange(len(row)) - np.repeat(np.cumsum(count) - count, count)
    values = np.full((rows, max(least, count.max(initial=0))), -np.inf, np.float32)
    columns = np.zeros(values.shape, np.int64)
    values[row, place], columns[row, place] = value, column
    order = np.argsort(-values, axis=1)
    return np.take_along_axis(values, order, axis=1), np.take_along_axis(columns, order, axis=1)


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
