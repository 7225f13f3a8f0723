"""TabR: a network that looks its neighbours up among train by itself (Gorishniy et al., "TabR", ICLR 2024): a rival."""

from __future__ import annotations

from dataclasses import dataclass

from common.console import whole_number
from common.settings import setting
from engine.recipe import RIVALS, Recipe, without_retrieval


@dataclass(frozen=True)
class TabRSettings:
    components: int = setting(
        32, "principal components of each kind of features; 0 leaves features out", whole_number(0)
    )
    epochs: int = setting(100, "at most", whole_number(1))
    early_stop_turns: int = setting(16, "epochs without a better one on split valid, then stop", whole_number(1))
    no_retrieval: bool = setting(False, "without the neighbours' and the creator's labels, but for TabR's own")


RECIPE = Recipe(
    "baselines.TabR.estimator:TabR",
    TabRSettings,
    defaults={"num_of_retrieved_items": 20, "similarity_temperature": 0.1},
    any_modality=True,
    takes_all=True,
    neighbours="statistics",
    statistics=True,
    reads_text=True,
    network=False,
    transductive=True,
    packages=("pytabkit", "faiss", "skorch"),
    installed_by=RIVALS,
    check=without_retrieval,
)
