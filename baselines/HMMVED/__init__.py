"""HMMVED: a multimodal variational encoder and decoder (Xie et al., 2021)."""

from __future__ import annotations

from dataclasses import dataclass

from common.console import number, whole_number
from common.settings import setting
from engine.recipe import Recipe
from engine.space import Choice, Range


@dataclass(frozen=True)
class HMMVEDSettings:
    latent_dim: int = setting(50, "size of the latent vector", whole_number(1))
    kl_weight: float = setting(0.05, "share of the KL divergence in the loss, the rest is MSE", number(0, most=1))


RECIPE = Recipe(
    "baselines.HMMVED.network:HMMVED",
    HMMVEDSettings,
    defaults={"lr": 1e-4, "epochs": 200, "early_stop_turns": 10},
    own_loss=True,
    search={
        "lr": Range(1e-5, 1e-2, log=True),
        "latent_dim": Choice((25, 50, 100, 200)),
        "kl_weight": Range(1e-3, 0.5, log=True),
        "label_scale": Choice(("none", "standard")),
    },
)
