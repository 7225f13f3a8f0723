"""The settings that methods share: of data, of retrieval and of training. Imports no torch."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from common.console import InputError, number, whole_number
from common.devices import PRECISIONS
from common.settings import setting
from dataloader.modalities import modality
from engine.metrics import METRICS

if TYPE_CHECKING:
    from dataloader.batches import Split
    from dataloader.store import FeatureStore

LABEL_SCALES = ("none", "standard")
LOSSES = ("MSE", "MAE", "Huber", "BCE")
OPTIMISERS = ("Adam", "AdamW", "SGD")


def metric_names(text: str) -> tuple[str, ...]:
    names = tuple(text.split("+"))
    if unknown := [name for name in names if name not in METRICS]:
        raise argparse.ArgumentTypeError(f"{unknown[0]!r} is unknown; known, and summed with +: {', '.join(METRICS)}")
    return names


@dataclass(frozen=True)
class DataSettings:
    modalities: tuple[str, ...] | None = setting(
        None,
        "features to take, of those that the data set has; if not given the published ones that are there, by methods "
        "that take every kind all",
        modality,
        kind=list,
        nargs="+",
        metavar="NAME",
    )
    feature_num: int = setting(2, "number of modalities; typed, it must be the number of those that are taken", int)
    label_dim: int | None = setting(None, "number of targets; must agree with the data set", whole_number(1))
    frame_num: int | None = setting(
        None, "frames used of each video; all the data set has if not given", whole_number(1)
    )
    seed: int = setting(2024, "of all that is drawn at random: weights, order, noise, samples", whole_number(0))


@dataclass(frozen=True)
class RetrievalSettings:
    num_of_retrieved_items: int = setting(10, "K, how many of the nearest videos an item retrieves", whole_number(1))
    similarity_temperature: float = setting(
        1.0,
        "neighbours weigh softmax(similarity / this); 1 is published and nearly uniform, 0.1 prefers the nearest",
        number(0, above=True),
    )


@dataclass(frozen=True)
class SourceSettings(RetrievalSettings):
    """Of methods that learn of several sources of neighbours at once."""

    sources: list | None = setting(
        None,
        "whose labels are learned from: of the videos nearest by these features (retrieval, textual, visual ...), and "
        "of the creator's other videos (creator); all that are there if not given",
        modality,
        kind=list,
        nargs="+",
        metavar="NAME",
    )
    drop_history: float | None = setting(
        None,
        "share of train's videos whose creators are taken for new ones; if not given as many as make train like valid, "
        "and a tenth at least",
        number(0, most=1),
        kind=float,
    )


@dataclass(frozen=True)
class TrainingSettings:
    """How a network is trained; the defaults are the published ones, but for shuffling."""

    epochs: int = setting(100, "at most", whole_number(1))
    batch_size: int = setting(64, "videos a step", whole_number(1))
    early_stop_turns: int = setting(20, "epochs without a better one, then stop", whole_number(1))
    loss: str = setting("MSE", "BCE is for labels in [0, 1]", str, LOSSES)
    label_scale: str = setting(
        "none",
        "standard: each target to mean 0 and variance 1 by statistics of train, neighbours' labels too; predictions, "
        "losses and metrics stay in the label's own unit",
        str,
        LABEL_SCALES,
    )
    optim: str = setting("Adam", "optimiser", str, OPTIMISERS)
    lr: float = setting(1e-5, "learning rate", number(0, above=True))
    weight_decay: float = setting(0.0, "of the optimiser", number(0))
    metric: tuple[str, ...] = setting(
        ("MAE", "nMSE"),
        f"what chooses the epoch, on the whole valid split: one of {', '.join(METRICS)}, or a sum of them with + "
        "(those that are better the larger they are count negative)",
        metric_names,
        typed="MAE+nMSE",
    )
    precision: str = setting("fp32", "of the matrix products", str, PRECISIONS)
    no_shuffle: bool = setting(False, "train in the order of the data set, as published")
    seed: int = DataSettings.seed  # --seed is a flag of DataSettings, and training needs its value

    def check_labels(self, store: FeatureStore, train: Split, valid: Split, network: bool) -> None:
        """InputError for labels for which a network's loss, or the metric that chooses its epoch, is not defined."""
        if not network:
            return
        undefined = [name for name in self.metric if METRICS[name].needs_spread]
        if undefined:
            for t, name in enumerate(train.target.names):
                if np.ptp(valid.label[:, t]) == 0:
                    raise InputError(
                        f"--metric {'+'.join(self.metric)}: all {len(valid)} labels {name} of split valid are equal, "
                        f"so {' and '.join(undefined)} is not defined in {store.folder}; take MAE or RMSE, or another "
                        "split"
                    )
        if self.loss == "BCE" and self.label_scale != "none":
            raise InputError(f"--label_scale {self.label_scale}: --loss BCE takes labels in [0, 1] as they are")
        if counted := [name for name in self.metric if METRICS[name].of_counts and not train.target.of_counts]:
            raise InputError(
                f"--metric {counted[0]}: it is of counts, and the labels of {store.folder} are given as such"
            )
        labels = np.concatenate([train.label, valid.label])
        if self.loss == "BCE" and (labels.min() < 0 or labels.max() > 1):
            raise InputError(
                f"--loss BCE: needs labels in [0, 1], {store.folder} has {labels.min():g} to {labels.max():g}; take MSE"
            )
