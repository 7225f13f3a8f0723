"""METHODS: every method by its name, imported on use."""

from __future__ import annotations

import importlib

import torch

from dataloader.console import InputError
from engine.method import Method
from engine.network import Network, Training
from engine.run import Run

# name -> module and class; {family} is the data set's: MMRA has a model for each
METHODS = {"MMRA": "model.{family}.MMRA:MMRA"}


def build(
    model_id: str, family: str, arguments: dict, training: Training, device: torch.device, run: Run | None = None
) -> Method:
    """The method `model_id` for a data set of `family`, its class made with `arguments`."""
    if model_id not in METHODS:
        raise InputError(f"--model_id {model_id}: unknown method; known: {', '.join(METHODS)}")
    module, _, name = METHODS[model_id].format(family=family).partition(":")
    return Network(getattr(importlib.import_module(module), name)(**arguments), training, device, run)
