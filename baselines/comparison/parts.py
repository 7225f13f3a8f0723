"""What a comparison is made on: a data set or its folds, and the rows that can do with what it has."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from baselines import recipe
from baselines.comparison.cells import Row, Setting, grouped
from baselines.comparison.children import Children, threads_each
from baselines.comparison.folds import make_folds
from common.console import InputError
from dataloader.neighbours import Neighbours, sources_of
from dataloader.opening import choose
from dataloader.store import FeatureStore


@dataclass(frozen=True)
class Part:
    """A data set that every row is tested on: the one that was named, or one of its folds."""

    store: FeatureStore
    neighbours: Neighbours | None
    setting: Setting

    @property
    def test(self) -> np.ndarray:
        return self.store.rows("test")


def truth_of(parts: list[Part]) -> np.ndarray:
    """(n, label_dim) of all test items, part after part."""
    return np.concatenate([part.store.items.label[part.test] for part in parts])


def users_of(parts: list[Part]) -> np.ndarray:
    """(n,) who made each of them, "" where unknown."""
    return np.concatenate([part.store.items.user[part.test] for part in parts])


def those_that_can(
    rows: list[Row], store: FeatureStore, reference: str | None, ablate: bool
) -> tuple[list[Row], dict[str, str]]:
    """The rows that can do with what the data set has, whose packages are installed, and why the others cannot.

    InputError where the reference that was typed, or that is to be ablated, is among the others.
    """
    left_out = {}
    for row in rows:
        try:
            typed = {flag.lstrip("-") for flag in grouped(row.flags)}
            typed = {name: value for name, value in row.settings.items() if name in typed}
            recipe(row.method).require()
            choose(store, recipe(row.method).wants(row.settings | {"model_id": row.method}, typed))
        except InputError as error:
            if not store.modalities or row.name == reference or (ablate and row is rows[0]):
                raise InputError(f"row {row.name}: {error}", error.lacks) from None
            left_out[row.name] = str(error)
            print(f"left out: {row.name}: {error}")
    return [row for row in rows if row.name not in left_out], left_out


def parts_of(
    store: FeatureStore,
    neighbours: Neighbours | None,
    place: Path,
    by: str | None,
    folds: int,
    jobs: int,
    device: str,
) -> list[Part]:
    """The data sets that every row is trained and tested on: the one that was named, or its folds in `place`."""
    threads = threads_each(jobs)
    found = [(store, neighbours)]
    if by:
        found = make_folds(store, neighbours, place, folds, by, device, Children(None))
        for fold, _ in found:
            fold.check_features(*fold.modalities)
    return [
        Part(
            one,
            its_neighbours,
            Setting(
                place=one.folder if by else place,
                dataset_path=str(one.folder.parent),
                dataset_id=one.folder.name,
                device=device,
                fingerprint=one.fingerprint,
                neighbours={source: Neighbours.read(one, source).digest() for source in sources_of(one)},
                threads=threads,
                fold=f"fold {number}" if by else "",
            ),
        )
        for number, (one, its_neighbours) in enumerate(found, start=1)
    ]
