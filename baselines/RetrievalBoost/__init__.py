"""RetrievalBoost: boosted trees on metadata, features and the labels of neighbours and of the creator. Ours."""

from __future__ import annotations

from dataclasses import dataclass

from common.console import number, whole_number
from common.settings import setting
from engine.recipe import Recipe, without_retrieval
from engine.space import Choice, Range


@dataclass(frozen=True)
class RetrievalBoostSettings:
    components: int = setting(
        32, "principal components of each kind of features; 0 leaves features out", whole_number(0)
    )
    trees: int = setting(3000, "at most", whole_number(1))
    depth: int = setting(6, "of each tree", whole_number(1, 16))
    lr: float = setting(0.05, "learning rate", number(0, above=True))
    early_stop_turns: int = setting(100, "trees without a better valid RMSE, then stop", whole_number(1))
    ensemble: int = setting(2, "forests, whose mean is the prediction", whole_number(1))
    no_retrieval: bool = setting(False, "ablation: without the neighbours' and the creator's labels")


RECIPE = Recipe(
    "baselines.RetrievalBoost.estimator:RetrievalBoost",
    RetrievalBoostSettings,
    defaults={"num_of_retrieved_items": 20, "similarity_temperature": 0.1},
    any_modality=True,
    typed_columns=True,
    takes_all=True,
    neighbours="statistics",
    reads_text=True,
    network=False,
    search={
        "lr": Range(0.01, 0.2, log=True),
        "depth": Range(4, 8),
        "components": Choice((0, 8, 16, 32, 64)),
        "num_of_retrieved_items": Range(5, 50),
        "similarity_temperature": Range(0.03, 1, log=True),
    },
    packages=("catboost",),
    check=without_retrieval,
    calibrates=True,
)
