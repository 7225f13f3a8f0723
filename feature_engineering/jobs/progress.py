"""Progress: what a long job has finished, in shards, so that a killed one goes on and ends with the same bits."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from common import manifest
from common.arrays import digest, reserve
from common.console import InputError
from common.files import make_folder, open_array, read_json, sync_folder, whole_lines, write_json, written_beside
from common.room import naming

Shards = list[tuple[int, range]]  # numbers, and the units of each


class Progress:
    """A folder with `settings.json`, `features.npy` (U, ...) of the units' vectors, and `done.jsonl`, a line a shard.

    A shard is a range of units, always the same ones and always computed alone, so its bits do not depend on what
    was done before it. It counts as done once its line is on the disk, which comes after its vectors. The line has a
    digest of both: a shard that is damaged when the job goes on is not done, and is made anew.
    """

    def __init__(self, folder: Path, keys: list[str], shard_size: int, done: dict[int, dict]):
        self.folder, self.keys, self.shard_size, self.done = folder, keys, shard_size, done
        self.total, self.features = len(keys), None

    @classmethod
    def open(cls, folder: Path, settings: dict, keys: Sequence[str], shard_size: int, restart: bool) -> Progress:
        """Begin, or go on with what is in `folder`; InputError where that is the work of other settings.

        settings: all that the result depends on, besides `keys`, the units' names. restart: begin anew in any case.
        Where all is done, `keys` may also be those of the units that did not fail: the others have been left out.
        """
        path, keys, settings = folder / "settings.json", list(keys), settings | {"shard_size": shard_size}
        if restart or not path.exists():
            shutil.rmtree(folder, ignore_errors=True)
            make_folder(folder)
            manifest.begin(folder)
            write_json(folder / "units.json", {"keys": keys})
            write_json(path, settings)  # It comes last, as a run goes on with a folder that has this file.
            return cls(folder, keys, shard_size, {})
        for file in (path, folder / "units.json"):
            manifest.require_whole(file, "--overwrite drops the unfinished work and begins anew")
        found = read_json(path)
        if other := [name for name in settings.keys() | found.keys() if settings.get(name) != found.get(name)]:
            both = (f"{name} {found.get(name)}, now {settings.get(name)}" for name in sorted(other))
            raise other_work(folder, "; ".join(both))
        units = read_json(folder / "units.json").get("keys")
        progress = cls(folder, units if isinstance(units, list) else [], shard_size, cls._read_done(folder))
        complete, left_out = not any(progress.pending()), keys != progress.keys
        if left_out and not (complete and keys == progress.kept):
            raise other_work(folder, "other items")
        progress._open_features()
        if left_out and any(progress.pending()):
            raise InputError(f"{folder}: damaged, and items of it are left out already; --overwrite begins anew")
        return progress

    def _open_features(self) -> None:
        """Open the vectors that are there; what is damaged of them, or of what was noted, is not done."""
        path = self.folder / "features.npy"
        if path.exists():
            open_array(path)  # This raises the InputError where the file is truncated.
            self.features = np.lib.format.open_memmap(path, mode="r+")
        rows = 0 if self.features is None else len(self.features)
        if rows != self.total and (rows or any(shard.get("vectors") for shard in self.done.values())):
            raise other_work(self.folder, f"{rows} vectors for {self.total} units")
        bad = [number for number, shard in self.done.items() if not self._is_whole(number, shard)]
        for number in bad:
            del self.done[number]
        if bad:
            print(f"{path}: {len(bad)} of its shards are damaged (or their lines in done.jsonl) and are made anew")
        if self.features is not None and not any(shard.get("vectors") for shard in self.done.values()):
            self.features = None  # Its head may be what is damaged, so the file is begun anew too.

    def _is_whole(self, number: int, shard: dict) -> bool:
        """Whether the digest in its line, which those of earlier versions do not have, is that of a shard."""
        if "sha256" not in shard:
            return True
        start, vectors = number * self.shard_size, None
        if shard.get("vectors"):
            vectors = self.features[start : start + self.shard_size]
        return shard["sha256"] == digest_of_shard(shard, vectors)

    @staticmethod
    def _read_done(folder: Path) -> dict[int, dict]:
        path, done = folder / "done.jsonl", {}
        if not path.exists():
            return done
        lines = whole_lines(path)
        try:
            for line in lines:
                shard = json.loads(line)
                if not all(isinstance(shard.get(name, {}), dict) for name in ("failed", "captured")):
                    raise ValueError("not written by commit")
                done[int(shard["shard"])] = shard
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError, OverflowError):
            raise InputError(
                f"{path}: not the file of a job's progress; --overwrite drops it and begins anew"
            ) from None
        with written_beside(path) as partial:
            partial.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
        return done

    def pending(self) -> Iterator[tuple[int, range]]:
        """The shards that are not done, and the units of each."""
        for number, start in enumerate(range(0, self.total, self.shard_size)):
            if number not in self.done:
                yield number, range(start, min(start + self.shard_size, self.total))

    @property
    def units_done(self) -> int:
        return self.total - sum(len(units) for _, units in self.pending())

    def commit(self, number: int, vectors: np.ndarray | None, **notes) -> None:
        """A shard is done: its vectors (units of it, ...), and what else is to be known of it, as JSON."""
        if vectors is not None:
            if self.features is None:
                path = self.folder / "features.npy"
                with written_beside(path) as partial:
                    shape = (self.total, *vectors.shape[1:])
                    np.lib.format.open_memmap(partial, mode="w+", dtype=np.float32, shape=shape)
                    reserve(partial)
                self.features = np.lib.format.open_memmap(path, mode="r+")
            start = number * self.shard_size
            self.features[start : start + len(vectors)] = vectors
            self.features.flush()
        shard = {"shard": number, "vectors": vectors is not None, **notes}
        shard["sha256"] = digest_of_shard(shard, vectors)
        path = self.folder / "done.jsonl"
        first = not path.exists()
        with naming(path), path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(shard, ensure_ascii=False) + "\n")
            file.flush()
            os.fsync(file.fileno())
        if first:
            sync_folder(self.folder)
        self.done[number] = shard

    def notes(self, name: str) -> dict:
        """One note of all shards, which are dictionaries, merged."""
        return {key: value for number in sorted(self.done) for key, value in self.done[number].get(name, {}).items()}

    @property
    def failed(self) -> dict[str, str]:
        """Unit -> why there are no vectors of it."""
        return self.notes("failed")

    @property
    def kept(self) -> list[str]:
        failed = self.failed
        return [key for key in self.keys if key not in failed]

    def remove(self) -> None:
        self.features = None
        shutil.rmtree(self.folder, ignore_errors=True)


def digest_of_shard(shard: dict, vectors: np.ndarray | None) -> str:
    """Of its line, but for the digest itself, and of its vectors (units of it, ...)."""
    said = {name: value for name, value in shard.items() if name != "sha256"}
    text = json.dumps(said, ensure_ascii=False, sort_keys=True)
    stored = "" if vectors is None else digest(np.asarray(vectors, np.float32))
    return hashlib.sha256(f"{text} {stored}".encode("utf-8", "surrogatepass")).hexdigest()


def other_work(folder: Path, what: str) -> InputError:
    """What to raise where the progress in `folder` is of `what`."""
    return InputError(f"{folder}: the unfinished work of another command ({what}); --overwrite drops it, begins anew")
