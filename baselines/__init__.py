"""METHODS: every method by its name, its module imported on use.

A folder a method: its settings and RECIPE, which import no torch, and its class. A baseline imports no other; what two
share is in model/layers.py or engine. Imports engine, model, dataloader and common.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

from common.console import InputError
from engine.config import check_config
from engine.recipe import Recipe
from engine.run import Run

# name -> the module whose RECIPE says how it is offered and made
METHODS = {
    "MMRA": "baselines.MMRA",
    "SVR": "baselines.SVR",
    "Hyfea": "baselines.Hyfea",
    "Contextual_LSTM": "baselines.Contextual_LSTM",
    "MFTM": "baselines.MFTM",
    "TMALL": "baselines.TMALL",
    "MASSL": "baselines.MASSL",
    "CBAN": "baselines.CBAN",
    "HMMVED": "baselines.HMMVED",
    "RetrievalBoost": "baselines.RetrievalBoost",
    "LARK": "baselines.LARK",
    "Blend": "baselines.Blend",
    "TabM": "baselines.TabM",
    "TabR": "baselines.TabR",
    "AutoGluon": "baselines.AutoGluon",
}


def recipe(model_id: str) -> Recipe:
    if model_id not in METHODS:
        raise InputError(f"--model_id {model_id}: unknown method; known: {', '.join(METHODS)}")
    return importlib.import_module(METHODS[model_id]).RECIPE


def opened(path: Path | str, flag: str) -> tuple[Run, Recipe, dict[str, Any]]:
    """A run, the recipe of its method, and what it was trained with, flag by flag; InputError where it is no run.

    flag: what the user gave its path by.
    """
    run = Run.open(path, flag)
    settings = run.config.get("settings")
    model_id = settings.get("model_id") if isinstance(settings, dict) else None
    if not isinstance(model_id, str) or model_id not in METHODS:
        raise InputError(
            f"{run.folder / 'config.json'}: not the configuration of a run (its settings have model_id "
            f"{model_id!r}; known: {', '.join(METHODS)})"
        )
    how = recipe(model_id)
    trained = check_config(run, how)
    run.require_whole(resuming=flag == "--resume")
    return run, how, trained
