"""An index of FAISS beside the vectors that it holds: made, grown by what was added to the data set, memory-mapped."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from common.arrays import BLOCK_BYTES, digest_of
from common.console import PROGRESS_BAR, InputError
from common.files import open_array, read_json, write_json, written_beside
from common.manifest import sha256_of
from dataloader.search.exact import unit

FOLDER = "index"  # in a data set: <source>.<kind>.faiss, .rows.npy and .json, which comes last
OF_A_CODE = 2  # dimensions a code of ivfpq stands for; vectors are padded with zeros to a multiple
CODES = 16  # values of a code: four bits, of which FAISS adds up 32 videos' at once in the processor's registers
OF_A_LIST = 64  # vectors of the sample that a list's centre is found by
LINKS, BUILDING = 32, 80  # of a graph: links a vector, and candidates looked at for them


def library():
    try:
        import faiss
    except ImportError:
        raise InputError(
            "approximate search wants FAISS: pip install -r requirements-scale.txt; without it, --backend exact"
        ) from None
    return faiss


@dataclass
class Index:
    """rows (M,) of the vectors, in the order in which the index holds them: that of time, where there is one."""

    kind: str
    faiss_index: Any
    rows: np.ndarray
    seconds: float = 0.0

    @property
    def described(self) -> str:
        lists = "" if self.kind == "hnsw" else f", {self._inverted.nlist} lists"
        return f"{self.kind} of {len(self.rows)} vectors{lists}, FAISS {library().__version__}"

    # ---- what a query costs --------------------------------------------------------------------

    @property
    def effort_name(self) -> str:
        return "efSearch" if self.kind == "hnsw" else "nprobe"

    @property
    def widening(self) -> int:
        """Proposals for each neighbour: of codes of four bits for two dimensions, the nearest few are not certain."""
        return 12 if self.kind == "ivfpq" else 1

    def efforts(self) -> Iterator[int]:
        """Each half more than the one before; the last looks at everything."""
        effort = self.least_effort
        while effort < self.most_effort:
            yield effort
            effort += max(1, effort // 2)
        yield self.most_effort

    @property
    def least_effort(self) -> int:
        return min(64, self.most_effort) if self.kind == "hnsw" else max(1, self._inverted.nlist // 128)

    @property
    def most_effort(self) -> int:
        return min(4096, len(self.rows)) if self.kind == "hnsw" else self._inverted.nlist

    @property
    def _inverted(self):
        return library().extract_index_ivf(self.faiss_index)

    def propose(self, query: np.ndarray, count: int, cut: int, effort: int) -> np.ndarray:
        """For unit vectors (n, R), of the first `cut` rows it holds: (n, count) rows of the vectors, -1 pads."""
        faiss = library()
        chosen = {"sel": faiss.IDSelectorRange(0, cut)} if cut < len(self.rows) else {}
        if self.kind == "hnsw":
            how = faiss.SearchParametersHNSW(efSearch=max(effort, count), **chosen)
        else:
            how = faiss.SearchParametersIVF(nprobe=effort, **chosen)
        _, found = self.faiss_index.search(padded(query), min(count, cut), params=how)
        return np.where(found >= 0, self.rows[np.maximum(found, 0)], -1)


# ---- on the disk ----------------------------------------------------------------------------------------------------


def open_index(
    folder: Path, source: str, kind: str, vectors: np.ndarray, bank: np.ndarray, since: np.ndarray | None, say=print
) -> Index:
    """The index of the rows `bank` (M,) of vectors (N, R) in the data set's `folder`, made or grown where it has to be.

    since (N,): rows are held in its order. An index of other vectors, or of another bank, is made anew.
    """
    place = folder / FOLDER / f"{source}.{kind}"
    paths = {end: place.with_name(f"{place.name}.{end}") for end in ("json", "rows.npy", "faiss")}
    faiss, rows = library(), known_rows(paths, vectors, bank, since is not None)
    old = rows is not None
    later = in_order(np.setdiff1d(bank, rows) if old else bank, since)
    if old and not len(later):
        return Index(kind, faiss.read_index(str(paths["faiss"]), faiss.IO_FLAG_MMAP_IFC), rows)
    if old:
        say(f"{paths['faiss']}: {len(later)} vectors are added to its {len(rows)}")
        made, rows = faiss.read_index(str(paths["faiss"])), np.concatenate([rows, later])
    else:
        say(f"{paths['faiss']}: made of {len(later)} vectors")
        made, rows = trained(kind, vectors, later), later
    fill(made, kind, vectors, later)
    place.parent.mkdir(exist_ok=True)
    paths["json"].unlink(missing_ok=True)  # what is being replaced is no index until this is there again
    with written_beside(paths["faiss"]) as partial:
        faiss.write_index(made, str(partial))
    with written_beside(paths["rows.npy"]) as partial, partial.open("wb") as file:
        np.save(file, rows)
    content = {"kind": kind, "items": len(vectors), "vectors": digest_to(vectors, len(vectors))}
    write_json(paths["json"], content | {"by_time": since is not None, "sha256": sha256_of(paths["faiss"])})
    return Index(kind, faiss.read_index(str(paths["faiss"]), faiss.IO_FLAG_MMAP_IFC), rows)


def known_rows(paths: dict[str, Path], vectors: np.ndarray, bank: np.ndarray, by_time: bool) -> np.ndarray | None:
    """The rows of the index that is there; None where it is damaged, of other vectors, or holds more than the bank."""
    try:
        said, rows = read_json(paths["json"]), np.array(open_array(paths["rows.npy"]))
        known = int(said["items"])
        same = known <= len(vectors) and digest_to(vectors, known) == said["vectors"]
        fits = rows.ndim == 1 and np.isin(rows, bank).all() and said["by_time"] >= by_time
        return rows if same and fits and sha256_of(paths["faiss"]) == said["sha256"] else None
    except (InputError, OSError, KeyError, TypeError, ValueError):
        return None


def in_order(rows: np.ndarray, since: np.ndarray | None) -> np.ndarray:
    return rows if since is None else rows[np.argsort(since[rows], kind="stable")]


def trained(kind: str, vectors: np.ndarray, rows: np.ndarray):
    """An empty index; what it is trained on is a seeded sample of the rows."""
    if kind == "ivfpq" and len(rows) < CODES:
        raise InputError(f"--backend ivfpq: its codes are made of {CODES} vectors or more, the bank has {len(rows)}")
    faiss, width = library(), padded_width(vectors.shape[-1])
    lists = max(1, min(int(4 * len(rows) ** 0.5), len(rows) // 39))  # FAISS wants 39 vectors a list at least
    what = {
        "hnsw": f"HNSW{LINKS},SQfp16",
        "ivf": f"IVF{lists},SQfp16",
        "ivfpq": f"IVF{lists},PQ{width // OF_A_CODE}x4fs",
    }
    index = faiss.index_factory(width, what[kind], faiss.METRIC_INNER_PRODUCT)
    if kind == "hnsw":
        index.hnsw.efConstruction = BUILDING
    most = max(OF_A_LIST * lists, 20_000)
    sample = np.sort(np.random.default_rng(0).choice(rows, min(most, len(rows)), replace=False))
    index.train(padded(unit(vectors[sample])))
    return index


def fill(index, kind: str, vectors: np.ndarray, rows: np.ndarray) -> None:
    """Add the rows, in their order."""
    faiss = library()
    threads = faiss.omp_get_max_threads()
    if kind == "hnsw":  # several threads would link in another order each time
        faiss.omp_set_num_threads(1)
    try:
        step = max(1, BLOCK_BYTES // (4 * int(np.prod(vectors.shape[1:]))))
        with tqdm(total=len(rows), desc="indexing", unit="video", **PROGRESS_BAR) as bar:
            for start in range(0, len(rows), step):
                part = rows[start : start + step]
                index.add(padded(unit(vectors[part])))
                bar.update(len(part))
    finally:
        faiss.omp_set_num_threads(threads)


def padded_width(width: int) -> int:
    return -(-width // OF_A_CODE) * OF_A_CODE


def padded(vectors: np.ndarray) -> np.ndarray:
    """(n, R) -> (n, R') float32 with zeros up to a multiple of OF_A_CODE."""
    more = padded_width(vectors.shape[1]) - vectors.shape[1]
    return np.pad(vectors, ((0, 0), (0, more))) if more else vectors


def digest_to(vectors: np.ndarray, count: int) -> str:
    """The digest of the first `count` rows, as common/arrays.py has it of a whole array."""
    sha = digest_of((count, *vectors.shape[1:]), vectors.dtype)
    step = max(1, BLOCK_BYTES // max(1, vectors[:1].nbytes))
    for start in range(0, count, step):
        sha.update(np.ascontiguousarray(vectors[start : min(start + step, count)]))
    return sha.hexdigest()
