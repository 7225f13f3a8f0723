"""A run judged on a split, or its predictions for videos whose popularity nobody knows yet."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from baselines import build, recipe
from common.console import InputError
from common.devices import pick_device
from common.files import require_writable, write_json
from common.seeding import seed_everything
from common.settings import made
from dataloader.batches import open_split
from dataloader.neighbours import Neighbours
from dataloader.store import FeatureStore
from engine.evaluation import draw, evaluate, print_report, write_predictions
from engine.recipe import RETRIEVAL, dimensions
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
    folder = Path(dataset_path or settings["dataset_path"]) / (dataset_id or settings["dataset_id"])
    store = FeatureStore.open(folder, need=("visual", "textual"))
    neighbours = Neighbours.read(store) if recipe(settings["model_id"]).retrieves(settings) else None
    check_dimensions(run, store)
    if not allow_other_data:
        check_data(run, store, neighbours)
    out = output_folder(run, store, split, save)
    require_writable(out)
    # A network takes batch_size items at a time here too.
    training = made(TrainingSettings, settings | {"batch_size": batch_size})
    method = build(settings["model_id"], run.config["data"]["family"], run.config["model"], training, where)
    method.load(run.folder)
    store.check_features("visual", "textual")
    retrieval = {name: settings[name] for name in RETRIEVAL} if neighbours is not None else {}
    frame_num = run.config["model"]["frame_num"]
    items = open_split(store, split, frame_num=frame_num, neighbours=neighbours, **retrieval)
    prediction = method.predict(items)  # (n, label_dim)
    if not np.isfinite(prediction).all():
        raise InputError(f"{run.folder}: predicts NaN or infinity for {int((~np.isfinite(prediction)).sum())} labels")
    k = retrieval.get("num_of_retrieved_items", 0)
    write_predictions(out / "predictions.csv", items, prediction, neighbours, k)
    if split != "predict":
        report = evaluate(items, prediction, split, batch_size, seed)
        write_json(out / "metrics.json", report)
        draw(out / "figures", run, items, prediction, split)
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


def check_dimensions(run: Run, store: FeatureStore) -> None:
    """InputError where the data set could not be used with this model at all."""
    model = run.config["model"]
    for name, value in dimensions(store, model["frame_num"]).items():
        if model[name] != value:
            raise InputError(f"{store.folder}: {name} {value}, but the model was trained with {model[name]}")


def output_folder(run: Run, store: FeatureStore, split: str, save: str | None) -> Path:
    """The run's own folder is for split test of the data trained on; all else goes into folders within it."""
    out = Path(save) / run.folder.resolve().name if save else run.folder
    if store.fingerprint != run.config["data"]["fingerprint"]:
        out = out / f"{store.dataset_id}_{store.fingerprint}"
    return out if split == "test" else out / split
