"""MMRA as a method: its flags and presets; the networks are in model/, one for each family of data sets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from common.console import InputError, number, whole_number
from common.settings import setting
from engine.recipe import Recipe
from engine.space import Choice, Range


@dataclass(frozen=True)
class MMRASettings:
    feature_dim: int = setting(768, "D, width of the embeddings", whole_number(1))
    alpha: float = setting(0.6, "weight of the negative attention", number(0))
    no_retrieval: bool = setting(False, "ablation: no neighbours, and zeros for what their branch would give")
    no_retrieved_label: bool = setting(False, "ablation: zeros for what the neighbours' labels would give")
    no_visual: bool = setting(False, "ablation: zeros for all that frames would give, the neighbours' too")
    no_textual: bool = setting(False, "ablation: zeros for all that text would give, the neighbours' too")


PRESETS = {
    "published": {},
    # Chosen on split valid of four splits of two data sets: docs/results/preset.md has the search.
    "recommended": {
        "num_of_retrieved_items": 50,
        "similarity_temperature": 0.08,
        "feature_dim": 64,
        "lr": 1e-4,
        "label_scale": "standard",
    },
}


def check(settings: Mapping[str, Any], typed: Mapping[str, Any]) -> None:
    """InputError where one flag takes away what another is about."""
    for flag in ("num_of_retrieved_items", "similarity_temperature", "no_retrieved_label"):
        if settings["no_retrieval"] and flag in typed:
            raise InputError(f"--{flag} does nothing with --no_retrieval; leave one of them out")
    if settings["no_visual"] and settings["no_textual"]:
        raise InputError("--no_visual and --no_textual together leave nothing to predict from; leave one of them out")


RECIPE = Recipe(
    "model.{family}.MMRA:MMRA",
    MMRASettings,
    presets=PRESETS,
    neighbours="aggregated",
    check=check,
    search={
        "lr": Range(1e-5, 1e-3, log=True),
        "feature_dim": Choice((64, 128, 256, 768)),
        "alpha": Range(0, 1),
        "num_of_retrieved_items": Range(5, 50),
        "similarity_temperature": Range(0.03, 1, log=True),
        "label_scale": Choice(("none", "standard")),
    },
)
