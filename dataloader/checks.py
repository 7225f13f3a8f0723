"""What is checked of a data set's features, and when: their content, once a command.

Opening a data set looks at shapes and at its description alone. A command that computes with features has their content
read once, against NaN, infinity and the digest of what was written; the scripts that it starts on the same files know
by CHECKED that this is done. Features are checked when they are written, too.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from common.arrays import digest, scan
from common.console import InputError, listed
from dataloader.place import AGAIN, Lacks

if TYPE_CHECKING:
    from dataloader.store import FeatureStore

CHECKED = "MMRA_CHECKED"  # environment variable: the files that the command that started this one has checked
MOST_PASSED_ON = 200  # files; an environment variable has no room for thousands

SATURATING_RMS = 10.0  # a linear layer's output then has a standard deviation near 6: tanh is +-1


def not_finite(bad: np.ndarray, item_ids: np.ndarray) -> str:
    return f"{int(bad.sum())} of {len(bad)} items have NaN or infinite values (item ids {listed(item_ids[bad])})"


def scale_warning(name: str, rms: float) -> str | None:
    if rms <= SATURATING_RMS:
        return None
    return (
        f"the {name} values have a root mean square of {rms:,.0f}; above {SATURATING_RMS:g} they saturate the "
        f"networks: import them with --normalise {name}=standard (or {name}=l2)"
    )


def require_labels_that_differ(store: FeatureStore) -> None:
    """InputError where all items of split train have the same label of a target: there is nothing to learn."""
    label = store.items.label[store.rows("train")]  # (n, L)
    for name, values in zip(store.label.names, label.T, strict=True):
        if (values == values[0]).all():
            raise InputError(
                f"{store.folder}: the {len(values)} items of split train all have the label {values[0]:.6g} of {name}, "
                "so that there is nothing to learn; is it the right column of the table?"
            )


def check_content(
    folder: Path, arrays: dict[str, np.ndarray], sha256: dict[str, str], item_ids: np.ndarray
) -> list[str]:
    """Read the arrays; InputError on NaN, infinity or other content than was written; warnings about their scale.

    sha256: of each array, as it was written.
    """
    problems, warnings, lacks = [], [], []
    for name, array in arrays.items():
        path = folder / f"{name}.npy"
        state = f"{_state(path)} {sha256[name]}"
        if state in _seen:
            warnings += _seen[state]
            continue
        bad, rms, _ = scan(array)
        found = [not_finite(bad, item_ids)] if bad.any() else []
        if not found and digest(array) != sha256[name]:
            found.append("not the array that was written (changed by hand?)")
        if found:
            problems.append(f"{path}: {'; '.join(found)}")
            lacks.append(Lacks("features", folder, name, AGAIN))
            continue
        warning = scale_warning(name, rms)
        _seen[state] = [f"{path}: {warning}"] if warning else []
        warnings += _seen[state]
    if problems:
        raise InputError("; ".join(problems), lacks[0])
    return warnings


def checked() -> dict[str, str]:
    """Environment variables for a script that is started on the same files."""
    return {CHECKED: "\n".join(list(_seen)[-MOST_PASSED_ON:])}


# a file in its state -> the warnings about it
_seen: dict[str, list[str]] = {state: [] for state in os.environ.get(CHECKED, "").split("\n")}


def _state(path: Path) -> str:
    """What changes with the file's content; the same for a hard link to it, as a fold has of its data set."""
    stat = path.stat()
    return f"{stat.st_dev} {stat.st_ino} {stat.st_size} {stat.st_mtime_ns}"
