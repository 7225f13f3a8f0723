"""A run judged on a split, or its predictions for videos whose popularity nobody knows yet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from baselines import build, recipe
from baselines.training import shapes_of, splitting
from common.console import InputError
from common.devices import pick_device
from common.files import require_writable, write_json
from common.seeding import seed_everything
from common.settings import made
from dataloader.batches import open_split
from dataloader.neighbours import Neighbours
from dataloader.store import FeatureStore
from engine.evaluation import draw, evaluate, print_report, write_predictions
from engine.recipe import Recipe
from engine.run import Run
from engine.settings import TrainingSettings


def test(
    run: Run,
    settings: dict[str, Any],
    *,
    split: str,
    batch_size: int,
    metrics: Sequence[str],
    save: str | None,
    seed: int,
    device: str,
    dataset_path: str | None,
    dataset_id: str | None,
    allow_other_data: bool,
) -> None:
    """Predict `split` and write what test.py's description says; `settings` are those of the run."""
    where = pick_device(device)
    seed_everything(seed)
    method_recipe = recipe(settings["model_id"])
    folder = Path(dataset_path or settings["dataset_path"]) / (dataset_id or settings["dataset_id"])
    modalities = method_recipe.used(settings, run.config["data"]["modalities"])
    settings = settings | {"frame_num": trained_frames(run, modalities)}
    store = FeatureStore.open(folder, need=modalities)
    neighbours = Neighbours.read(store) if method_recipe.retrieves(settings) else None
    check_dimensions(run, method_recipe, settings, modalities, store)
    if not allow_other_data:
        check_data(run, store, neighbours)
    out = output_folder(run, store, split, save)
    require_writable(out)
    # A network takes batch_size items at a time here too.
    training = made(TrainingSettings, settings | {"batch_size": batch_size})
    method = build(settings["model_id"], run.config["data"]["family"], run.config["model"], training, where)
    method.load(run.folder)
    store.check_features(*modalities)
    items = open_split(store, split, **splitting(method_recipe, settings, modalities, neighbours))
    prediction = method.predict(items)  # (n, label_dim)
    if not np.isfinite(prediction).all():
        raise InputError(f"{run.folder}: predicts NaN or infinity for {int((~np.isfinite(prediction)).sum())} labels")
    k = settings.get("num_of_retrieved_items", 0)
    write_predictions(out / "predictions.csv", store, items, prediction, neighbours, k)
    if split != "predict":
        report = evaluate(store, items, prediction, split, batch_size, seed)
        write_json(out / "metrics.json", report)
        draw(out / "figures", run, items, prediction, f"{settings['model_id']} on {store.dataset_id}, {split}")
        print_report(report, metrics, run, store)
    print(f"{len(items)} predictions in {out / 'predictions.csv'}")


def check_data(run: Run, store: FeatureStore, neighbours: Neighbours | None) -> None:
    """InputError where the data set is not the one trained on."""
    trained = run.config["data"]
    how = "--allow_other_data evaluates on it all the same"
    if store.fingerprint != trained.get("fingerprint"):
        raise InputError(
            f"{store.folder}: not the data trained on (fingerprint {store.fingerprint}, trained on "
            f"{trained.get('fingerprint')}); {how}"
        )
    known = run.config.get("neighbours") or {}
    if neighbours is not None and neighbours.digest() != known.get("digest"):
        raise InputError(
            f"{store.folder / 'neighbours.npz'}: not the neighbours trained with (bank {neighbours.bank}, "
            f"{neighbours.k} an item; trained with bank {known.get('bank')}, {known.get('k')} an item); {how}"
        )


def check_dimensions(
    run: Run, method_recipe: Recipe, settings: Mapping[str, Any], modalities: Sequence[str], store: FeatureStore
) -> None:
    """InputError where the data set could not be used with this model at all."""
    model = run.config["model"]
    shapes = shapes_of(store, settings["frame_num"])
    now = method_recipe.arguments(settings, shapes, modalities, store.items.label_dim)
    used = [f"{name}_dim" for name in modalities] + ["frame_num"] * ("visual" in modalities) + ["shapes", "label_dim"]
    for name in used:
        if name in model and model[name] != now[name]:
            raise InputError(f"{store.folder}: {name} {now[name]}, but the model was trained with {model[name]}")


def trained_frames(run: Run, modalities: Sequence[str]) -> int | None:
    """Frames of a video that the model takes, other data may have more; None without visual features."""
    model = run.config["model"]
    return (
        (model["shapes"]["visual"][0] if "shapes" in model else model["frame_num"]) if "visual" in modalities else None
    )


def output_folder(run: Run, store: FeatureStore, split: str, save: str | None) -> Path:
    """The run's own folder is for split test of the data trained on; all else goes into folders within it."""
    out = Path(save) / run.folder.resolve().name if save else run.folder
    if store.fingerprint != run.config["data"]["fingerprint"]:
        out = out / f"{store.dataset_id}_{store.fingerprint}"
    return out if split == "test" else out / split
