"""Features into a data set: what is checked before they are made, and how they are written. Imports no torch."""

from __future__ import annotations

import numpy as np

from common.arrays import Derived, Rows
from common.console import InputError
from common.files import require_writable
from dataloader.importing.scaling import add_normalised
from dataloader.metadata import HAS_SOUND
from dataloader.modalities import AUDIO
from dataloader.store import FeatureStore
from feature_engineering.settings import StorageSettings


def write_features(
    store: FeatureStore, names: list[str], array: np.ndarray | Rows | Derived, storage: StorageSettings, source: dict
) -> None:
    """Write `array` (N, ..., D) as the features `names`; source: what dataset.json says of where it comes from."""
    for name in names:
        how = {"dtype": storage.dtype, "like": storage.like, "overwrite": True}
        add_normalised(store, name, array, storage.normalise, **how, **source)
        shape = " x ".join(map(str, array.shape))
        print(f"{store.folder / name}.npy: {shape} {storage.dtype}, data set fingerprint {store.fingerprint}")


def check_before_encoding(store: FeatureStore, names: list[str], storage: StorageSettings, overwrite: bool) -> None:
    """InputError for what would else fail only when the features, after hours of encoding, are written."""
    require_writable(store.folder)
    if "standard" in storage.normalise:
        store.rows("train")  # Statistics are taken over split train: this raises the InputError where it is empty.
    columns = store.metadata.columns if store.metadata is not None else {}
    if AUDIO in names and HAS_SOUND in columns and HAS_SOUND not in store.description.added_columns:
        raise InputError(
            f"{store.folder}: its table has a column {HAS_SOUND}, which is the name of what is found out about the "
            "sound; import the table with another name of it"
        )
    # An unfinished run is gone on with although there are features: it was started with --overwrite, or it was killed
    # after it had written them and before it had removed its progress.
    unfinished = (store.folder / f"{names[0]}.progress").exists()
    if not (overwrite or unfinished) and (there := [name for name in names if name in store.features]):
        raise InputError(f"{store.folder}: {' and '.join(there)} features are here already; --overwrite replaces them")
