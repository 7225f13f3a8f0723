"""A run judged on a split, or its predictions for videos whose popularity nobody knows yet."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from baselines.predicting import Needs, predicted
from common.console import InputError
from common.files import require_writable
from common.lock import locked
from dataloader.growing import as_of, grown_in_words, searching, states
from dataloader.names import GROWN, TRAINED
from dataloader.store import FeatureStore
from engine.evaluation import Judged, judge
from engine.recipe import Recipe
from engine.run import Run

TESTED = ".test.lock"  # a lock of its own: a run that is still being trained can be tested


def test(
    how: Recipe,
    run: Run,
    settings: dict[str, Any],
    store: FeatureStore,
    device: torch.device,
    *,
    split: str,
    batch_size: int,
    metrics: Sequence[str],
    save: str | None,
    seed: int,
    allow_other_data: bool,
    bank: str = TRAINED,
    adaptive: bool = False,
) -> Judged:
    """Predict `split` of the data set of `store` and write what test.py's description says.

    settings: those of the run. save: another place than the run's own folder. seed: of the bootstrap.
    bank: of a data set that has grown since, what is retrieved from. adaptive: intervals learn of what was counted
    before.
    """
    place = Path(save) / run.folder.resolve().name if save else run.folder
    require_writable(place)
    how_to = {"split": split, "batch_size": batch_size, "allow_other_data": allow_other_data}
    trained = run.config["data"]["fingerprint"]
    if trained != store.fingerprint and trained in states(store):
        needs = Needs.of(run, how, settings)
        store = as_of(store, trained, needs.features, bank)
        store.search = searching(store, [split, "valid"], needs.k, needs.lists)  # valid: for yardsticks
        print(grown_in_words(store, bank))
    elif bank != TRAINED:
        raise InputError(f"--bank {bank}: {store.folder} has not grown since the run was trained")
    data, prediction = predicted(how, run, settings, store, device, **how_to)
    # The run's own folder is for split test of the data trained on; all else goes into folders within it.
    other = f"{store.dataset_id}_{store.fingerprint}{'_grown' if bank == GROWN else ''}"
    out = place if store.fingerprint == trained else place / other
    out = out if split == "test" else out / split
    with locked(place, TESTED):
        return judge(out, run, data, prediction, split, batch_size, seed, metrics, adaptive)
