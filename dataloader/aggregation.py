"""What an item's neighbours contribute, summed once a run, with fixed weights."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from tqdm import tqdm

from common.arrays import Joined
from common.console import InputError
from dataloader.neighbours import Neighbours
from dataloader.place import Lacks
from dataloader.store import FeatureStore

BLOCK_BYTES = 8 << 20  # of aggregated features held beside the result


@dataclass(frozen=True)
class Aggregated:
    """What n items retrieved, summed: features by modality (n, F, Dv), (n, D), and the label (n, label_dim)."""

    features: dict[str, np.ndarray]
    label: np.ndarray

    def take(self, chosen: np.ndarray) -> Aggregated:
        return Aggregated({name: array[chosen] for name, array in self.features.items()}, self.label[chosen])


def aggregate(
    store: FeatureStore,
    neighbours: Neighbours,
    rows: np.ndarray,
    k: int,
    temperature: float,
    frames: np.ndarray | None,
    features: dict[str, np.ndarray],
) -> Aggregated:
    """Sum features and labels of the first k neighbours, weighted by softmax(similarity / temperature).

    The sums have no learned weights, so they are made once a run, not once a batch and epoch: after this,
    training costs the same for any k. They keep the precision of the stored features (REFERENCE.md, MMRA 1).
    """
    check_k(store, neighbours, k)
    ids, weight = neighbours.weights(rows, k, temperature)
    of = {name: frames if name == "visual" else None for name in features}
    return Aggregated(
        {name: weighted_sum(features[name], ids, weight, chosen) for name, chosen in of.items()},
        np.einsum("nk,nkl->nl", weight, np.nan_to_num(store.items.label)[ids]).astype(np.float32),
    )


def check_k(store: FeatureStore, neighbours: Neighbours, k: int) -> None:
    if k > neighbours.k:
        raise InputError(
            f"--num_of_retrieved_items {k}: {store.folder / 'neighbours.npz'} holds {neighbours.k} an item",
            Lacks("neighbours", store.folder, flags=f" --bank {neighbours.bank} --num_of_retrieved_items {k}"),
        )


def weighted_sum(
    array: np.ndarray, ids: np.ndarray, weight: np.ndarray, frames: np.ndarray | None = None
) -> np.ndarray:
    """(N, [F,] D), ids (n, k), weight (n, k) -> (n, [F,] D) of the array's dtype, and as precise."""
    array = array.first if isinstance(array, Joined) else array  # whoever is retrieved stands in it
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
