"""CBAN: crossmodal bipolar attention network (Cheung and Lam, 2022)."""

from __future__ import annotations

from dataclasses import dataclass

from common.console import whole_number
from common.settings import setting
from engine.recipe import Recipe
from engine.space import Choice, Range


@dataclass(frozen=True)
class CBANSettings:
    feature_dim: int = setting(768, "D, width of the embeddings", whole_number(1))


# It attends from each modality to the other, so it can do without neither.
RECIPE = Recipe(
    "baselines.CBAN.network:CBAN",
    CBANSettings,
    defaults={"lr": 1e-4, "epochs": 200, "early_stop_turns": 20},
    needs_all=True,
    search={
        "lr": Range(1e-5, 1e-3, log=True),
        "feature_dim": Choice((128, 256, 768)),
        "label_scale": Choice(("none", "standard")),
    },
)
