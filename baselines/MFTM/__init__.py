"""MFTM: the mean of boosted trees (LightGBM) and an attentive network for tables (TabNet; Arik and Pfister, 2021)."""

from __future__ import annotations

from dataclasses import dataclass

from common.console import number, whole_number
from common.settings import setting
from engine.recipe import Recipe
from engine.space import Range


@dataclass(frozen=True)
class MFTMSettings:
    trees: int = setting(100, "of LightGBM", whole_number(1))
    epochs: int = setting(200, "of TabNet, at most", whole_number(1))
    early_stop_turns: int = setting(20, "epochs of TabNet without a better valid error, then stop", whole_number(1))
    lr: float = setting(0.02, "learning rate of TabNet", number(0, above=True))
    tabnet_weight: float = setting(0.5, "of TabNet in the mean of both", number(0, most=1))


RECIPE = Recipe(
    "baselines.MFTM.estimator:MFTM",
    MFTMSettings,
    any_modality=True,
    network=False,
    search={
        "trees": Range(50, 500, log=True),
        "lr": Range(2e-3, 0.1, log=True),
        "tabnet_weight": Range(0, 1),
    },
    packages=("lightgbm", "pytorch_tabnet"),
)
