"""TMALL: transductive multi-modal learning (Chen et al., "Micro Tells Macro", MM 2016)."""

from __future__ import annotations

from dataclasses import dataclass

from common.console import number, whole_number
from common.settings import setting
from engine.recipe import Recipe
from engine.space import Choice, Range


@dataclass(frozen=True)
class TMALLSettings:
    common_dim: int = setting(256, "size of the common space", whole_number(1))
    graph_weight: float = setting(1.0, "of the graphs' disagreement beside the MSE", number(0))


RECIPE = Recipe(
    "baselines.TMALL.network:TMALL",
    TMALLSettings,
    defaults={"lr": 1e-3, "epochs": 100, "early_stop_turns": 10},
    own_loss=True,
    transductive=True,
    search={
        "lr": Range(1e-4, 1e-2, log=True),
        "common_dim": Choice((64, 128, 256, 512)),
        "graph_weight": Range(0.01, 10, log=True),
        "label_scale": Choice(("none", "standard")),
    },
)
