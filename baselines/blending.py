"""Training of a blend: each member as a run of its own in the blend's folder, then their weights on split valid."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from baselines import opened, recipe
from baselines.parser import parse_flags
from baselines.predicting import blended, predicted
from baselines.training import calibrate, holds_back, train
from common.console import InputError
from common.files import write_json
from common.lock import locked
from common.seeding import seed_everything
from dataloader.calibration import CALIBRATION
from dataloader.opening import open_data
from dataloader.store import FeatureStore
from engine.estimator import VALID
from engine.intervals import Intervals
from engine.method import History
from engine.metrics import measure
from engine.recipe import Recipe
from engine.run import LAST, MEMBERS, WEIGHTS, Run

SHARED = ("dataset_path", "dataset_id", "device", "seed", "label_dim", "frame_num", "modalities")  # with the blend
FIRM = 1e4  # how much the sum of the weights weighs against the squared error


def train_blend(
    how: Recipe,
    settings: dict[str, Any],
    typed: Mapping[str, Any],
    store: FeatureStore,
    device: torch.device,
    run: Run | None,
    command: list[str],
) -> tuple[Run, History]:
    """As `train`, of a method that blends others; a member that has been trained is not trained again."""
    owns = [settings_of(text, settings) for text in settings["members"]]  # what is wrong in any is told first
    held, none = holds_back(how, store, run, None)
    data = open_data(store, replace(how.wants(settings, typed), calibrates=held), ("train", "valid"))
    valid = data.splits["valid"]
    arguments = how.arguments(settings, data.shapes, data.used, store.items.label_dim)
    described = {"family": store.family, "fingerprint": store.fingerprint, "label": store.label.as_json()}
    described |= {"modalities": list(data.taken)} | ({"metadata": data.kinds} if data.kinds else {})
    config = {"command": command, "settings": settings, "model": arguments, "data": described, "neighbours": None}
    config |= {"calibrates": True} if held else {}
    resumed = run is not None
    if not resumed:
        run = Run.create(settings["save"], f"{settings['model_id']}_{settings['dataset_id']}", config)
    with locked(run.folder):
        if resumed:
            run.go_on(config)
            run.keep_config()
        if none:
            run.log(f"note: no intervals: {none}")
        found, unseen, members = [], [], []
        for place, (text, own) in enumerate(zip(settings["members"], owns, strict=True), start=1):
            run.log(f"member {place} of {len(owns)}: {text}")
            try:
                member, history = train_member(own, text, run.folder / MEMBERS / str(place), store, device, held)
            except KeyboardInterrupt:  # of what a library fits nothing is kept; a network ends by itself
                return run, History(interrupted=True)
            if history.interrupted:
                return run, history
            members.append(member)
            batch = own.get("batch_size", 256)
            given = (recipe(own["model_id"]), member, own, store, device)
            found.append(predicted(*given, split="valid", batch_size=batch))
            if held:
                unseen.append(predicted(*given, split=CALIBRATION, batch_size=batch))
        weights = weigh([prediction.mean for _, prediction in found], valid.label)
        places = [member.folder.relative_to(run.folder).as_posix() for member in members]
        said = [{"run": path, "weight": weight} for path, weight in zip(places, weights, strict=True)]
        measured = measure(blended(found, weights)[1].mean, valid.label, valid.target)
        write_json(run.folder / VALID, measured)
        write_json(run.folder / WEIGHTS, {"members": said})
        each = [measure(prediction.mean, valid.label, valid.target)["nMSE"] for _, prediction in found]
        for text, weight, nmse in zip(settings["members"], weights, each, strict=True):
            run.log(f"weight {weight:.2f}  valid nMSE {nmse:.4f}  {text}")
        run.log(f"together: valid {'  '.join(f'{name} {value:.4f}' for name, value in measured.items())}")
        if held:
            seen, on_valid = blended(found, weights)
            _, on_unseen = blended(unseen, weights)
            calibrate(run, Intervals.fit(seen, seen.splits["valid"], on_valid, seen.splits[CALIBRATION], on_unseen))
    return run, History()


def settings_of(text: str, blend: Mapping[str, Any]) -> dict[str, Any]:
    """Of a member, as train.py would have them from its flags; what it does not say itself is as in the blend."""
    method, *flags = shlex.split(text)
    if recipe(method).blends:
        raise InputError(f"--members {text!r}: a blend is no member of another")
    if recipe(method).transductive and not recipe(method).network:
        raise InputError(f"--members {text!r}: {method} keeps predictions of split test alone, and weights want valid")
    try:
        recipe(method).require()
        own = parse_flags(method, flags)
    except InputError as error:
        raise InputError(f"--members {text!r}: {error}") from None
    given = {word[2:].partition("=")[0] for word in flags if word.startswith("--")}
    return own | {"model_id": method} | {name: blend[name] for name in SHARED if name not in given}


def train_member(
    settings: dict[str, Any], text: str, place: Path, store: FeatureStore, device: torch.device, calibrates: bool
) -> tuple[Run, History]:
    """The run in `place`, gone on with if there is one that can be, else a new one.

    calibrates: whatever the method does by itself, it must not see what the blend holds back.
    """
    how, known = recipe(settings["model_id"]), None
    for path in sorted(place.glob("*/config.json")):
        if not how.network and (path.parent / VALID).is_file():
            return opened(path, "--resume")[0], History()
        if how.network and (path.parent / LAST).is_file():
            known = opened(path, "--resume")[0]
    if known is not None:
        settings = known.config["settings"] | {"metric": tuple(known.config["settings"]["metric"])}
    where = ["--dataset_path", settings["dataset_path"], "--dataset_id", settings["dataset_id"]]
    method, *flags = shlex.split(text)
    command = ["python", "train.py", "--model_id", method, *map(str, where), "--seed", str(settings["seed"]), *flags]
    seed_everything(settings["seed"])
    return train(how, settings | {"save": str(place)}, {}, store, device, known, command, calibrates)


def weigh(predictions: list[np.ndarray], truth: np.ndarray) -> list[float]:
    """Weights, none negative, of sum 1, of predictions (n, label_dim): least squares, each target by its spread."""
    from scipy.optimize import nnls

    spread = truth.std(axis=0)
    spread = np.where(spread > 1e-9 * np.maximum(np.abs(truth.mean(axis=0)), 1), spread, 1)
    columns = np.stack([(prediction / spread).ravel() for prediction in predictions], axis=1)  # (n * label_dim, M)
    scale = FIRM * max(1.0, float(np.abs(columns).max()))
    found = nnls(
        np.vstack([columns, np.full((1, len(predictions)), scale)]), np.append((truth / spread).ravel(), scale)
    )[0]
    return [float(weight) for weight in found / found.sum()]
