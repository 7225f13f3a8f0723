"""Intervals of a method that keeps all of split valid: cross-conformal, by copies of it that leave parts of train out.

Vovk, Cross-conformal predictors, 2015: each item of train is predicted by a copy that was not fitted on it, and these
errors calibrate the intervals of the whole. The copies are fitted on less than the whole is, so that the errors are a
little larger rather than smaller than its own; what is promised is held nearly, not exactly.
"""

from __future__ import annotations

import shutil
from typing import Any

import numpy as np
import torch

from baselines.predicting import predicted
from baselines.training import calibrate
from common.console import InputError
from common.lock import locked
from common.seeding import seed_everything
from common.settings import made
from dataloader.batches import Split
from dataloader.items import creators
from dataloader.opening import open_data
from dataloader.store import FeatureStore
from engine.intervals import Intervals
from engine.method import Prediction
from engine.recipe import Recipe
from engine.run import Run
from engine.settings import TrainingSettings

FOLDER = "crossing"  # in the run's folder, while the copies are trained


def require_crossing(how: Recipe, model_id: str) -> None:
    """InputError for a method that has intervals without, or cannot have them."""
    if how.calibrates:
        raise InputError(f"--cross_conformal: {model_id} holds items of split valid back for intervals already")
    if how.transductive and not how.network:
        raise InputError(f"--cross_conformal: {model_id} keeps predictions of split test alone")


def cross_calibrate(
    how: Recipe, run: Run, settings: dict[str, Any], store: FeatureStore, device: torch.device, folds: int
) -> bool:
    """Train `folds` copies as the run was trained, and keep its intervals; whether Ctrl-C did not end it.

    Each leaves out a seeded part of train, by creator where they are known. The bank stays whole: to a copy, an item
    that it leaves out is still a neighbour of others.
    """
    splits = ("train", "valid", "test") if how.transductive else ("train", "valid")
    data = open_data(store, how.wants(settings), splits)
    train, valid = data.splits["train"], data.splits["valid"]
    unlabelled = data.splits["test"].unlabelled() if how.transductive else None
    fold = folds_of(train, folds, settings["seed"])
    with locked(run.folder):
        place, orders, found = run.folder / FOLDER, [], []
        shutil.rmtree(place, ignore_errors=True)  # of a killed process
        try:
            for number in range(folds):
                left_out, rest = np.flatnonzero(fold == number), np.flatnonzero(fold != number)
                run.log(f"copy {number + 1} of {folds}, without {len(left_out)} of {len(train)} train videos")
                seed_everything(settings["seed"])
                copy = Run.create(place, f"copy{number + 1}", run.config)
                method = how.build(store.family, run.config["model"], made(TrainingSettings, settings), device, copy)
                if method.fit(train.sample(rest), valid, unlabelled).interrupted:
                    return False
                orders.append(left_out)
                found.append(Prediction.of(method, train.sample(left_out)))
        except KeyboardInterrupt:  # of what a library fits
            return False
        finally:
            shutil.rmtree(place, ignore_errors=True)
        batch_size = settings.get("batch_size", 256)
        _, whole = predicted(how, run, settings, store, device, split="valid", batch_size=batch_size)
        calibrate(run, Intervals.fit(data, valid, whole, train.sample(np.concatenate(orders)), joined(found), folds))
    return True


def folds_of(train: Split, folds: int, seed: int) -> np.ndarray:
    """(n,) in which of the folds each item is left out, all of a creator's videos in the same."""
    group = creators(train.user)
    number = int(group.max()) + 1
    if number < folds:
        raise InputError(f"--cross_conformal {folds}: split train has {number} creators; give at most as many")
    return (np.random.default_rng([seed, 2]).permutation(number) % folds)[group]


def joined(found: list[Prediction]) -> Prediction:
    """Of the items of all, one after the other."""
    mean = np.concatenate([one.mean for one in found])
    if any(one.members is None for one in found):
        return Prediction(mean)
    return Prediction(mean, np.concatenate([one.members for one in found], axis=1), found[0].share)
