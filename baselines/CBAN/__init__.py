"""CBAN: crossmodal bipolar attention network (Cheung and Lam, 2022)."""

from __future__ import annotations

from dataclasses import dataclass

from common.console import whole_number
from common.settings import setting
from engine.recipe import Recipe


@dataclass(frozen=True)
class CBANSettings:
    feature_dim: int = setting(768, "D, width of the embeddings", whole_number(1))


# It attends from each modality to the other, so it can do without neither.
RECIPE = Recipe(
    "baselines.CBAN.network:CBAN",
    CBANSettings,
    defaults={"lr": 1e-4, "epochs": 200, "early_stop_turns": 20},
    needs_all=True,
)
