"""AutoGluon: many kinds of models on the raw table, weighed by split valid (Erickson et al., 2020): a rival."""

from __future__ import annotations

from dataclasses import dataclass

from common.console import whole_number
from common.settings import setting
from engine.recipe import RIVALS, Recipe, without_retrieval


@dataclass(frozen=True)
class AutoGluonSettings:
    time_limit: int = setting(240, "seconds for the fit of all targets", whole_number(1))
    components: int = setting(
        32, "principal components of each kind of features; 0 leaves features out", whole_number(0)
    )
    bag_folds: int = setting(
        0,
        "parts of train of which each model leaves one out in turn, with split valid to weigh them by; 0: none",
        whole_number(0),
    )
    no_retrieval: bool = setting(False, "without the neighbours' and the creator's labels")


RECIPE = Recipe(
    "baselines.AutoGluon.estimator:AutoGluon",
    AutoGluonSettings,
    defaults={"num_of_retrieved_items": 20, "similarity_temperature": 0.1},
    any_modality=True,
    typed_columns=True,
    takes_all=True,
    neighbours="statistics",
    reads_text=True,
    network=False,
    transductive=True,
    packages=("autogluon",),
    installed_by=RIVALS,
    check=without_retrieval,
)
