"""MASSL: as HMMVED, with a convolutional decoder (published code)."""

from __future__ import annotations

from dataclasses import dataclass

from common.console import number, whole_number
from common.settings import setting
from engine.recipe import Recipe
from engine.space import Choice, Range

LEAST_LATENT = 39  # below, nothing is left after the convolutions and poolings


@dataclass(frozen=True)
class MASSLSettings:
    latent_dim: int = setting(256, f"size of the latent vector, at least {LEAST_LATENT}", whole_number(LEAST_LATENT))
    kl_weight: float = setting(0.05, "share of the KL divergence in the loss, the rest is MSE", number(0, most=1))


RECIPE = Recipe(
    "baselines.MASSL.network:MASSL",
    MASSLSettings,
    defaults={"lr": 1e-4, "epochs": 200, "early_stop_turns": 10},
    own_loss=True,
    search={
        "lr": Range(1e-5, 1e-2, log=True),
        "latent_dim": Choice((64, 128, 256)),
        "kl_weight": Range(1e-3, 0.5, log=True),
        "label_scale": Choice(("none", "standard")),
    },
)
