"""LARK: the neighbours' labels, weighed by what is learned of each pair, and a correction to them. Ours."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from common.console import InputError, number, whole_number
from common.settings import setting
from engine.recipe import Recipe, without_retrieval
from engine.space import Choice, Range


@dataclass(frozen=True)
class LARKSettings:
    feature_dim: int = setting(64, "width of each member", whole_number(1))
    dropout: float = setting(0.2, "within the network", number(0, most=0.9))
    drop_neighbour: float = setting(0.2, "share of the neighbours that training leaves out", number(0, most=0.9))
    ensemble: int = setting(4, "members, trained side by side, whose mean is the prediction", whole_number(1))
    no_correction: bool = setting(False, "ablation: the neighbours' labels alone, f is zero")
    no_retrieval: bool = setting(False, "ablation: f alone, without the neighbours' and the creator's labels")


def check(settings: Mapping[str, Any], typed: Mapping[str, Any]) -> None:
    if settings["no_retrieval"] and settings["no_correction"]:
        raise InputError("--no_retrieval and --no_correction: nothing is left; leave one of them out")
    if settings["loss"] == "BCE":
        raise InputError("--loss BCE: LARK weighs labels as they are, and gives no logit; take MSE, MAE or Huber")
    if settings["label_scale"] == "none":
        raise InputError("--label_scale none: LARK begins at 0, which must be the mean; leave the flag out")
    without_retrieval(settings, typed, "drop_neighbour")


RECIPE = Recipe(
    "model.LARK:LARK",
    LARKSettings,
    defaults={
        "num_of_retrieved_items": 50,
        "similarity_temperature": 0.1,
        "batch_size": 256,
        "early_stop_turns": 8,
        "label_scale": "standard",
        "optim": "AdamW",
        "lr": 1e-3,
        "weight_decay": 0.01,
        "metric": ("nMSE",),
    },
    any_modality=True,
    takes_all=True,
    neighbours="each",
    statistics=True,
    reads_text=True,
    check=check,
    search={
        "lr": Range(1e-4, 1e-2, log=True),
        "weight_decay": Range(1e-4, 0.1, log=True),
        "feature_dim": Choice((32, 64, 128)),
        "dropout": Range(0, 0.5),
        "drop_neighbour": Range(0, 0.5),
        "num_of_retrieved_items": Range(10, 50),
        "similarity_temperature": Range(0.03, 1, log=True),
    },
    calibrates=True,
)
