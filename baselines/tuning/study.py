"""The study on the disk: Optuna's SQLite file, made whole or not at all, and gone on with only for the same search."""

from __future__ import annotations

import importlib
import sqlite3
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from common.console import InputError, in_one_line, listed
from common.files import written_beside

if TYPE_CHECKING:
    from optuna import Study
    from optuna.trial import FrozenTrial

NAME, MADE_OF, SECONDS, SCALE = "search", "made_of", "seconds", "scale"  # the study's name, and its attributes
CELLS, REASON, PRUNED = "cells", "reason", "pruned"  # a trial's attributes
WORDS = {"method": "method", "flags": "--flags", "seeds": "seeds", "data": "data sets", "space": "search space"}


def library():
    """Optuna, imported on use; InputError where it is not there."""
    try:
        optuna = importlib.import_module("optuna")
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "optuna":
            raise
        raise InputError(
            "tune.py needs the package optuna, which is not installed; pip install -r requirements-tune.txt"
        ) from None
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)  # its WilcoxonPruner still is
    return optuna


def open_study(path: Path, made_of: Mapping[str, Any]) -> Study:
    """The study in `path`, made now where there is none.

    made_of: what its trials are made of, in words; InputError where those that are there are of something else.
    """
    optuna = library()
    if not path.exists():
        with written_beside(path) as partial:  # a study that is there always says what it is made of
            storage = opened(partial)
            optuna.create_study(storage=storage, study_name=NAME).set_user_attr(MADE_OF, made_of)
            storage.remove_session()
            storage.engine.dispose()
    pruner = optuna.pruners.WilcoxonPruner()  # its documentation: for means over problem instances, as cells are
    try:
        require_study(path)
        study = optuna.load_study(storage=opened(path), study_name=NAME, pruner=pruner)
        before, trials = study.user_attrs[MADE_OF], study.get_trials()
        whole = isinstance(study.user_attrs.get(SECONDS, 0.0), float) and all(map(is_ours, trials))
        differences = found_differences(before, made_of)
        if not whole:
            raise ValueError("attributes of another program")
    # What a damaged database makes of Optuna and of SQLAlchemy is no closed list.
    except Exception as error:
        said = in_one_line(error)
        raise InputError(f"{path}: damaged or not a study of tune.py ({said}); move it away to begin anew") from None
    if differences:
        raise InputError(
            f"{path}: a study of another search ({'; '.join(differences)}); nothing was changed, and --name or --save "
            "gives this one a place of its own"
        )
    return study


def opened(path: Path):
    """Optuna's storage in `path`, given as it is: in a URL some of its letters would mean something."""
    from optuna.storages import RDBStorage

    return RDBStorage("sqlite:///study.db", engine_kwargs={"creator": lambda: sqlite3.connect(path, timeout=30)})


def require_study(path: Path) -> None:
    """An error where SQLite finds damage or none of Optuna's tables: Optuna would add its own to what is there."""
    connection = sqlite3.connect(path)  # not read-only: of a killed process it puts the last transaction right
    try:
        (said,) = connection.execute("PRAGMA quick_check(1)").fetchone()
        if said != "ok":
            raise ValueError(said)
        connection.execute("SELECT study_name FROM studies").fetchone()
    finally:
        connection.close()


def is_ours(trial: FrozenTrial) -> bool:
    """Whether a finished trial has what this program writes of one."""
    return not counts(trial) or isinstance(trial.user_attrs.get(CELLS), dict)


def found_differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """A few words for each part that is another: `seeds 1 2, now 3 4`."""
    found = []
    for part, what in WORDS.items():
        old, new = before[part], now[part]
        if isinstance(new, Mapping):  # only what differs of it
            names = [
                name for name in (*old, *(name for name in new if name not in old)) if old.get(name) != new.get(name)
            ]
            old = listed(f"{name} {old[name]}" for name in names if name in old) or "without"
            new = listed(f"{name} {new[name]}" for name in names if name in new) or "without"
        if old != new:
            found.append(f"{what} {old or 'none'}, now {new or 'none'}")
    return found


def counts(trial: FrozenTrial) -> bool:
    """Whether a trial came to an end: to a value, or to a failure that says why. An interrupted one is done again."""
    return trial.state.name == "COMPLETE" or (trial.state.name == "FAIL" and REASON in trial.user_attrs)


def finished(study: Study) -> list[FrozenTrial]:
    """The trials that count, in order: the first are the defaults."""
    return [trial for trial in study.get_trials(deepcopy=False) if counts(trial)]


def best_of(trials: list[FrozenTrial]) -> FrozenTrial | None:
    """A pruned one is never it: a trial is pruned only where the best one is better than what there is of it."""
    done = [trial for trial in trials if trial.value is not None and not trial.user_attrs.get(PRUNED)]
    return min(done, key=lambda trial: (trial.value, trial.number), default=None)
