"""What a run predicts for a split of a data set: its method made anew from its folder, on the data as it saw them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from baselines import opened
from common.console import InputError
from common.settings import made
from dataloader.encoding import Encoding
from dataloader.modalities import RETRIEVAL, Wants
from dataloader.neighbours import KNOWN_BY, path_of
from dataloader.opening import Data, Trained, open_data
from dataloader.statistics import CREATOR
from dataloader.store import FeatureStore
from engine.method import Prediction
from engine.recipe import Recipe
from engine.run import WEIGHTS, Run
from engine.settings import TrainingSettings


def predicted(
    how: Recipe,
    run: Run,
    settings: dict[str, Any],
    store: FeatureStore,
    device: torch.device,
    *,
    split: str,
    batch_size: int,
    allow_other_data: bool = False,
) -> tuple[Data, Prediction]:
    """The data set of `store`, opened for `split` as the run's method wants it, and what that predicts.

    settings: those of the run. Of a blend the data are those of its first member that retrieves, if any does.
    InputError where the data are not those trained on, unless allow_other_data.
    """
    how_to = {"split": split, "batch_size": batch_size, "allow_other_data": allow_other_data}
    if how.blends:
        if not run.members:
            raise InputError(f"{run.folder / WEIGHTS}: no such file; the training has not finished")
        parts = []
        for member, _ in run.members:
            found, recipe, _ = opened(member, "--model_path")
            parts.append(predicted(recipe, found, found.config["settings"], store, device, **how_to))
        return blended(parts, [weight for _, weight in run.members])
    model, trained = run.config["model"], run.config["data"]
    wants, used = wanted(run, how, settings)
    # Of other data nothing was held back, and all of split valid is unseen.
    trained_on = store.fingerprint == trained["fingerprint"] or store.learned is not None
    wants = replace(wants, calibrates=bool(run.config.get("calibrates", False) and trained_on))
    kinds = trained.get("metadata")
    encoded = "metadata_features" in trained
    metadata = Trained(kinds, Encoding.load(run.folder) if encoded else None) if kinds or encoded else None
    data = open_data(store, wants, [split], need=used, trained=metadata)
    used = data.used
    now = how.arguments(settings, data.shapes, used, store.items.label_dim, [*data.sources])
    for name in [f"{name}_dim" for name in used] + ["frame_num"] * ("visual" in used) + ["shapes", "label_dim"]:
        if name in model and model[name] != now[name]:
            raise InputError(f"{store.folder}: {name} {now[name]}, but the model was trained with {model[name]}")
    if store.search is None and not allow_other_data:  # a view shows what the run may see, and nothing else
        refuse_other_data(run, data)
    # A network takes batch_size items at a time here too.
    method = how.build(trained["family"], model, made(TrainingSettings, settings | {"batch_size": batch_size}), device)
    method.load(run.folder)
    prediction = Prediction.of(method, data.splits[split])
    if bad := int((~np.isfinite(prediction.mean)).sum()):
        raise InputError(f"{run.folder}: predicts NaN or infinity for {bad} labels")
    return data, prediction


def wanted(run: Run, how: Recipe, settings: dict[str, Any]) -> tuple[Wants, tuple[str, ...]]:
    """What a run's method wants of a data set to predict with, and the features that it is given."""
    model, trained = run.config["model"], run.config["data"]
    wants = how.wants(settings)
    used = wants.used(trained["modalities"])
    frames = model["shapes"].get("visual", [None])[0] if "shapes" in model else model.get("frame_num")
    # What an ablation leaves out is not asked of the data set; other data may have more frames than the model takes.
    wants = replace(wants, typed=used, left_out=(), frame_num=frames if "visual" in used else None)
    if wants.neighbours in ("each", "statistics"):  # of the sources that were there in training
        creators = [CREATOR] if run.config.get("creators") else []
        wants = replace(wants, sources=(*run.config.get("sources", {}), *creators))
    return wants, used


@dataclass(frozen=True)
class Needs:
    """What of an item is needed, features that are compared too; and how many neighbours are looked at, at most.

    lists: source -> how many neighbours an item of the run's own data had, and of which bank, where the run says so.
    """

    features: set[str]
    k: int
    lists: dict[str, tuple[int, str]]

    @classmethod
    def of(cls, run: Run, how: Recipe, settings: dict[str, Any]) -> Needs:
        if how.blends:
            each = [cls.of(*opened(member, "--model_path")) for member, _ in run.members]
            features = set().union(*(one.features for one in each))
            lists = {source: told for one in each for source, told in one.lists.items()}
            return cls(features, max((one.k for one in each), default=1), lists)
        wants, used = wanted(run, how, settings)
        own, sources = run.config.get("neighbours") or {}, run.config.get("sources", {})
        compared = {"aggregated": [RETRIEVAL], None: []}.get(wants.neighbours, sources)
        lists = {source: tuple(told) for source, told in run.config.get("lists", {}).items()}
        if wants.neighbours == "aggregated" and "bank" in own:
            lists[RETRIEVAL] = (own["k"], own["bank"])
        return cls({*used, *compared}, wants.k, lists)


def refuse_other_data(run: Run, data: Data) -> None:
    """InputError where data set or neighbours are not those trained on."""
    store, known, trained_with = data.store, run.config.get("neighbours") or {}, run.config.get("sources", {})
    other, trained = "--allow_other_data evaluates on it all the same", run.config["data"]["fingerprint"]
    if store.fingerprint != trained:
        raise InputError(
            f"{store.folder}: not the data trained on (fingerprint {store.fingerprint}, trained on {trained}); {other}"
        )
    if data.neighbours and data.neighbours.digest() != known.get("digest"):
        raise InputError(
            f"{store.folder / 'neighbours.npz'}: not the neighbours trained with (bank "
            f"{data.neighbours.bank_in_words}, {data.neighbours.k} an item; trained with bank {known.get('bank')}, "
            f"{KNOWN_BY.get(known.get('known_by', ''), '')}, {known.get('k')} an item); {other}"
        )
    changed = [name for name, found in data.sources.items() if found.digest() != trained_with.get(name)]
    if changed:
        raise InputError(f"{path_of(store.folder, changed[0])}: not the neighbours trained with; {other}")
    refuse_other_similarities(run, data, other)


def refuse_other_similarities(run: Run, data: Data, remedy: str) -> None:
    """InputError where neighbours have the ids that the run was trained with, and other similarities."""
    if changed := data.other_than(run.config.get("similarities", {})):
        path = path_of(data.store.folder, changed[0])
        raise InputError(f"{path}: the neighbours are those trained with, but their similarities are not; {remedy}")


def blended(parts: list[tuple[Data, Prediction]], weights: list[float]) -> tuple[Data, Prediction]:
    """The weighted mean of predictions; their members, where they have any, are its own."""
    members, shares = [], []
    for weight, (_, part) in zip(weights, parts, strict=True):
        members += [part.mean[None]] if part.members is None else [part.members]
        shares += [[weight]] if part.members is None else [weight * part.share]
    mean = sum(weight * part.mean for weight, (_, part) in zip(weights, parts, strict=True))
    data = next((data for data, _ in parts if data.nearest is not None), parts[0][0])
    return data, Prediction(mean, np.concatenate(members), np.concatenate(shares))
