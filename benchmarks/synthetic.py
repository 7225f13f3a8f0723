"""Random data sets of a given size, and the machine's own limits, for the benchmarks."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from dataloader.description import Label
from dataloader.importing.splits import published_split
from dataloader.items import Items
from dataloader.neighbours import Neighbours
from dataloader.store import FeatureStore

ROWS_AT_ONCE = 256


def random_store(
    folder: Path, items: int, *, frames: int, dim: int, k: int, dtype: str = "float32", creators: int = 0
) -> FeatureStore:
    """Normally distributed features, and k random neighbours an item from split train.

    creators: how many made them, an hour apart; half of the labels' variance is theirs.
    """
    rng = np.random.default_rng(0)
    label = rng.normal(6, 2, (items, 1))
    ids = np.array([str(i) for i in range(items)], object)
    split = published_split(items)
    described = Label(("popularity",))
    known = {}
    if creators:
        of = rng.integers(0, creators, items)
        label = (label + rng.normal(0, 2, (creators, 1))[of]).astype(np.float64)
        hours = rng.permutation(items) * np.timedelta64(1, "h")
        known = {"user": np.array([f"creator {i}" for i in of], object), "time": np.datetime64("2024-01-01") + hours}
    table = Items(ids, np.full(items, "", object), np.full((items, 1), np.nan), label, split, **known)
    store = FeatureStore.create(folder, table, family="MicroLens", label=described)
    for name, shape in (("visual", (items, frames, dim)), ("textual", (items, dim))):
        with store.add_array(name, shape, dtype) as out:
            for start in range(0, items, ROWS_AT_ONCE):
                block = out[start : start + ROWS_AT_ONCE]
                block[:] = rng.standard_normal(block.shape, dtype=np.float32)
    bank = np.flatnonzero(split == "train")
    found = bank[rng.integers(0, len(bank), (items, k))].astype(np.int32)
    found[found == np.arange(items)[:, None]] = -1
    similarity = np.sort(rng.random((items, k), dtype=np.float32), axis=1)[:, ::-1]
    Neighbours(found, similarity, k, "train", "random", store.fingerprint).write(store)
    return store


def seconds(work: Callable[[], object], repeats: int = 5) -> float:
    """Median of `repeats` timings after one that does not count."""
    return statistics.median(timings(work, repeats))


def timings(work: Callable[[], object], repeats: int) -> list[float]:
    work()
    taken = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        taken.append(time.perf_counter() - start)
    return taken


def matmul_rate(device: torch.device, dtype: torch.dtype = torch.float32, size: int = 2048) -> float:
    """FLOP/s of a square matrix product: the best of ten."""
    a, b = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))

    def product() -> None:
        torch.mm(a, b)
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    return 2 * size**3 / min(timings(product, 10))


def copy_rate(device: torch.device, size: int = 64 << 20) -> float:
    """Bytes a second that a copy reads and writes: the best of five."""
    source = torch.ones(size, device=device)
    target = torch.empty_like(source)

    def copy() -> None:
        target.copy_(source)
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    return 2 * source.nbytes / min(timings(copy, 5))


def report(
    benchmark: str, figure: str, value: float, limit: float, of: str, ratio: float | None = None, **more
) -> None:
    """A JSON line: the figure, the machine's limit or rival `of`, measured in the same run, and their ratio."""
    ratio = value / limit if ratio is None else ratio
    line = {"benchmark": benchmark, "figure": figure, "value": value, "limit": limit, "limit_is": of, "ratio": ratio}
    rounded = {key: float(f"{v:.4g}") if isinstance(v, float) else v for key, v in (line | more).items()}
    print(json.dumps(rounded), flush=True)
