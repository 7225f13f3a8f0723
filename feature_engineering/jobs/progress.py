"""Progress: what a long job has finished, in shards, so that a killed one goes on and ends with the same bits."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from common.arrays import reserve
from common.console import InputError
from common.files import open_array, read_json, whole_lines, write_json, written_beside


class Progress:
    """A folder with `settings.json`, `features.npy` (U, ...) of the units' vectors, and `done.jsonl`, a line a shard.

    A shard is a range of units, always the same ones and always computed alone, so its bits do not depend on what
    was done before it. It counts as done once its line is on the disk, which comes after its vectors.
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
            write_json(folder / "units.json", {"keys": keys})
            write_json(path, settings)  # It comes last, as a run goes on with a folder that has this file.
            return cls(folder, keys, shard_size, {})
        found = read_json(path)
        if other := [name for name in settings.keys() | found.keys() if settings.get(name) != found.get(name)]:
            both = (f"{name} {found.get(name)}, now {settings.get(name)}" for name in sorted(other))
            raise other_work(folder, "; ".join(both))
        units = read_json(folder / "units.json").get("keys")
        progress = cls(folder, units if isinstance(units, list) else [], shard_size, cls._read_done(folder))
        complete = not any(progress.pending())
        if keys != progress.keys and not (complete and keys == progress.kept):
            raise other_work(folder, "other items")
        if (folder / "features.npy").exists():
            open_array(folder / "features.npy")  # This raises the InputError where the file is damaged.
            progress.features = np.lib.format.open_memmap(folder / "features.npy", mode="r+")
        rows = 0 if progress.features is None else len(progress.features)
        if rows != progress.total and (rows or any(shard.get("vectors") for shard in progress.done.values())):
            raise other_work(folder, f"{rows} vectors for {progress.total} units")
        return progress

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
        except (ValueError, KeyError, TypeError, AttributeError):
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
        with (self.folder / "done.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(shard, ensure_ascii=False) + "\n")
            file.flush()
            os.fsync(file.fileno())
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


def other_work(folder: Path, what: str) -> InputError:
    """What to raise where the progress in `folder` is of `what`."""
    return InputError(f"{folder}: the unfinished work of another command ({what}); --overwrite drops it, begins anew")
