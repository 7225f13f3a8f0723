"""A run that predicts videos of no data set: it is loaded once, and knows what it was trained with."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from baselines.predicting import Needs, predicted
from common.console import InputError
from dataloader.growing import as_of, searching, states, with_new
from dataloader.importing.newcomers import Newcomers
from dataloader.metadata import HAS_SOUND
from dataloader.modalities import AUDIO, METADATA
from dataloader.names import TRAINED
from dataloader.opening import Data
from dataloader.store import FeatureStore
from engine.method import Prediction
from engine.recipe import Recipe
from engine.run import Run
from feature_engineering.jobs.likewise import Encoders, begin_likewise, make_likewise
from feature_engineering.jobs.origins import hears, needed, needs_videos
from feature_engineering.settings import DecodingSettings, FrameSettings
from prediction.why import without

BATCH_SIZE = 256


@dataclass(frozen=True)
class Predicted:
    """What a run predicts for the items of `new`, which are those of split predict of `data`, in the same order.

    changed_by: part of what is known of a video -> (n, label_dim), the prediction less that without it.
    """

    run: Run
    new: FeatureStore
    data: Data
    prediction: Prediction
    changed_by: dict[str, np.ndarray]


class Predictor:
    """A run, the data set that it was trained on, and the encoders of that, which are loaded when they are needed.

    bank: "trained", what the run was trained with, or "grown", all that has been added to the data set since.
    """

    def __init__(
        self,
        run: Run,
        how: Recipe,
        settings: dict[str, Any],
        store: FeatureStore,
        device: torch.device,
        *,
        bank: str = TRAINED,
        encoders: Mapping[str, str] | None = None,
    ):
        self.run, self.how, self.settings, self.device = run, how, settings, device
        self.needs = Needs.of(run, how, settings)
        self.store = known_to(run, store, bank, self.needs.features)
        self.names = self.needs.features - {METADATA}
        self.encoders = Encoders(store, encoders or {}, device.type)

    def encode(
        self,
        found: Newcomers,
        folder: Path,
        frames: FrameSettings,
        decoding: DecodingSettings,
        given: Mapping[str, str] | None = None,
    ) -> FeatureStore:
        """The features that the run needs of new items, in `folder`; what is there of an earlier call is gone on with.

        given: name of features -> a file of ready ones.
        """
        self.store.require(self.names)
        if spare := [name for name in given or {} if name not in needed(self.store, self.names, given or {})]:
            raise InputError(f"--features {spare[0]}: the run takes {', '.join(sorted(self.names)) or 'none'}")
        names = sorted(self.names)
        told = METADATA in self.needs.features and HAS_SOUND in self.store.description.added_columns
        if told and AUDIO not in names and frames.videos and hears(self.store, [AUDIO]):
            names = sorted([*names, AUDIO])  # With the sound comes the column that says whether there is any.
        elif told and AUDIO not in names:
            print(f"note: {HAS_SOUND} is unknown of all items: no videos of them are given", file=sys.stderr)
        if (frames.videos or frames.frames) and not needs_videos(self.store, names):
            note = "the run looks at no frames, nor listens, so that videos and pictures are not opened"
            print(f"note: {note}", file=sys.stderr)
        new = begin_likewise(folder, found, self.encoders, names, given or {}, frames)
        return make_likewise(new, self.encoders, names, given or {}, frames, decoding, found.order)

    def predict(self, new: FeatureStore) -> Predicted:
        """Of encoded items."""
        view = with_new(self.store, new, sorted(self.names))
        view.search = searching(view, ["predict"], self.needs.k, self.needs.lists)
        how_to = {"split": "predict", "batch_size": BATCH_SIZE}
        given = (self.how, self.run, self.settings)
        data, prediction = predicted(*given, view, self.device, **how_to)
        changed_by = {}
        for part, other in without(view, self.store, self.needs.features):
            changed_by[part] = prediction.mean - predicted(*given, other, self.device, **how_to)[1].mean
        return Predicted(self.run, new, data, prediction, changed_by)


def known_to(run: Run, store: FeatureStore, bank: str, names: set[str]) -> FeatureStore:
    """The data set as the run may see it; InputError where it was trained on another, or on other features `names`."""
    trained = run.config["data"]["fingerprint"]
    if store.fingerprint == trained:
        return store
    if trained in states(store):
        return as_of(store, trained, names, bank)
    raise InputError(
        f"{store.folder}: not the data that {run.folder} was trained on, nor grown of them (fingerprint "
        f"{store.fingerprint}, trained on {trained}); name the data set with --dataset_path and --dataset_id"
    )


def contributions(data: Data) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of the items of split predict: their neighbours' ids (n, K), -1 pads, similarities and weights (n, K) each."""
    rows, near = data.splits["predict"].rows, data.nearest
    if near is None:
        nothing = np.empty((len(rows), 0))
        return nothing.astype(int), nothing, nothing
    ids, similarity = near.ids[rows, : data.k], near.similarity[rows, : data.k]
    _, weight = near.weights(rows, data.k, data.temperature)
    return ids, similarity, weight
