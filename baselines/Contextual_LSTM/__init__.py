"""Contextual_LSTM: recurrent networks over frames and text (after Ghosh et al., 2016)."""

from __future__ import annotations

from dataclasses import dataclass

from common.console import whole_number
from common.settings import setting
from engine.recipe import Recipe
from engine.space import Choice, Range


@dataclass(frozen=True)
class Contextual_LSTMSettings:
    hidden_size: int = setting(50, "of both LSTMs", whole_number(1))


RECIPE = Recipe(
    "baselines.Contextual_LSTM.network:Contextual_LSTM",
    Contextual_LSTMSettings,
    defaults={"lr": 1e-4, "epochs": 200, "early_stop_turns": 10},
    search={
        "lr": Range(1e-5, 1e-2, log=True),
        "hidden_size": Choice((25, 50, 100, 200)),
        "label_scale": Choice(("none", "standard")),
    },
)
