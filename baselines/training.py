"""A run: a method's settings and a data set -> a trained method in a folder of its own."""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch

from baselines.predicting import refuse_other_similarities
from common import distributed
from common.console import InputError, listed
from common.lock import locked
from common.settings import made
from dataloader.calibration import CALIBRATION, why_none
from dataloader.describing import heading
from dataloader.encoding import FILE as ENCODING
from dataloader.opening import open_data
from dataloader.statistics import CREATOR
from dataloader.store import FeatureStore
from dataloader.yardsticks import yardsticks
from engine.caveats import too_few
from engine.intervals import Intervals
from engine.method import History, Prediction
from engine.recipe import Recipe
from engine.run import Run
from engine.settings import TrainingSettings
from engine.yardsticks import shortfalls


def train(
    how: Recipe,
    settings: dict[str, Any],
    typed: Mapping[str, Any],
    store: FeatureStore,
    device: torch.device,
    run: Run | None,
    command: list[str],
    calibrates: bool | None = None,
) -> tuple[Run, History]:
    """Train as `settings` say on the data set of `store`: in a new run's folder, or on in `run`.

    typed: the flags that the user gave, so that what contradicts a choice is told from a default. command: what
    repeats it. Weights are drawn as torch is seeded, which is left to the caller: before the data are opened, too.
    calibrates: whether a part of split valid is held back for intervals; as the method does if not given.

    Of several processes that train together (common/distributed.py) the first one alone writes, and what follows the
    fit is its own; to the others the run is what it is called.
    """
    # A broken TensorBoard or an absent library is told of before the features are read.
    importlib.import_module("engine.network" if how.network else "engine.estimator")
    how.made()
    model_id, resumed = settings["model_id"], run is not None
    splits = ("train", "valid", "test") if how.transductive else ("train", "valid")
    held, none = holds_back(how, store, run, calibrates)
    data = open_data(store, replace(how.wants(settings, typed), calibrates=held), splits)
    known, valid = data.splits["train"], data.splits["valid"]
    if settings["label_dim"] not in (None, store.items.label_dim):
        raise InputError(
            f"--label_dim {settings['label_dim']}: {store.folder} has {store.items.label_dim} "
            f"({', '.join(store.label.names)}); leave the flag out"
        )
    # The items to be tested, without their labels: a transductive method learns from their features too.
    unlabelled = data.splits["test"].unlabelled() if how.transductive else None
    training = made(TrainingSettings, settings)
    training.check_labels(store, known, valid, how.network)
    numbers = data.encoding.numbers if data.encoding else 0
    arguments = how.arguments(settings, data.shapes, data.used, store.items.label_dim, [*data.sources], numbers)
    description = {"family": store.family, "fingerprint": store.fingerprint, "label": store.label.as_json()}
    metadata = {"metadata": data.kinds, "consequences": store.description.consequences} if data.kinds else {}
    metadata |= {"metadata_features": data.encoding.names} if data.encoding else {}
    sketches = data.sketches()
    config = {
        "command": command,
        "settings": settings,
        "model": arguments,
        "data": description | {"modalities": list(data.taken)} | metadata,
        "neighbours": data.neighbours and data.neighbours.described(),
        **({"sources": {name: found.digest() for name, found in data.sources.items()}} if data.sources else {}),
        **({"similarities": sketches} if sketches else {}),
        **({"creators": True} if data.creators else {}),
        **({"lists": {name: [one.k, one.bank] for name, one in data.sources.items()}} if data.sources else {}),
        **({"calibrates": True} if held else {}),
        **({"processes": [distributed.count()]} if distributed.count() > 1 else {}),
    }
    writes = distributed.is_first()
    if not resumed:
        run = Run.create(settings["save"], f"{model_id}_{settings['dataset_id']}", config) if writes else None
        run = distributed.agreed(run)
        for what, *_ in run.unlike(config):
            raise InputError(f"{store.folder}: other {what} than where process 0 runs; copy the data set from there")
    distributed.goes_on_with(run.folder)
    with locked(run.folder) if writes else contextlib.nullcontext():
        if resumed:
            refuse_other_similarities(run, data, "bring the old ones back or train anew")
            run.go_on(config)
        if data.encoding and writes and not (resumed and (run.folder / ENCODING).exists()):
            data.encoding.save(run.folder)
        method = how.build(store.family, arguments, training, device, run)
        run.log(
            f"{'resuming' if resumed else 'run'} {run.folder}: {model_id} ({store.family}) on {store.folder}, "
            f"{len(known)} train and {len(valid)} valid videos, {', '.join(data.used)} features, {method.device}"
            f"{f', {distributed.count()} processes' if distributed.count() > 1 else ''}"
        )
        run.log(heading(store, data.neighbours, metadata=data.kinds is not None))
        if held:
            run.log(f"{len(data.splits[CALIBRATION])} more of split valid are held back to calibrate intervals")
        if none:
            run.log(f"note: no intervals: {none}")
        if data.kinds:
            run.log(f"metadata: {', '.join(f'{name} ({kind})' for name, kind in data.kinds.items())}")
            if data.encoding and not how.any_modality:
                run.log(
                    f"note: {model_id} as published knows no metadata; they stand behind the textual vector, which is "
                    "ours"
                )
        if data.encoding:
            run.log(f"{len(data.encoding.names)} features made of columns: {listed(data.encoding.names, 10)}")
        if data.sources or data.creators:
            named = [*data.sources, *([CREATOR] if data.creators else [])]
            columns = f"; {len(known.statistics.names)} columns" if known.statistics else ""
            each = ""
            if known.neighbours is not None:
                each = f"{(known.neighbours.ids >= 0).sum(axis=1).mean():.1f} candidates a video, and "
            run.log(f"{each}statistics of neighbours' labels: {', '.join(named)}{columns}")
        absent = [name for name in how.modalities if name not in store.modalities]
        if absent and not how.any_modality:
            ablation = f", as its ablation --no_{absent[0]} does" if f"no_{absent[0]}" in settings else ""
            run.log(f"note: no {absent[0]} features in the data set: {model_id} runs without them{ablation}")
        history = method.fit(known, valid, unlabelled)
        if not writes:
            return run, history
        if history.best_epoch:
            best = history.epochs[history.best_epoch - 1]
            measured = "  ".join(f"{name} {value:.4f}" for name, value in best["valid"].items())
            run.log(f"best {history.unit} {history.best_epoch} of {len(history.epochs)}: valid {measured}")
        if not history.interrupted:
            found = Prediction.of(method, valid)
            worse = shortfalls(yardsticks(store, valid.rows), "valid", found.mean, valid.label, store.label)
            for warning in [*too_few(store.items, "valid"), *worse]:
                run.log(warning)
            if held:
                calibration = data.splits[CALIBRATION]
                calibrate(run, Intervals.fit(data, valid, found, calibration, Prediction.of(method, calibration)))
    return run, history


def holds_back(how: Recipe, store: FeatureStore, run: Run | None, calibrates: bool | None) -> tuple[bool, str | None]:
    """Whether a run holds items of split valid back for intervals, a resumed one as it did; and why it cannot."""
    if run is not None:
        return bool(run.config.get("calibrates", False)), None
    if not (how.calibrates if calibrates is None else calibrates):
        return False, None
    none = why_none(store)
    return none is None, none


def calibrate(run: Run, intervals: Intervals) -> None:
    """Keep them in the run's folder, and say so."""
    intervals.save(run.folder)
    for line in intervals.described():
        run.log(line)
