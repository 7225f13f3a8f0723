"""The data sets that a search is made on: opened and checked for the method before anything is trained."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from baselines.comparison.cells import Setting, grouped
from baselines.parser import parse_flags
from baselines.tuning.plan import Plan
from common.console import InputError
from dataloader.neighbours import Neighbours
from dataloader.opening import choose, sources_wanted
from dataloader.place import Lacks, folder_of
from dataloader.store import FeatureStore


@dataclass(frozen=True)
class DataSet:
    """One of them: its fingerprint, and the digest and number of the neighbours that the method reads, by source."""

    folder: Path
    fingerprint: str
    digests: dict[str, str] = field(default_factory=dict)
    k: int | None = None  # how many an item; None for a method that takes fewer than it asks for

    @property
    def name(self) -> str:
        return self.folder.name

    def __str__(self) -> str:
        digests = "".join(f", {name} neighbours {digest}" for name, digest in self.digests.items())
        return f"fingerprint {self.fingerprint}{digests}"

    def setting(self, place: Path, device: str, threads: int | None) -> Setting:
        """What compare.py's cells share, with their folders in `place`."""
        return Setting(
            place=place / "runs" / self.name,
            dataset_path=str(self.folder.parent),
            dataset_id=self.name,
            device=device,
            fingerprint=self.fingerprint,
            neighbours=self.digests,
            threads=threads,
        )


def open_data_sets(plan: Plan, dataset_path: str, dataset_ids: Sequence[str]) -> list[DataSet]:
    """InputError where one of them is not what the method, with the flags that all trials have, can do with."""
    if len(set(dataset_ids)) < len(dataset_ids):
        raise InputError(f"--dataset_id {' '.join(dataset_ids)}: each data set once")
    return [open_data_set(plan, folder_of(dataset_path, name)) for name in dataset_ids]


def open_data_set(plan: Plan, folder: Path, warn: bool = True) -> DataSet:
    how, settings = plan.how, parse_flags(plan.method, plan.fixed) | {"model_id": plan.method}
    typed = {flag.removeprefix("--") for flag in grouped(plan.fixed)}
    wants = how.wants(settings, {name: value for name, value in settings.items() if name in typed})
    store = FeatureStore.open(folder)
    choose(store, wants)
    # The items of split test are opened for a method that learns from their features; nobody is given their labels.
    for split in ("train", "valid", *(["test"] if how.transductive else [])):
        store.rows(split)
    for warning in store.check_features(*store.modalities) if warn else []:
        print(f"warning: {warning}", file=sys.stderr)
    if wants.neighbours is None:
        return DataSet(folder, store.fingerprint)
    if wants.neighbours == "aggregated":
        sources = {"retrieval": Neighbours.read(store)}
        if wants.k > sources["retrieval"].k:  # those of several sources are checked where these are opened
            raise InputError(
                f"--num_of_retrieved_items {wants.k}: {store.folder} holds {sources['retrieval'].k} an item",
                Lacks("neighbours", store.folder, flags=f" --num_of_retrieved_items {wants.k}"),
            )
    else:
        sources, _ = sources_wanted(store, wants)
    k = None if wants.as_columns else min((one.k for one in sources.values()), default=None)
    return DataSet(folder, store.fingerprint, {name: found.digest() for name, found in sources.items()}, k)
