"""TabM: many networks in one, on columns alone (Gorishniy et al., "TabM", ICLR 2025): a rival of our own methods."""

from __future__ import annotations

from dataclasses import dataclass

from common.console import number, whole_number
from common.settings import setting
from engine.recipe import Recipe, without_retrieval
from engine.space import Choice, Range


@dataclass(frozen=True)
class TabMSettings:
    feature_dim: int = setting(256, "width of each layer", whole_number(1))
    blocks: int = setting(2, "layers before the last", whole_number(1))
    embedding_dim: int = setting(16, "what a number becomes", whole_number(1))
    dropout: float = setting(0.1, "after each layer", number(0, most=0.9))
    ensemble: int = setting(32, "members, which share most weights, and whose mean is the prediction", whole_number(1))
    no_retrieval: bool = setting(False, "without the neighbours' and the creator's labels")


RECIPE = Recipe(
    "model.TabM:TabM",
    TabMSettings,
    defaults={
        "num_of_retrieved_items": 20,
        "similarity_temperature": 0.1,
        "batch_size": 256,
        "early_stop_turns": 16,
        "label_scale": "standard",
        "optim": "AdamW",
        "lr": 2e-3,
        "weight_decay": 3e-4,
        "metric": ("nMSE",),
    },
    any_modality=True,
    takes_all=True,
    neighbours="statistics",
    statistics=True,
    reads_text=True,
    packages=("tabm", "rtdl_num_embeddings"),
    check=without_retrieval,
    search={
        "lr": Range(5e-4, 5e-3, log=True),
        "weight_decay": Range(1e-4, 0.1, log=True),
        "feature_dim": Choice((128, 256, 512)),
        "blocks": Range(1, 3),
        "dropout": Range(0, 0.5),
        "num_of_retrieved_items": Range(5, 50),
    },
)
