"""A run: a method's settings and a data set -> a trained method in a folder of its own."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from baselines import build, class_of, recipe
from common.console import InputError
from common.devices import pick_device
from common.files import require_writable
from common.seeding import seed_everything
from common.settings import made
from dataloader.batches import Split, choose_frames, open_split
from dataloader.neighbours import Neighbours
from dataloader.place import Lacks, folder_of
from dataloader.store import FeatureStore
from engine.recipe import RETRIEVAL, Recipe
from engine.run import Run
from engine.settings import TrainingSettings


def train(settings: dict[str, Any], typed: Mapping[str, Any], run: Run | None, command: list[str]) -> None:
    """Train as the flags `settings` say, in a new run's folder, or on in `run`, whose settings they are then.

    typed: those that the user gave, so that what contradicts a choice is told from a default. command: what repeats it.
    """
    device = pick_device(settings["device"])
    method_recipe, resumed = recipe(settings["model_id"]), run is not None
    require_writable(run.folder if resumed else Path(settings["save"]))
    store = FeatureStore.open(folder_of(settings["dataset_path"], settings["dataset_id"]))
    chosen = choose_modalities(method_recipe, settings, typed, store)
    modalities = method_recipe.used(settings, chosen)
    class_of(settings["model_id"], store.family)  # what cannot be imported is told of before a run's folder is made
    for warning in store.check_features(*modalities):
        print(f"warning: {warning}", file=sys.stderr)
    neighbours = Neighbours.read(store) if method_recipe.retrieves(settings) else None
    how = splitting(method_recipe, settings, modalities, neighbours)
    known, valid = (open_split(store, split, **how) for split in ("train", "valid"))
    check_labels(settings, store, known, valid)
    # The items to be tested, without their labels: a transductive method learns from their features too.
    unlabelled = open_split(store, "test", **how).unlabelled() if method_recipe.transductive else None
    shapes = shapes_of(store, settings["frame_num"])
    arguments = method_recipe.arguments(settings, shapes, modalities, store.items.label_dim)
    config = run_config(settings, store, chosen, neighbours, arguments, command)
    if resumed:
        check_same_data(run, config)
        run.change_settings(epochs=settings["epochs"])
    else:
        run = Run.create(settings["save"], f"{settings['model_id']}_{settings['dataset_id']}", config)

    seed_everything(settings["seed"])
    method = build(settings["model_id"], store.family, arguments, made(TrainingSettings, settings), device, run)
    run.log(
        f"{'resuming' if resumed else 'run'} {run.folder}: {settings['model_id']} ({store.family}) on {store.folder}, "
        f"{len(known)} train and {len(valid)} valid videos, {', '.join(modalities)} features, {method.device}"
    )
    if absent := [name for name in method_recipe.modalities if name not in store.modalities]:
        what = f"no {' and no '.join(absent)} features in the data set"
        run.log(f"note: {what}: {settings['model_id']} runs without them, as its ablation does")
    report(run, method.fit(known, valid, unlabelled))


def choose_modalities(
    method_recipe: Recipe, settings: Mapping[str, Any], typed: Mapping[str, Any], store: FeatureStore
) -> tuple[str, ...]:
    """Which features the method takes; InputError where it cannot do with what there is, or where flags contradict."""
    if not store.modalities:
        first = method_recipe.modalities[-1]
        raise InputError(f"{store.folder}: no features yet", Lacks("features", store.folder, first))
    try:
        chosen = method_recipe.chosen(settings, store.modalities)
    except InputError as error:
        raise InputError(f"{store.folder}: {error}") from None
    if "feature_num" in typed and settings["feature_num"] != len(chosen):
        raise InputError(
            f"--feature_num {settings['feature_num']}: it is the number of feature kinds, and {settings['model_id']} "
            f"takes {len(chosen)}, {' and '.join(chosen)} (the width of the features is --feature_dim)"
        )
    if settings["frame_num"] is not None and "visual" not in chosen:
        raise InputError(f"--frame_num {settings['frame_num']}: no visual features are taken; leave it out")
    return chosen


def shapes_of(store: FeatureStore, frame_num: int | None) -> dict[str, tuple[int, ...]]:
    """Modality -> the shape of an item's features, with as many frames as are used."""
    shapes = {name: store.features[name].shape[1:] for name in store.modalities}
    if "visual" in shapes:
        stored, dimension = shapes["visual"]
        shapes["visual"] = (len(choose_frames(stored, frame_num)), dimension)
    return shapes


def splitting(
    method_recipe: Recipe, settings: Mapping[str, Any], modalities: Sequence[str], neighbours: Neighbours | None
) -> dict[str, Any]:
    """How open_split is to open every split of a run."""
    retrieval = {name: settings[name] for name in RETRIEVAL} if neighbours is not None else {}
    how = {"modalities": modalities, "frame_num": settings["frame_num"], "neighbours": neighbours}
    return how | {"neighbours_as": method_recipe.neighbours} | retrieval


def check_labels(settings: Mapping[str, Any], store: FeatureStore, train: Split, valid: Split) -> None:
    label_dim = store.items.label_dim
    if settings["label_dim"] not in (None, label_dim):
        names = ", ".join(store.label.names)
        raise InputError(
            f"--label_dim {settings['label_dim']}: {store.folder} has {label_dim} ({names}); leave the flag out"
        )
    metric = settings.get("metric", ())  # networks alone choose an epoch by it
    if "SRC" in metric or "nMSE" in metric:
        for t, name in enumerate(store.label.names):
            if np.ptp(valid.label[:, t]) == 0:
                raise InputError(
                    f"--metric {'+'.join(metric)}: all {len(valid)} labels {name} of split valid are equal, so "
                    f"nMSE and SRC are not defined in {store.folder}; take MAE or RMSE, or another split"
                )
    labels = np.concatenate([train.label, valid.label])
    if settings.get("loss") == "BCE" and (labels.min() < 0 or labels.max() > 1):
        raise InputError(
            f"--loss BCE: needs labels in [0, 1], {store.folder} has {labels.min():g} to {labels.max():g}; take MSE"
        )


def run_config(
    settings: dict,
    store: FeatureStore,
    modalities: Sequence[str],
    neighbours: Neighbours | None,
    arguments: dict,
    command: list[str],
) -> dict:
    return {
        "command": command,
        "settings": settings,
        "model": arguments,
        "data": {
            "family": store.family,
            "fingerprint": store.fingerprint,
            "label": store.label.as_json(),
            "modalities": list(modalities),
        },
        "neighbours": None
        if neighbours is None
        else {"k": neighbours.k, "bank": neighbours.bank, "backend": neighbours.backend, "digest": neighbours.digest()},
    }


def check_same_data(run: Run, config: dict) -> None:
    for part, what in (("data", "data set"), ("neighbours", "neighbours"), ("model", "dimensions")):
        if run.config.get(part) != config[part]:
            raise InputError(
                f"--resume {run.folder}: the {what} changed since it was trained ({run.config.get(part)}, now "
                f"{config[part]}); bring the old ones back or train anew"
            )


def report(run: Run, history) -> None:
    if history.best_epoch:
        best = history.epochs[history.best_epoch - 1]
        measured = "  ".join(f"{name} {value:.4f}" for name, value in best["valid"].items())
        run.log(f"best {history.unit} {history.best_epoch} of {len(history.epochs)}: valid {measured}")
    if history.interrupted:
        kept = f"epoch {history.best_epoch} is kept" if history.best_epoch else "no epoch was finished"
        run.log(f"interrupted: {kept}; go on with: python train.py --resume {run.folder}")
        sys.exit(130)
    run.log(f"next: python test.py --model_path {run.folder}")
