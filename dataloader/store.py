"""FeatureStore: one data set's folder on disk, opened, checked, memory-mapped and written.

`python -m dataloader.store <folder>` prints what is in it, and with --audit what in it makes results look too good.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from common import manifest
from common.arrays import Joined, digest, reserve, scan
from common.console import InputError, run_script
from common.files import make_folder, open_array, sync_folder, written_beside
from dataloader.checks import check_content, not_finite
from dataloader.description import FILE, Description, Feature, Label
from dataloader.items import Items
from dataloader.metadata import FILE as METADATA_FILE
from dataloader.metadata import Metadata
from dataloader.modalities import METADATA, MODALITIES, RETRIEVAL, axes, in_order
from dataloader.names import DTYPES, SPLITS
from dataloader.place import AGAIN, Lacks
from dataloader.replacing import NEXT, UNSCALED, finish_replacement, write_next
from dataloader.thumbnails import FILE as THUMBNAILS

if TYPE_CHECKING:
    from dataloader.neighbours import Neighbours

# Beside the arrays, of the same items.
LEFT_BY_STEPS = ("skipped.csv", "captured.jsonl", "captions.jsonl", "video_files.json", THUMBNAILS)
UNFINISHED = "unfinished"  # in dataset.json, until all is there that its import brings


class FeatureStore:
    """One data set: `items`, memory-mapped `features` by name, and its `description`.

    features: visual (N, F, Dv), textual (N, Dt), retrieval (N, R) and any others; any that are not there are no part of
    the data set. metadata: typed columns of the N items, None where there are none. `FeatureStore.open(folder)` reads
    items, metadata and headers only, never the features; it raises InputError with all that does not fit.
    """

    def __init__(self, folder: Path, items: Items, description: Description):
        self.folder, self.items, self.description = Path(folder), items, description
        self.features: dict[str, np.ndarray] = {}
        self.metadata: Metadata | None = None
        # Of what a run sees of a data set that has grown (dataloader/growing.py): which of train it was trained on,
        # who searches the neighbours of the items that are asked about, and what has been fitted for earlier ones.
        self.learned: np.ndarray | None = None  # (N,) bool
        self.search: Callable[[str], Neighbours] | None = None
        self.memory: dict[Any, Any] | None = None

    # ---- opening -------------------------------------------------------------------------------

    @classmethod
    def open(
        cls, folder: Path | str, need: Sequence[str] = (), *, unfinished: bool = False, anew: Sequence[str] = ()
    ) -> FeatureStore:
        """Open the store in `folder`; `need` names the features that must be there.

        unfinished: also where an import was stopped, which leaves a data set without all that it should have. anew:
        features that the caller makes anew, so that they are not there where their file is lost or damaged.
        """
        folder = Path(folder)
        finish_replacement(folder)
        if not (folder / FILE).is_file():
            known = sorted(path.parent.name for path in folder.parent.glob(f"*/{FILE}"))
            others = f"{folder.parent} has {', '.join(known)}" if known else f"there is none in {folder.parent}"
            raise InputError(f"{folder}: no data set here (no {FILE}; {others})", Lacks("data set", folder))
        store = cls(folder, Items.read(folder / "items.parquet"), Description.read(folder / FILE))
        if UNFINISHED in store.description.lineage and not unfinished:
            raise InputError(
                f"{folder}: unfinished, as its import was stopped; the same command goes on, or with --overwrite anew"
            )
        store._check_items()
        for name in store.description.features:
            if name == METADATA:
                store.metadata = store._open_metadata()
            else:
                try:
                    store.features[name] = store._open(name)
                except InputError:
                    if name not in anew:
                        raise
        store.require(need)
        return store

    def require(self, names: Sequence[str]) -> None:
        """InputError where one of these kinds of features is not there."""
        if missing := [name for name in names if name not in (*self.features, *self.modalities)]:
            lacks = Lacks("features", self.folder, missing[0])
            raise InputError(f"{self.folder}: no {' and no '.join(missing)} features yet", lacks)

    def _check_items(self) -> None:
        problems, names = self.items.problems(), self.description.label.names
        if self.items.digest() != self.description.items:
            problems.append(f"it is not the table that {FILE} describes (changed by hand?); import it anew")
        if len(names) != self.items.label_dim:
            problems.append(f"{self.items.label_dim} targets, {FILE} names {', '.join(names)}")
        if problems:
            raise InputError(f"{self.folder / 'items.parquet'}: {'; '.join(problems)}")

    def _open(self, name: str) -> np.ndarray:
        path, described = self.folder / f"{name}.npy", self.description.features[name]
        lacks = Lacks("features", self.folder, name, AGAIN)
        try:
            array = open_array(path)
        except InputError as error:
            raise InputError(str(error), lacks) from None
        problems = []
        if array.dtype.name not in DTYPES:
            problems.append(f"{array.dtype} values, expected {' or '.join(DTYPES)}")
        if array.ndim not in axes(name):
            problems.append(f"shape {array.shape}, expected {' or '.join(map(str, axes(name)))} axes")
        elif len(array) != len(self.items):
            problems.append(f"{len(array)} rows, but items.parquet has {len(self.items)}")
        if array.shape != described.shape or array.dtype.name != described.dtype:
            problems.append(f"not the array that {FILE} describes; write it anew")
        if problems:
            raise InputError(f"{path}: {'; '.join(problems)}", lacks)
        return array

    def _open_metadata(self) -> Metadata:
        path = self.folder / METADATA_FILE
        metadata, described = Metadata.read(path), self.description.features[METADATA]
        if metadata.digest() != described.sha256 or len(metadata) != len(self.items):
            raise InputError(f"{path}: not the columns that {FILE} describes (changed by hand?); import the data anew")
        return metadata

    # ---- what is in it -------------------------------------------------------------------------

    def __len__(self) -> int:
        return len(self.items)

    @property
    def dataset_id(self) -> str:
        return self.folder.resolve().name

    @property
    def family(self) -> str:
        return self.description.family

    @property
    def label(self) -> Label:
        return self.description.label

    @property
    def fingerprint(self) -> str:
        return self.description.fingerprint

    @property
    def modalities(self) -> tuple[str, ...]:
        """The kinds of features that a method can take, the known ones first."""
        there = [name for name in self.features if name != RETRIEVAL]
        return tuple(in_order([*there, METADATA] if self.metadata is not None else there))

    @property
    def arrays(self) -> tuple[str, ...]:
        """Those of them that are arrays of the store."""
        return tuple(name for name in self.modalities if name in self.features)

    def rows(self, split: str) -> np.ndarray:
        """The rows of `split`, ascending; InputError where there are none."""
        rows = self.items.rows(split)
        if not len(rows):
            counts = ", ".join(f"{name} {len(self.items.rows(name))}" for name in SPLITS)
            raise InputError(f"{self.folder}: split {split} is empty ({counts})")
        return rows

    @property
    def learned_rows(self) -> np.ndarray:
        """The rows of split train that what is fitted is fitted on: all, but of a data set that has grown since."""
        rows = self.rows("train")
        return rows if self.learned is None else rows[self.learned[rows]]

    def remembered(self, what: Any, make: Callable[[], Any]) -> Any:
        """What `make` makes, once for all views of a data set that share a memory."""
        if self.memory is None:
            return make()
        if what not in self.memory:
            self.memory[what] = make()
        return self.memory[what]

    def check_features(self, *names: str) -> list[str]:
        """What dataloader/checks.py checks of these arrays: InputError, or warnings about their scale.

        Metadata were checked when the store was opened.
        """
        found = {name: self.features[name] for name in names if name in self.features}
        # What stands behind the arrays of the store was checked when it was written.
        arrays = {name: array.first if isinstance(array, Joined) else array for name, array in found.items()}
        sha256 = {name: self.description.features[name].sha256 for name in arrays}
        return check_content(self.folder, arrays, sha256, self.items.item_id)

    # ---- writing -------------------------------------------------------------------------------

    @classmethod
    def create(
        cls,
        folder: Path | str,
        items: Items,
        *,
        family: str,
        label: Label,
        overwrite: bool = False,
        unfinished: bool = False,
    ) -> FeatureStore:
        """Write a data set without features; `add_array` adds them.

        unfinished: only whoever goes on with it can open it, until `finish`.
        """
        folder = Path(folder)
        if problems := items.problems():
            raise InputError(f"{folder}: not written: {'; '.join(problems)}")
        if not overwrite:
            refuse_to_overwrite(folder)
        make_folder(folder)
        # From here until dataset.json stands the folder holds no data set: half of one is never opened.
        # dataset.json.next goes first: with it, files of a killed `keep` would be put in place of the new ones.
        arrays = [f"{name}{kind}.npy" for name in _features_in(folder) for kind in ("", f".{UNSCALED}")]
        for name in (f"{FILE}{NEXT}", FILE, "neighbours.npz", METADATA_FILE, *arrays, *LEFT_BY_STEPS):
            (folder / name).unlink(missing_ok=True)
        for unfinished_job in (*folder.glob("*.progress"), *folder.glob("neighbours"), *folder.glob("index")):
            shutil.rmtree(unfinished_job)
        sync_folder(folder)
        manifest.begin(folder)
        items.write(folder / "items.parquet")
        # Items may be left out later; `imported` stays.
        lineage = {UNFINISHED: True} if unfinished else {}
        store = cls(folder, items, Description(family, label, items.digest(), items.digest(), lineage=lineage))
        store.description.write(folder / FILE)
        return store

    @classmethod
    def create_or_continue(cls, folder: Path | str, items: Items, *, family: str, label: Label, overwrite: bool):
        """`create`, or the data set that is there where it was made of the same items: work on it goes on.

        It counts as unfinished until `finish`.
        """
        folder = Path(folder)
        if overwrite or not (folder / FILE).exists():
            return cls.create(folder, items, family=family, label=label, overwrite=overwrite, unfinished=True)
        store = cls.open(folder, unfinished=True)
        if (store.description.imported, store.family, store.label) != (items.digest(), family, label):
            raise InputError(f"{folder}: a data set of other items or labels is here already; --overwrite replaces it")
        print(f"{folder}: the data set is there already, going on with it")
        return store

    def finish(self) -> None:
        """All that an import brings is there."""
        if UNFINISHED in self.description.lineage:
            said = {name: value for name, value in self.description.lineage.items() if name != UNFINISHED}
            self.description = replace(self.description, lineage=said)
            self.description.write(self.folder / FILE)

    def keep(self, kept: np.ndarray) -> FeatureStore:
        """The data set without the items that the mask `kept` (N,) leaves out, and without neighbours.

        Items and features are replaced together: a kill leaves the old data set, or the new one, which the next
        opening puts into place.
        """
        self.check_features(*self.features)  # what is damaged must not be written anew as if it were right
        write_next(self, kept)
        return FeatureStore.open(self.folder)

    @contextlib.contextmanager
    def add_array(self, name: str, shape: tuple[int, ...], dtype: str, *, overwrite=False, **made) -> Iterator:
        """Yield a writable array of `shape`; when the block ends well it becomes `<name>.npy`.

        made: what dataset.json should say of it (encoder, revision, normalisation ...).
        """
        if name in self.description.features and not overwrite:
            raise InputError(f"{self.folder / name}.npy exists; --overwrite replaces it")
        assert len(shape) in axes(name) and shape[0] == len(self) and dtype in DTYPES, (name, shape, dtype)
        path = self.folder / f"{name}.npy"
        with written_beside(path) as partial:
            array = np.lib.format.open_memmap(partial, mode="w+", dtype=dtype, shape=shape)
            reserve(partial)
            yield array
            array.flush()
            bad, _, _ = scan(array)
            if bad.any():
                raise InputError(f"{path}: not written: " + not_finite(bad, self.items.item_id))
            feature = Feature(tuple(shape), dtype, digest(array), made)
            # Withdrawn first: a kill between here and the last line leaves an array that is missing, not a wrong one.
            self._update_feature(name, None)
        self._update_feature(name, feature)
        self.features[name] = self._open(name)

    def add_metadata(self, metadata: Metadata, **made) -> None:
        """Write metadata.parquet, in place of what is there. made: what dataset.json should say of it."""
        assert len(metadata) == len(self)
        shape, made = (len(self), len(metadata.columns)), {"columns": metadata.kinds} | made
        self._update_feature(METADATA, None)
        metadata.write(self.folder / METADATA_FILE)
        self._update_feature(METADATA, Feature(shape, "columns", metadata.digest(), made))
        self.metadata = metadata

    def unscaled(self, name: str) -> np.ndarray:
        """The features `name` as they were before statistics of split train scaled them (--normalise standard)."""
        feature = self.description.features[name]
        path = self.folder / f"{name}.{UNSCALED}.npy"
        array = open_array(path) if UNSCALED in feature.made else None
        if array is None or array.shape != feature.shape or digest(array) != feature.made[UNSCALED]:
            why = "were not kept by the version that made them" if array is None else "are not those that were written"
            encoded = "encoder" in feature.made
            raise InputError(
                f"{path}: the {name} features before --normalise {feature.made.get('normalise')} {why}; "
                f"{'encode' if encoded else 'import'} them anew with --overwrite and the flags of then",
                Lacks("features", self.folder, name) if encoded else Lacks("data set", self.folder),
            )
        return array

    def adopt(self, name: str, other: FeatureStore) -> None:
        """Take the features `name` of a store of the same items, as a hard link where the disk has them.

        That is safe: the file of an array is never changed, only replaced.
        """
        file = METADATA_FILE if name == METADATA else f"{name}.npy"
        path, source = self.folder / file, other.folder / file
        with written_beside(path) as partial:
            try:
                partial.hardlink_to(source)
            except OSError:
                shutil.copyfile(source, partial)
        self._update_feature(name, other.description.features[name])
        if name == METADATA:
            self.metadata = self._open_metadata()
        else:
            self.features[name] = self._open(name)

    def note(self, **said) -> None:
        """Write something more about the data set into dataset.json; no fingerprint changes with it."""
        self.description = replace(self.description, lineage=self.description.lineage | said)
        self.description.write(self.folder / FILE)

    def _update_feature(self, name: str, feature: Feature | None) -> None:
        """Change one array's entry; those of other arrays may have come in since this store was opened."""
        now = self.described_now(name)
        changed = now.with_feature(name, feature)
        self.description = replace(self.description, features=changed.features)
        if changed.features != now.features:
            self.description.write(self.folder / FILE)

    def described_now(self, name: str) -> Description:
        """What dataset.json says now; InputError where the features `name` would be of other items."""
        now = Description.read(self.folder / FILE)
        if now.items != self.description.items:
            raise InputError(f"{self.folder}: its items were replaced meanwhile; {name} belongs to the old ones")
        return now


def _features_in(folder: Path) -> set[str]:
    """Names of the features that a data set in `folder` may have; other arrays that lie there are not its own."""
    try:
        described = Description.read(folder / FILE).features
    except (InputError, FileNotFoundError):
        described = {}
    return {*MODALITIES, RETRIEVAL, *described}


def refuse_to_overwrite(folder: Path) -> None:
    if (folder / FILE).exists():
        raise InputError(f"{folder}: a data set is here already; --overwrite replaces it")


if __name__ == "__main__":
    import commands

    from dataloader.describing import build_parser, main

    run_script(build_parser(), main, commands.remedy)
