"""Neighbours: which K items of the bank each item retrieves, and MMRA's aggregation over them."""

from __future__ import annotations

import hashlib
import json
import warnings
import zipfile
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from tqdm import tqdm

from common.console import InputError, listed
from common.files import written_beside
from dataloader.names import BANKS
from dataloader.store import FeatureStore

REMEDY = "make it anew with: python retriever.py --dataset_path {path} --dataset_id {id}"
BLOCK_BYTES = 8 << 20  # of aggregated features held beside the result


@dataclass(frozen=True)
class Neighbours:
    """Row i: item i's neighbours, best first. ids are rows of the store, -1 pads; similarity is their cosine."""

    ids: np.ndarray  # (N, K) int32
    similarity: np.ndarray  # (N, K) float32
    k: int
    bank: str  # which splits could be retrieved: a key of BANKS
    backend: str  # what searched
    fingerprint: str  # of the store that was searched

    def write(self, store: FeatureStore) -> Path:
        path = store.folder / "neighbours.npz"
        described = {key: value for key, value in asdict(self).items() if not isinstance(value, np.ndarray)}
        with written_beside(path) as partial, partial.open("wb") as file:
            np.savez(
                file,
                ids=self.ids.astype(np.int32),
                similarity=self.similarity.astype(np.float32),
                meta=np.array(json.dumps(described)),
            )
        return path

    @classmethod
    def read(cls, store: FeatureStore) -> Neighbours:
        """The neighbours of `store`; InputError where they belong to another store or bank, or make no sense."""
        path = store.folder / "neighbours.npz"
        remedy = REMEDY.format(path=store.folder.parent, id=store.folder.name)
        try:
            with np.load(path, allow_pickle=False) as archive:
                arrays = {name: archive[name] for name in ("ids", "similarity")}
                found = cls(**arrays, **json.loads(str(archive["meta"])))
        except FileNotFoundError:
            raise InputError(f"{path}: no neighbours yet; {remedy}") from None
        except (ValueError, TypeError, KeyError, OSError, EOFError, zipfile.BadZipFile, NotImplementedError) as error:
            raise InputError(f"{path}: truncated or not a neighbours file ({error}); {remedy}") from None
        if isinstance(found.bank, str) and found.bank in BANKS:
            remedy += f" --bank {found.bank}"
        if found.fingerprint != store.fingerprint:
            raise InputError(
                f"{path}: made for another state of the data set (fingerprint {found.fingerprint}, "
                f"now {store.fingerprint}); {remedy}"
            )
        if problems := found._problems(store):
            raise InputError(f"{path}: {'; '.join(problems)}; {remedy}")
        return found

    def _problems(self, store: FeatureStore) -> list[str]:
        n, ids = len(store), self.ids
        if ids.shape != (n, self.k) or self.similarity.shape != ids.shape or ids.dtype != np.int32:
            return [f"ids {ids.shape} {ids.dtype} and similarity {self.similarity.shape}, expected ({n}, {self.k})"]
        if not isinstance(self.bank, str) or self.bank not in BANKS:
            return [f"bank {self.bank!r} is unknown (known: {', '.join(BANKS)})"]
        if ids.min(initial=-1) < -1 or ids.max(initial=-1) >= n:
            return [f"rows from {ids.min()} to {ids.max()}, expected 0 to {n - 1}, or -1"]
        found = []
        in_bank = np.append(np.isin(store.items.split, BANKS[self.bank]), True)  # the last stands for -1, a pad
        if (foreign := ~in_bank[ids].all(axis=1)).any():
            found.append(f"neighbours outside the bank {self.bank} (of {listed(store.items.item_id[foreign])})")
        if (itself := (ids == np.arange(n)[:, None]).any(axis=1)).any():
            found.append(f"items that retrieve themselves ({listed(store.items.item_id[itself])})")
        if not np.isfinite(self.similarity[ids >= 0]).all():
            found.append("similarities that are not finite")
        return found

    def digest(self) -> str:
        """16 hexadecimal digits that change with any neighbour.

        Not with similarities: of the same vectors they differ by 1e-7 between devices and block sizes.
        """
        return hashlib.sha256(self.ids.tobytes()).hexdigest()[:16]

    def weights(self, rows: np.ndarray, k: int, temperature: float) -> tuple[np.ndarray, np.ndarray]:
        """The first k neighbours of `rows` and softmax(similarity / temperature) over them, (n, k); pads weigh 0."""
        ids = self.ids[rows, :k]
        score = np.where(ids >= 0, self.similarity[rows, :k] / temperature, -np.inf).astype(np.float64)
        top = score.max(axis=1, keepdims=True)
        weight = np.exp(score - np.where(np.isfinite(top), top, 0))
        weight /= np.maximum(weight.sum(axis=1, keepdims=True), 1e-300)  # an item without neighbours aggregates zeros
        return np.maximum(ids, 0), weight.astype(np.float32)


@dataclass(frozen=True)
class Retrieved:
    """What n items retrieved, aggregated: visual (n, F, Dv), textual (n, Dt), label (n, label_dim)."""

    visual: np.ndarray
    textual: np.ndarray
    label: np.ndarray


def aggregate(
    store: FeatureStore, neighbours: Neighbours, rows: np.ndarray, k: int, temperature: float, frames: np.ndarray
) -> Retrieved:
    """Sum features and labels of the first k neighbours, weighted by softmax(similarity / temperature).

    The sums have no learned weights, so they are made once a run, not once a batch and epoch: after this,
    training costs the same for any k. They keep the precision of the stored features (REFERENCE.md, MMRA 1).
    """
    if k > neighbours.k:
        raise InputError(
            f"--num_of_retrieved_items {k}: {store.folder / 'neighbours.npz'} holds {neighbours.k} an item; "
            + REMEDY.format(path=store.folder.parent, id=store.folder.name)
            + f" --bank {neighbours.bank} --num_of_retrieved_items {k}"
        )
    ids, weight = neighbours.weights(rows, k, temperature)
    return Retrieved(
        visual=weighted_sum(store.visual, ids, weight, frames),
        textual=weighted_sum(store.textual, ids, weight),
        label=np.einsum("nk,nkl->nl", weight, np.nan_to_num(store.items.label)[ids]).astype(np.float32),
    )


def weighted_sum(
    array: np.ndarray, ids: np.ndarray, weight: np.ndarray, frames: np.ndarray | None = None
) -> np.ndarray:
    """(N, [F,] D), ids (n, k), weight (n, k) -> (n, [F,] D) of the array's dtype, and as precise."""
    shape = array.shape[1:] if frames is None else (len(frames), *array.shape[2:])
    out = np.empty((len(ids), *shape), dtype=array.dtype)
    every_frame = frames is None or len(frames) == array.shape[1]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")  # it is only read
        table = torch.from_numpy(np.asarray(array).reshape(len(array), -1))  # (N, F * D), still memory-mapped
    step = max(1, BLOCK_BYTES // max(1, table.shape[1] * 4))
    blocks = range(0, len(ids), step)
    for start in tqdm(blocks, desc="aggregating neighbours", unit="block", disable=None, leave=False):
        block = slice(start, start + step)
        summed = F.embedding_bag(
            torch.from_numpy(ids[block]).long(),
            table,
            mode="sum",
            per_sample_weights=torch.from_numpy(weight[block]).to(table.dtype),
        ).numpy()
        summed = summed.reshape(-1, *array.shape[1:])
        out[block] = summed if every_frame else summed[:, frames]
    return out
