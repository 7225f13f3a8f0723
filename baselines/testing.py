"""A run judged on a split, or its predictions for videos whose popularity nobody knows yet."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from baselines.predicting import predicted
from common.files import require_writable
from dataloader.store import FeatureStore
from engine.evaluation import judge
from engine.recipe import Recipe
from engine.run import Run


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
    adaptive: bool = False,
) -> None:
    """Predict `split` of the data set of `store` and write what test.py's description says.

    settings: those of the run. save: another place than the run's own folder. seed: of the bootstrap. adaptive:
    intervals learn of what was counted before.
    """
    place = Path(save) / run.folder.resolve().name if save else run.folder
    require_writable(place)
    how_to = {"split": split, "batch_size": batch_size, "allow_other_data": allow_other_data}
    data, prediction = predicted(how, run, settings, store, device, **how_to)
    # The run's own folder is for split test of the data trained on; all else goes into folders within it.
    trained = run.config["data"]["fingerprint"]
    out = place if store.fingerprint == trained else place / f"{store.dataset_id}_{store.fingerprint}"
    out = out if split == "test" else out / split
    judge(out, run, data, prediction, split, batch_size, seed, metrics, adaptive)
