"""FeatureStore: one data set's folder on disk, opened, checked, memory-mapped and written.

`python -m dataloader.store <folder>` prints what is in it.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from common.arrays import blocks, digest, reserve, scan
from common.console import InputError, Parser, listed, run_script
from common.files import open_array, read_json, write_json, written_beside
from dataloader.checks import not_finite, scale_warning
from dataloader.items import Items
from dataloader.names import DTYPES, FAMILIES, SPLITS
from dataloader.place import ARRAYS, encoding_command, maker_command

FORMAT = 1
UNSCALED = "unscaled"  # <name>.unscaled.npy: features before statistics of split train scaled them
LEFT_BY_STEPS = ("skipped.csv", "captured.jsonl", "captions.jsonl")  # beside the arrays, of the same items
NEXT = ".next"  # behind the names of files that wait to replace those of a data set


class FeatureStore:
    """One data set: `items`, memory-mapped `visual` (N, F, Dv), `textual` (N, Dt), `retrieval` (N, R), and `info`.

    `FeatureStore.open(folder)` reads items and headers only, never the features; it raises InputError with
    all that does not fit. `info` is the content of `dataset.json`.
    """

    def __init__(self, folder: Path, items: Items, info: dict):
        self.folder, self.items, self.info = Path(folder), items, info
        self.arrays: dict[str, np.ndarray] = {}

    # ---- opening -------------------------------------------------------------------------------

    @classmethod
    def open(cls, folder: Path | str, need: tuple[str, ...] = ()) -> FeatureStore:
        """Open the store in `folder`; `need` names the arrays that must be there."""
        folder = Path(folder)
        _finish_replacement(folder)
        if not (folder / "dataset.json").is_file():
            known = sorted(path.parent.name for path in folder.parent.glob("*/dataset.json"))
            others = f"{folder.parent} has {', '.join(known)}" if known else f"there is none in {folder.parent}"
            raise InputError(
                f"{folder}: no data set here (no dataset.json; {others}); make it with: {maker_command(folder)}"
            )
        info = _checked_info(folder / "dataset.json")
        store = cls(folder, Items.read(folder / "items.parquet"), info)
        store._check_items()
        for name in info["arrays"]:
            store.arrays[name] = store._open(name)
        if missing := [name for name in need if name not in store.arrays]:
            command = encoding_command(missing[0], folder)
            raise InputError(f"{folder}: no {' and no '.join(missing)} features yet; make them with: {command}")
        return store

    def _check_items(self) -> None:
        problems = self.items.problems()
        if self.items.digest() != self.info["items"]:
            problems.append("it is not the table that dataset.json describes (changed by hand?); import it anew")
        if len(self.info["label"]["names"]) != self.items.label_dim:
            problems.append(f"{self.items.label_dim} targets, dataset.json names {self.info['label']['names']}")
        if problems:
            raise InputError(f"{self.folder / 'items.parquet'}: {'; '.join(problems)}")

    def _open(self, name: str) -> np.ndarray:
        path, described = self.folder / f"{name}.npy", self.info["arrays"][name]
        array = open_array(path)
        problems = []
        if array.dtype.name not in DTYPES:
            problems.append(f"{array.dtype} values, expected {' or '.join(DTYPES)}")
        if array.ndim != ARRAYS[name]:
            problems.append(f"shape {array.shape}, expected {ARRAYS[name]} axes")
        elif len(array) != len(self.items):
            problems.append(f"{len(array)} rows, but items.parquet has {len(self.items)}")
        if list(array.shape) != described["shape"] or array.dtype.name != described["dtype"]:
            problems.append("not the array that dataset.json describes; write it anew")
        if problems:
            raise InputError(f"{path}: {'; '.join(problems)}")
        return array

    # ---- what is in it -------------------------------------------------------------------------

    def __len__(self) -> int:
        return len(self.items)

    @property
    def dataset_id(self) -> str:
        return self.folder.resolve().name

    @property
    def family(self) -> str:
        return self.info["family"]

    @property
    def fingerprint(self) -> str:
        """Changes with any id, text, label, split or feature of the data set; 16 hexadecimal digits."""
        content = {
            "items": self.info["items"],
            "arrays": {name: array["sha256"] for name, array in self.info["arrays"].items()},
            "family": self.family,
            "label": self.info["label"],
        }
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]

    @property
    def visual(self) -> np.ndarray:
        return self.arrays["visual"]

    @property
    def textual(self) -> np.ndarray:
        return self.arrays["textual"]

    @property
    def retrieval(self) -> np.ndarray:
        return self.arrays["retrieval"]

    def rows(self, split: str) -> np.ndarray:
        """The rows of `split`, ascending; InputError where there are none."""
        rows = self.items.rows(split)
        if not len(rows):
            counts = ", ".join(f"{name} {len(self.items.rows(name))}" for name in SPLITS)
            raise InputError(f"{self.folder}: split {split} is empty ({counts})")
        return rows

    def to_count(self, label: np.ndarray) -> np.ndarray:
        """Labels -> counts: the inverse of the data set's label transform."""
        transform = self.info["label"]
        return np.exp2(label) - transform["offset"] if transform["transform"] == "log2" else label

    def check_features(self, *names: str, directions: bool = False) -> list[str]:
        """Read the arrays; InputError on NaN, infinity or other content than was written; warnings about their scale.

        directions: all-zero rows, which have none, are an error too.
        """
        problems, warnings = [], []
        for name in names:
            bad, rms, zero = scan(self.arrays[name])
            found = [not_finite(bad, self.items.item_id)] if bad.any() else []
            if directions and zero.any():
                ids = listed(self.items.item_id[zero])
                found.append(f"{int(zero.sum())} all-zero vectors, which are similar to nothing (item ids {ids})")
            if not found and digest(self.arrays[name]) != self.info["arrays"][name]["sha256"]:
                found.append("not the array that was written (changed by hand?)")
            if found:
                remedy = encoding_command(name, self.folder)
                problems.append(
                    f"{self.folder / name}.npy: {'; '.join(found)}; encode anew with: {remedy} --overwrite and the "
                    "settings that dataset.json has of it"
                )
            elif warning := scale_warning(name, rms):
                warnings.append(f"{self.folder / name}.npy: {warning}")
        if problems:
            raise InputError("; ".join(problems))
        return warnings

    # ---- writing -------------------------------------------------------------------------------

    @classmethod
    def create(cls, folder: Path | str, items: Items, *, family: str, label: dict, overwrite=False) -> FeatureStore:
        """Write a data set without features; `add_array` adds them.

        label: {"names": one per target, "transform": "log2" or "none", "offset": what log2 was given besides the count}
        """
        folder = Path(folder)
        if problems := items.problems():
            raise InputError(f"{folder}: not written: {'; '.join(problems)}")
        if not overwrite:
            refuse_to_overwrite(folder)
        folder.mkdir(parents=True, exist_ok=True)
        # From here until dataset.json stands the folder holds no data set: half of one is never opened.
        # dataset.json.next goes first: with it, files of a killed `keep` would be put in place of the new ones.
        arrays = [f"{array}{kind}.npy" for array in ARRAYS for kind in ("", f".{UNSCALED}")]
        for name in (f"dataset.json{NEXT}", "dataset.json", "neighbours.npz", *arrays, *LEFT_BY_STEPS):
            (folder / name).unlink(missing_ok=True)
        for unfinished in folder.glob("*.progress"):
            shutil.rmtree(unfinished)
        items.write(folder / "items.parquet")
        store = cls(folder, items, {})
        digests = dict.fromkeys(("items", "imported"), items.digest())  # items may be left out later, imported stays
        store.info = {"format": FORMAT, "family": family, "label": label, **digests, "arrays": {}}
        store._write_info()
        return store

    @classmethod
    def create_or_continue(cls, folder: Path | str, items: Items, *, family: str, label: dict, overwrite: bool):
        """`create`, or the data set that is there where it was made of the same items: work on it goes on."""
        folder = Path(folder)
        if overwrite or not (folder / "dataset.json").exists():
            return cls.create(folder, items, family=family, label=label, overwrite=overwrite)
        store = cls.open(folder)
        if (store.info.get("imported"), store.family, store.info["label"]) != (items.digest(), family, label):
            raise InputError(f"{folder}: a data set of other items or labels is here already; --overwrite replaces it")
        print(f"{folder}: the data set is there already, going on with it")
        return store

    def keep(self, kept: np.ndarray) -> FeatureStore:
        """The data set without the items that the mask `kept` (N,) leaves out, and without neighbours.

        Items and features are replaced together: a kill leaves the old data set, or the new one, which the next
        opening puts into place.
        """
        for stale in self.folder.glob(f"*{NEXT}"):  # of a killed attempt
            stale.unlink()
        items = self.items.take(kept)
        new = FeatureStore(
            self.folder, items, self.info | {"items": items.digest(), "arrays": dict(self.info["arrays"])}
        )
        rows = np.flatnonzero(kept)
        for name, array in self.arrays.items():
            out, sha256 = _write_rows(array, rows, self.folder / f"{name}.npy{NEXT}")
            described = self.info["arrays"][name] | {"shape": list(out), "sha256": sha256}
            if UNSCALED in described:
                unscaled = self.unscaled(name)
                described[UNSCALED] = _write_rows(unscaled, rows, self.folder / f"{name}.{UNSCALED}.npy{NEXT}")[1]
            new.info["arrays"][name] = described
        items.write(self.folder / f"items.parquet{NEXT}")
        new._write_info(NEXT)
        return FeatureStore.open(self.folder)

    @contextlib.contextmanager
    def add_array(self, name: str, shape: tuple[int, ...], dtype: str, *, overwrite=False, **source) -> Iterator:
        """Yield a writable array of `shape`; when the block ends well it becomes `<name>.npy`.

        source: what dataset.json should say of it (encoder, revision, normalisation ...).
        """
        if name in self.info["arrays"] and not overwrite:
            raise InputError(f"{self.folder / name}.npy exists; --overwrite replaces it")
        assert len(shape) == ARRAYS[name] and shape[0] == len(self) and dtype in DTYPES, (name, shape, dtype)
        path = self.folder / f"{name}.npy"
        with written_beside(path) as partial:
            array = np.lib.format.open_memmap(partial, mode="w+", dtype=dtype, shape=shape)
            reserve(partial)
            yield array
            array.flush()
            bad, _, _ = scan(array)
            if bad.any():
                raise InputError(f"{path}: not written: " + not_finite(bad, self.items.item_id))
            described = {"shape": list(shape), "dtype": dtype, "sha256": digest(array), **source}
            # Withdrawn first: a kill between here and the last line leaves an array that is missing, not a wrong one.
            self._update_arrays(name, None)
        self._update_arrays(name, described)
        self.arrays[name] = self._open(name)

    def unscaled(self, name: str) -> np.ndarray:
        """The features `name` as they were before statistics of split train scaled them (--normalise standard)."""
        described = self.info["arrays"][name]
        path = self.folder / f"{name}.{UNSCALED}.npy"
        array = open_array(path) if UNSCALED in described else None
        if array is None or list(array.shape) != described["shape"] or digest(array) != described[UNSCALED]:
            why = "were not kept by the version that made them" if array is None else "are not those that were written"
            encoded = "encoder" in described
            remedy = encoding_command(name, self.folder) if encoded else maker_command(self.folder)
            raise InputError(
                f"{path}: the {name} features before --normalise {described.get('normalise')} {why}; "
                f"{'encode' if encoded else 'import'} them anew with: {remedy} --overwrite and the flags of then"
            )
        return array

    def adopt(self, name: str, other: FeatureStore) -> None:
        """Take the array `name` of a store of the same items, as a hard link where the disk has them.

        That is safe: the file of an array is never changed, only replaced.
        """
        path, source = self.folder / f"{name}.npy", other.folder / f"{name}.npy"
        with written_beside(path) as partial:
            try:
                partial.hardlink_to(source)
            except OSError:
                shutil.copyfile(source, partial)
        self._update_arrays(name, other.info["arrays"][name])
        self.arrays[name] = self._open(name)

    def note(self, **said) -> None:
        """Write something more about the data set into dataset.json; no fingerprint changes with it."""
        self.info |= said
        self._write_info()

    def _update_arrays(self, name: str, described: dict | None) -> None:
        """Change one array's entry; those of other arrays may have come in since this store was opened."""
        now = _checked_info(self.folder / "dataset.json")
        if now["items"] != self.info["items"]:
            raise InputError(f"{self.folder}: its items were replaced meanwhile; {name} belongs to the old ones")
        self.info["arrays"] = {key: value for key, value in now["arrays"].items() if key != name}
        if described is not None:
            self.info["arrays"][name] = described
        if self.info["arrays"] != now["arrays"]:
            self._write_info()

    def _write_info(self, suffix: str = "") -> None:
        packages = ("torch", "transformers", "numpy", "pandas", "pyarrow", "scikit-learn")
        self.info["versions"] = {package: importlib.metadata.version(package) for package in packages}
        self.info["fingerprint"] = self.fingerprint
        write_json(self.folder / f"dataset.json{suffix}", self.info)


def _finish_replacement(folder: Path) -> None:
    """Put the files that `keep` wrote into place: dataset.json.next, written last, says that they are complete."""
    if (folder / f"dataset.json{NEXT}").exists():
        arrays = [folder / f"{name}{kind}.npy" for name in ARRAYS for kind in ("", f".{UNSCALED}")]
        for path in (folder / "items.parquet", *arrays, folder / "dataset.json"):
            if (new := path.with_name(path.name + NEXT)).exists():
                (folder / "neighbours.npz").unlink(missing_ok=True)  # their rows are the old ones
                new.replace(path)


def _write_rows(array: np.ndarray, rows: np.ndarray, path: Path) -> tuple[tuple[int, ...], str]:
    """Write these rows of `array` to `path`; their shape and digest."""
    with written_beside(path) as partial:
        shape = (len(rows), *array.shape[1:])
        out = np.lib.format.open_memmap(partial, mode="w+", dtype=array.dtype, shape=shape)
        reserve(partial)
        for block in blocks(array, len(rows)):
            out[block] = array[rows[block]]
        out.flush()
        return shape, digest(out)


def refuse_to_overwrite(folder: Path) -> None:
    if (folder / "dataset.json").exists():
        raise InputError(f"{folder}: a data set is here already; --overwrite replaces it")


def _checked_info(path: Path) -> dict:
    info = read_json(path)
    label, arrays = info.get("label"), info.get("arrays")
    sound = (
        info.get("format") == FORMAT
        and info.get("family") in FAMILIES
        and isinstance(info.get("items"), str)
        and isinstance(label, dict)
        and isinstance(label.get("names"), list)
        and label.get("transform") in ("log2", "none")
        and isinstance(label.get("offset"), int | float)
        and isinstance(arrays, dict)
        and set(arrays) <= set(ARRAYS)
        and all(isinstance(a, dict) and {"shape", "dtype", "sha256"} <= set(a) for a in arrays.values())
        and all(isinstance(a.get("made_of", {}), dict) for a in arrays.values())
    )
    if not sound:
        raise InputError(f"{path}: not a dataset.json of format {FORMAT} (truncated or edited?); import the data anew")
    return info


if __name__ == "__main__":
    from dataloader.describing import describe

    parser = Parser(prog="python -m dataloader.store", description="Print what a data set holds.")
    parser.add_argument("folder", help="the data set's folder: <dataset_path>/<dataset_id>")
    run_script(parser, lambda args: print(describe(FeatureStore.open(args.folder))))
