"""Neighbours: which K items of the bank each item retrieves."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from common import manifest
from common.archives import opened, readable
from common.console import InputError, listed
from common.files import make_folder, written_beside
from dataloader.modalities import RETRIEVAL
from dataloader.names import BANKS, SKETCHED
from dataloader.place import Lacks
from dataloader.store import FeatureStore

ALIKE = 1e-5  # how far similarities of the same vectors may be apart, as found on two machines
FOLDER = "neighbours"  # beside neighbours.npz: of other sources, <source>.npz each


def path_of(folder: Path, source: str = RETRIEVAL) -> Path:
    """Where a data set's neighbours are, by the features that were compared: `retrieval`, or others."""
    return folder / "neighbours.npz" if source == RETRIEVAL else folder / FOLDER / f"{source}.npz"


def sources_of(store: FeatureStore) -> list[str]:
    """The features of whose comparison there are neighbours, `retrieval` first."""
    there = [name for name in (RETRIEVAL, *store.arrays) if path_of(store.folder, name).exists()]
    return list(dict.fromkeys(there))


def head_of(folder: Path, source: str = RETRIEVAL) -> tuple[int, str] | None:
    """How many neighbours an item has in the file of this source, and of which bank; the lists themselves are not read.

    None where there is no such file.
    """
    try:
        with opened(path_of(folder, source)) as archive:
            meta = json.loads(archive.text("meta"))
        k, bank = meta["k"], meta["bank"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    return (k, bank) if type(k) is int and k > 0 and isinstance(bank, str) and bank in BANKS else None


# What an item can retrieve of the bank where the data set is split by time, also within train.
KNOWN_BY = {
    "": "all of it",
    "label_time": "for each video those counted by the time it was published",
    "time": "for each video those published before it",
}


@dataclass(frozen=True)
class Known:
    """Of a data set that is split by time: what was known when, and when it is asked for; (N,) microseconds each."""

    since: np.ndarray  # int64; the largest one where it is never known
    asked: np.ndarray  # int64; one less than that for videos of an unknown time, which are tested on nothing

    @staticmethod
    def rule_of(store: FeatureStore) -> str:
        if not store.label.by_time:
            return ""
        return "label_time" if "label_time" in store.items.origin else "time"

    @classmethod
    def of(cls, store: FeatureStore) -> Known | None:
        """None where nothing is withheld."""
        rule, items, never = cls.rule_of(store), store.items, np.iinfo(np.int64).max
        if not rule:
            return None
        times = getattr(items, rule)
        since = times.astype(np.int64) + (rule == "time")  # published at the same moment is not before
        if rule == "label_time":  # nothing is counted before it is published, whatever the table says
            since = np.maximum(since, np.where(np.isnat(items.time), since, items.time.astype(np.int64)))
        asked = np.where(np.isnat(items.time), never - 1, items.time.astype(np.int64))
        return cls(np.where(np.isnat(times), never, since), asked)

    def allows(self, ids: np.ndarray) -> np.ndarray:
        """(N, K) ids of rows, -1 pads -> (N, K) whether each was known when its row's item was published."""
        return (ids < 0) | (self.since[ids] <= self.asked[:, None])


@dataclass(frozen=True)
class Neighbours:
    """Row i: item i's neighbours, best first. ids are rows of the store, -1 pads; similarity is their cosine."""

    ids: np.ndarray  # (N, K) int32
    similarity: np.ndarray  # (N, K) float32
    k: int
    bank: str  # which splits could be retrieved: a key of BANKS
    backend: str  # what searched
    fingerprint: str  # of the store that was searched
    known_by: str = ""  # what of the bank an item could retrieve: a key of KNOWN_BY
    recall: dict[str, float] | None = None  # of approximate search, on a sample: number of neighbours -> share found

    def write(self, store: FeatureStore, source: str = RETRIEVAL) -> Path:
        """source: the features that were compared."""
        path = path_of(store.folder, source)
        make_folder(path.parent)
        manifest.begin(path.parent)
        described = {key: value for key, value in asdict(self).items() if not isinstance(value, np.ndarray)}
        with written_beside(path) as partial, partial.open("wb") as file:
            np.savez(
                file,
                ids=self.ids.astype(np.int32, copy=False),
                similarity=self.similarity.astype(np.float32, copy=False),
                meta=np.array(json.dumps(described)),
            )
        return path

    @classmethod
    def read(cls, store: FeatureStore, source: str = RETRIEVAL) -> Neighbours:
        """The neighbours of `store`; InputError where they belong to another store or bank, or make no sense."""
        if store.search is not None:
            return store.search(source)
        path, of = path_of(store.folder, source), "" if source == RETRIEVAL else f" --source {source}"
        lacks = Lacks("neighbours", store.folder, flags=of)
        otherwise = "truncated or not a neighbours file"
        try:
            with opened(path, otherwise) as archive, readable(path, otherwise):
                arrays = {name: archive.read(name) for name in ("ids", "similarity")}
                found = cls(**arrays, **json.loads(archive.text("meta")))
        except FileNotFoundError:
            raise InputError(f"{path}: no neighbours yet", lacks) from None
        except InputError as error:
            raise InputError(str(error), lacks) from None
        if isinstance(found.bank, str) and found.bank in BANKS:
            lacks = replace(lacks, flags=f"{of} --bank {found.bank}")
        if found.fingerprint != store.fingerprint:
            raise InputError(
                f"{path}: made for another state of the data set (fingerprint {found.fingerprint}, "
                f"now {store.fingerprint})",
                lacks,
            )
        if problems := found._problems(store):
            raise InputError(f"{path}: {'; '.join(problems)}", lacks)
        if not manifest.is_whole(path):
            raise InputError(f"{path}: {manifest.said_of_damage('nothing else is lost with it')}", lacks)
        return found

    def _problems(self, store: FeatureStore) -> list[str]:
        n, ids = len(store), self.ids
        numbers = type(self.k) is int and ids.dtype == np.int32 and self.similarity.dtype == np.float32
        if not numbers or ids.shape != (n, self.k) or self.similarity.shape != ids.shape:
            of = self.similarity
            said = f"ids {ids.shape} {ids.dtype} and similarity {of.shape} {of.dtype}, expected ({n}, {self.k})"
            return [f"{said} int32 and float32"]
        if not isinstance(self.bank, str) or self.bank not in BANKS:
            return [f"bank {self.bank!r} is unknown (known: {', '.join(BANKS)})"]
        if not isinstance(self.known_by, str) or self.known_by not in KNOWN_BY:
            return [
                f"the rule {self.known_by!r} of what was known is none (known: {', '.join(filter(None, KNOWN_BY))})"
            ]
        if ids.min(initial=-1) < -1 or ids.max(initial=-1) >= n:
            return [f"rows from {ids.min()} to {ids.max()}, expected 0 to {n - 1}, or -1"]
        found = []
        in_bank = np.append(self.in_bank(store), True)  # the last stands for -1, a pad
        if (foreign := ~in_bank[ids].all(axis=1)).any():
            found.append(f"neighbours outside the bank {self.bank} (of {listed(store.items.item_id[foreign])})")
        if self.known_by != (rule := Known.rule_of(store)):
            found.append(f"made with another rule of what was known, {KNOWN_BY[self.known_by]}, not {KNOWN_BY[rule]}")
        elif (known := Known.of(store)) and (late := ~known.allows(ids).all(axis=1)).any():
            found.append(f"neighbours of which nothing was known then (of {listed(store.items.item_id[late])})")
        if (itself := (ids == np.arange(n)[:, None]).any(axis=1)).any():
            found.append(f"items that retrieve themselves ({listed(store.items.item_id[itself])})")
        if not np.isfinite(self.similarity[ids >= 0]).all():
            found.append("similarities that are not finite")
        return found

    def in_bank(self, store: FeatureStore) -> np.ndarray:
        """(N,) which items can be retrieved."""
        return np.isin(store.items.split, BANKS[self.bank])

    def digest(self) -> str:
        """16 hexadecimal digits that change with any neighbour.

        Not with similarities: of the same vectors they differ by 1e-7 between devices and block sizes (`sketch`).
        """
        return hashlib.sha256(self.ids.tobytes()).hexdigest()[:16]

    def sketch(self) -> list[float]:
        """Sums of all similarities with signs that are the same everywhere: what a run keeps, to know them again."""
        values = np.where(self.ids >= 0, self.similarity, 0).ravel().astype(np.float64)  # (N * K,)
        drawn = np.random.PCG64(0).random_raw(len(values))
        return [float(np.where(drawn >> bit & 1, values, -values).sum()) for bit in range(SKETCHED)]

    def has_similarities(self, sketch: list[float]) -> bool:
        """Whether all similarities are those of `sketch` but for what differs from machine to machine."""
        # Differences of at most ALIKE in all N * K places sum up like a random walk.
        far = 4 * ALIKE * np.sqrt(max(1, self.ids.size))
        return bool(np.allclose(self.sketch(), sketch, rtol=0, atol=far))

    def described(self) -> dict:
        """What a run says of them."""
        said = {"k": self.k, "bank": self.bank, "backend": self.backend, "digest": self.digest()}
        return said | ({"known_by": self.known_by} if self.known_by else {})

    @property
    def bank_in_words(self) -> str:
        return f"{self.bank}, {KNOWN_BY[self.known_by]}" if self.known_by else self.bank

    def disagreement(self, label: np.ndarray, rows: np.ndarray, k: int, temperature: float) -> np.ndarray:
        """(n, label_dim): deviation among labels (N, label_dim) of the first k, weighed; NaN where there are none."""
        ids, weight = self.weights(rows, k, temperature)  # (n, k)
        label = np.nan_to_num(label)[ids]  # (n, k, label_dim)
        mean = np.einsum("nk,nkt->nt", weight, label)
        spread = np.sqrt(np.einsum("nk,nkt->nt", weight, (label - mean[:, None]) ** 2))
        return np.where(weight.any(axis=1, keepdims=True), spread, np.nan)

    def weights(self, rows: np.ndarray, k: int, temperature: float) -> tuple[np.ndarray, np.ndarray]:
        """The first k neighbours of `rows` and softmax(similarity / temperature) over them, (n, k); pads weigh 0."""
        ids = self.ids[rows, :k]
        score = np.where(ids >= 0, self.similarity[rows, :k] / temperature, -np.inf).astype(np.float64)
        top = score.max(axis=1, keepdims=True)
        weight = np.exp(score - np.where(np.isfinite(top), top, 0))
        weight /= np.maximum(weight.sum(axis=1, keepdims=True), 1e-300)  # an item without neighbours aggregates zeros
        return np.maximum(ids, 0), weight.astype(np.float32)
