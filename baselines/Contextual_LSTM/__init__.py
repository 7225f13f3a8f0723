"""Contextual_LSTM: recurrent networks over frames and text (after Ghosh et al., 2016)."""

from __future__ import annotations

from dataclasses import dataclass

from common.console import whole_number
from common.settings import setting
from engine.recipe import Recipe


@dataclass(frozen=True)
class Contextual_LSTMSettings:
    hidden_size: int = setting(50, "of both LSTMs", whole_number(1))


RECIPE = Recipe(
    "baselines.Contextual_LSTM.network:Contextual_LSTM",
    Contextual_LSTMSettings,
    defaults={"lr": 1e-4, "epochs": 200, "early_stop_turns": 10},
)
