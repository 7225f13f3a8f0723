"""SVR: support vector regression with a radial kernel on standardised features (scikit-learn's defaults)."""

from __future__ import annotations

from dataclasses import dataclass

from common.console import number, whole_number
from common.settings import setting
from engine.recipe import Recipe
from engine.space import Range


@dataclass(frozen=True)
class SVRSettings:
    C: float = setting(1.0, "penalty of errors beyond epsilon", number(0, above=True))
    epsilon: float = setting(0.1, "errors up to this cost nothing", number(0))
    max_train_items: int | None = setting(
        None, "fit a seeded sample of train of this size; all of it if not given", whole_number(2)
    )


RECIPE = Recipe(
    "baselines.SVR.estimator:SVR",
    SVRSettings,
    any_modality=True,
    network=False,
    search={"C": Range(0.1, 100, log=True), "epsilon": Range(0.01, 1, log=True)},
)
