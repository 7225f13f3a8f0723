"""HMMVED: a multimodal variational encoder and decoder (Xie et al., 2021)."""

from __future__ import annotations

from dataclasses import dataclass

from common.console import number, whole_number
from common.settings import setting
from engine.recipe import Recipe


@dataclass(frozen=True)
class HMMVEDSettings:
    latent_dim: int = setting(50, "size of the latent vector", whole_number(1))
    kl_weight: float = setting(0.05, "share of the KL divergence in the loss, the rest is MSE", number(0, most=1))


RECIPE = Recipe(
    "baselines.HMMVED.network:HMMVED",
    HMMVEDSettings,
    defaults={"lr": 1e-4, "epochs": 200, "early_stop_turns": 10},
    own_loss=True,
)
