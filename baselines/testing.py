"""A run judged on a split, or its predictions for videos whose popularity nobody knows yet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from common.console import InputError
from common.files import require_writable
from common.settings import made
from dataloader.encoding import Encoding
from dataloader.neighbours import KNOWN_BY, path_of
from dataloader.opening import Trained, open_data
from dataloader.statistics import CREATOR
from engine.evaluation import judge
from engine.recipe import Recipe
from engine.run import Run
from engine.settings import TrainingSettings


def test(
    how: Recipe,
    run: Run,
    settings: dict[str, Any],
    folder: Path,
    device: torch.device,
    *,
    split: str,
    batch_size: int,
    metrics: Sequence[str],
    save: str | None,
    seed: int,
    allow_other_data: bool,
) -> None:
    """Predict `split` of the data set in `folder` and write what test.py's description says.

    settings: those of the run. save: another place than the run's own folder. seed: of the bootstrap.
    """
    model, trained = run.config["model"], run.config["data"]
    wants = how.wants(settings)
    used = wants.used(trained["modalities"])
    frames = model["shapes"].get("visual", [None])[0] if "shapes" in model else model.get("frame_num")
    # What an ablation leaves out is not asked of the data set; other data may have more frames than the model takes.
    wants = replace(wants, typed=used, left_out=(), frame_num=frames if "visual" in used else None)
    if wants.neighbours in ("each", "statistics"):  # of the sources that were there in training
        creators = [CREATOR] if run.config.get("creators") else []
        wants = replace(wants, sources=(*run.config.get("sources", {}), *creators))
    kinds = trained.get("metadata")
    encoded = wants.statistics or (kinds and not how.typed_columns)
    metadata = Trained(kinds, Encoding.load(run.folder) if encoded else None) if kinds or encoded else None
    data = open_data(folder, wants, [split], need=used, trained=metadata)
    store, items, used = data.store, data.splits[split], data.used
    now = how.arguments(settings, data.shapes, used, store.items.label_dim, [*data.sources])
    for name in [f"{name}_dim" for name in used] + ["frame_num"] * ("visual" in used) + ["shapes", "label_dim"]:
        if name in model and model[name] != now[name]:
            raise InputError(f"{store.folder}: {name} {now[name]}, but the model was trained with {model[name]}")
    known = run.config.get("neighbours") or {}
    other = "--allow_other_data evaluates on it all the same"
    if store.fingerprint != trained["fingerprint"] and not allow_other_data:
        raise InputError(
            f"{store.folder}: not the data trained on (fingerprint {store.fingerprint}, trained on "
            f"{trained['fingerprint']}); {other}"
        )
    if data.neighbours and data.neighbours.digest() != known.get("digest") and not allow_other_data:
        raise InputError(
            f"{store.folder / 'neighbours.npz'}: not the neighbours trained with (bank "
            f"{data.neighbours.bank_in_words}, {data.neighbours.k} an item; trained with bank {known.get('bank')}, "
            f"{KNOWN_BY.get(known.get('known_by', ''), '')}, {known.get('k')} an item); {other}"
        )
    trained_with = run.config.get("sources", {})
    changed = [name for name, found in data.sources.items() if found.digest() != trained_with.get(name)]
    if changed and not allow_other_data:
        raise InputError(f"{path_of(store.folder, changed[0])}: not the neighbours trained with; {other}")
    # The run's own folder is for split test of the data trained on; all else goes into folders within it.
    out = Path(save) / run.folder.resolve().name if save else run.folder
    out = out if store.fingerprint == trained["fingerprint"] else out / f"{store.dataset_id}_{store.fingerprint}"
    out = out if split == "test" else out / split
    # A network takes batch_size items at a time here too.
    method = how.build(trained["family"], model, made(TrainingSettings, settings | {"batch_size": batch_size}), device)
    require_writable(out)
    method.load(run.folder)
    prediction = method.predict(items)  # (n, label_dim)
    if not np.isfinite(prediction).all():
        raise InputError(f"{run.folder}: predicts NaN or infinity for {int((~np.isfinite(prediction)).sum())} labels")
    judge(out, run, data, prediction, split, batch_size, seed, metrics)
