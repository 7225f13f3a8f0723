"""Features into a data set: what is checked before they are made, and how they are written. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from common.arrays import Derived, Rows
from common.console import InputError
from common.files import require_writable
from dataloader.importing.scaling import add_normalised
from dataloader.metadata import HAS_SOUND
from dataloader.modalities import AUDIO
from dataloader.store import UNSCALED, FeatureStore
from feature_engineering.settings import StorageSettings

# Of what dataset.json says of features: how often the data set had grown when the words that are in them were counted;
# and what is compared by itself, follows from the rest, or, as FITTED, is no matter of a command.
FITTED = "fitted"
BESIDE = ("encoder", "made_of", "statistics", UNSCALED, FITTED)
REPLACES = "--overwrite replaces them"


def write_features(
    store: FeatureStore, names: list[str], array: np.ndarray | Rows | Derived, storage: StorageSettings, source: dict
) -> None:
    """Write `array` (N, ..., D) as the features `names`; source: what dataset.json says of where it comes from."""
    for name in names:
        how = {"dtype": storage.dtype, "like": storage.like, "overwrite": True}
        add_normalised(store, name, array, storage.normalise, **how, **source)
        shape = " x ".join(map(str, array.shape))
        print(f"{store.folder / name}.npy: {shape} {storage.dtype}, data set fingerprint {store.fingerprint}")


def check_before_encoding(
    store: FeatureStore, names: list[str], storage: StorageSettings, source: Mapping[str, Any], overwrite: bool
) -> None:
    """InputError for what would else be told of when an encoder is loaded, or, after hours, when features are written.

    source: what is known of it by then.
    """
    require_writable(store.folder)
    if "standard" in storage.normalise:
        store.rows("train")  # Statistics are taken over split train: this raises the InputError where it is empty.
    columns = store.metadata.columns if store.metadata is not None else {}
    if AUDIO in names and HAS_SOUND in columns and HAS_SOUND not in store.description.added_columns:
        raise InputError(
            f"{store.folder}: its table has a column {HAS_SOUND}, which is the name of what is found out about the "
            "sound; import the table with another name of it"
        )
    refuse_others(store, names, storage, source, overwrite)


def is_made(
    store: FeatureStore, names: list[str], storage: StorageSettings, source: Mapping[str, Any], overwrite: bool
) -> bool:
    """Whether the features `names` are there, all of them; InputError as by `refuse_others`."""
    if not (there := refuse_others(store, names, storage, source, overwrite)) or len(there) < len(names):
        return False
    print(f"{' and '.join(str(store.folder / f'{name}.npy') for name in names)}: made already, nothing is to be done")
    return True


def refuse_others(
    store: FeatureStore, names: list[str], storage: StorageSettings, source: Mapping[str, Any], overwrite: bool
) -> list[str]:
    """Those of `names` that are there; InputError, with what differs, where they are not as they would be made.

    source: as `write_features` gets it, and `frame_num` of features that are there frame by frame. None count as there
    that are to be replaced, or of which the work has not ended: then it was started with --overwrite, or was killed
    after it had written them and before it had removed its progress.
    """
    if overwrite or any(store.folder.glob(f"{names[0]}*.progress")):
        return []
    wanted = source | {"dtype": storage.dtype, "normalise": storage.normalise}
    there = [name for name in names if name in store.features]
    for name in there:
        feature = store.description.features[name]
        framed = {"frame_num": feature.shape[1]} if len(feature.shape) == 3 else {}
        if other := differences({"dtype": feature.dtype, "normalise": "none"} | framed | feature.made, wanted):
            raise InputError(f"{store.folder}: other {name} features are here already ({other}); {REPLACES}")
    return there


def differences(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> str:
    """What is not as it would be made, in words; both: as dataset.json says it, `encoder` and all."""
    found, wanted = facts(found), facts(wanted)
    # Earlier versions said less of an encoder; whether there was one, all of them say.
    said = (found.keys() & wanted.keys()) | ((found.keys() ^ wanted.keys()) & {"encoder", "source"})
    other = [key for key in sorted(said) if found.get(key) != wanted.get(key)]
    return "; ".join(f"{key} {found.get(key, 'none')}, now {wanted.get(key, 'none')}" for key in other)


def facts(made: Mapping[str, Any]) -> dict[str, Any]:
    """What features were made of and how, name by name; not where an encoder lay, nor what follows from the rest."""
    found = {key: value for key, value in made.items() if key not in BESIDE}
    encoder = {key: value for key, value in made.get("encoder", {}).items() if key not in ("name", "folder")}
    found |= {"encoder": made["encoder"]["name"]} if "encoder" in made else {}
    found |= {f"encoder's {key}": value for key, value in encoder.items()}
    return found | {f"{name} features": sha256 for name, sha256 in made.get("made_of", {}).items()}
