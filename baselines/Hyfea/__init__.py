"""Hyfea: gradient-boosted trees on all features (CatBoost; after Lai et al., "HyFea", MM 2020)."""

from __future__ import annotations

from dataclasses import dataclass

from common.console import number, whole_number
from common.settings import setting
from engine.recipe import Recipe
from engine.space import Choice, Range


@dataclass(frozen=True)
class HyfeaSettings:
    trees: int = setting(500, "at most", whole_number(1))
    depth: int = setting(10, "of each tree", whole_number(1, 16))
    lr: float = setting(0.03, "learning rate", number(0, above=True))
    early_stop_turns: int = setting(20, "trees without a better valid RMSE, then stop", whole_number(1))
    border_count: int = setting(128, "splits of a feature that are tried", whole_number(1, 65535))


RECIPE = Recipe(
    "baselines.Hyfea.estimator:Hyfea",
    HyfeaSettings,
    any_modality=True,
    typed_columns=True,
    network=False,
    search={
        "trees": Range(200, 2000, log=True),
        "lr": Range(0.01, 0.3, log=True),
        "depth": Range(4, 10),
        "border_count": Choice((32, 128, 254)),
    },
    packages=("catboost",),
)
