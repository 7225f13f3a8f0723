"""METHODS: every method by its name, its module imported on use.

A folder a method: its settings and RECIPE, which import no torch, and its class. A baseline imports no other; what two
share is in model/layers.py or engine. Imports engine, model, dataloader and common.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from common.console import InputError
from engine.recipe import Recipe

if TYPE_CHECKING:  # torch takes seconds to import, and a command line is to answer at once
    import torch

    from engine.method import Method
    from engine.run import Run
    from engine.settings import TrainingSettings

LIBRARIES = ("catboost", "lightgbm", "pytorch_tabnet")  # of requirements-baselines.txt
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
}


def recipe(model_id: str) -> Recipe:
    if model_id not in METHODS:
        raise InputError(f"--model_id {model_id}: unknown method; known: {', '.join(METHODS)}")
    return importlib.import_module(METHODS[model_id]).RECIPE


def class_of(model_id: str, family: str) -> type:
    """The class of a method for a data set of `family`; InputError where the library that it is made of is absent."""
    how = recipe(model_id)
    if how.network:
        # Imported now, so that a broken installation of TensorBoard is told of before a run's folder is made.
        importlib.import_module("engine.network")
    try:
        return how.made(family)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in LIBRARIES:
            raise
        raise InputError(
            f"{model_id} needs the package {error.name}, which is not installed; "
            "pip install -r requirements-baselines.txt"
        ) from None


def build(
    model_id: str,
    family: str,
    arguments: dict,
    training: TrainingSettings,
    device: torch.device,
    run: Run | None = None,
) -> Method:
    """The method `model_id` for a data set of `family`, its class made with `arguments`."""
    how, made = recipe(model_id), class_of(model_id, family)
    if how.network:
        from engine.network import Network

        return Network(made(**arguments), training, device, run)
    return made(**arguments, seed=training.seed, device=device, run=run)


def method_of(run: Run) -> str:
    """The name of the method that `run` trained."""
    settings = run.config.get("settings")
    model_id = settings.get("model_id") if isinstance(settings, dict) else None
    if not isinstance(model_id, str) or model_id not in METHODS:
        raise InputError(
            f"{run.folder / 'config.json'}: not the configuration of a run (its settings have model_id "
            f"{model_id!r}; known: {', '.join(METHODS)})"
        )
    return model_id
