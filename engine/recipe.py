"""Recipe: a method as the command line offers it: its settings, its published defaults, and where its class is.

A method's own flags are the fields of its settings class, and arguments of its class by the same names. A shared flag
has the default of engine/settings.py, unless the recipe's `defaults` says otherwise. Imports no torch: the class is
imported when it is made.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, get_type_hints

from common.settings import Flag, flags_of
from engine.settings import DataSettings, RetrievalSettings, TrainingSettings

DIMENSIONS = ("visual_dim", "textual_dim", "frame_num", "label_dim")  # arguments of every method, from the data set
RETRIEVAL, TRAINING = flags_of(RetrievalSettings), flags_of(TrainingSettings)


@dataclass(frozen=True)
class Recipe:
    """How to offer and make a method.

    where: `module:Class`, whose keyword-only constructor takes DIMENSIONS, the own settings and, where it is no
        network, seed, device and run; {family} in it stands for the data set's
    settings: the method's own flags; a switch `no_x` turns the argument `use_x` off
    defaults: of shared flags, where the published ones are others
    presets: name -> defaults, of which --preset takes one; the first is the default
    network: it is trained by the one loop, with the flags of training; else a library fits it
    own_loss: its loss is its own, so it has no use for --loss
    check: refuses, with an InputError, settings that contradict each other; given them and those that were typed
    """

    where: str
    settings: type
    defaults: Mapping[str, Any] = field(default_factory=dict)
    presets: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    network: bool = True
    own_loss: bool = False
    transductive: bool = False
    uses_retrieval: bool = False
    check: Callable[[Mapping[str, Any], Mapping[str, Any]], None] = lambda settings, typed: None

    def made(self, family: str = "MicroLens") -> type:
        """The class, for a data set of `family`."""
        module, _, name = self.where.format(family=family).partition(":")
        return getattr(importlib.import_module(module), name)

    def groups(self, preset: str | None = None) -> dict[str, dict[str, Flag]]:
        """Title -> the method's flags with their defaults: those shared by all, its own, retrieval, training."""
        own = flags_of(self.settings)
        if self.presets:
            named = {name: ", ".join(f"{f} {v}" for f, v in values.items()) for name, values in self.presets.items()}
            said = "; ".join(f"{name}: {values or 'the defaults'}" for name, values in named.items())
            first = next(iter(self.presets))
            own["preset"] = Flag(f"defaults by name, typed flags go before ({said})", str, first, tuple(self.presets))
        groups = {"data": flags_of(DataSettings), "model": own}
        if self.uses_retrieval:
            groups["retrieval"] = RETRIEVAL
        if self.network:
            groups["training"] = {name: flag for name, flag in TRAINING.items() if name != "loss" or not self.own_loss}
        values = self.defaults | self.presets.get(preset, {})
        return {
            title: {name: replace(flag, default=values.get(name, flag.default)) for name, flag in flags.items()}
            for title, flags in groups.items()
        }

    def flags(self) -> dict[str, Flag]:
        return {name: flag for flags in self.groups().values() for name, flag in flags.items()}

    def retrieves(self, settings: Mapping[str, Any]) -> bool:
        return self.uses_retrieval and not settings.get("no_retrieval", False)

    def arguments(self, settings: Mapping[str, Any], dimensions: Mapping[str, int]) -> dict[str, Any]:
        """Flags and the data set's dimensions -> what the class is made with."""
        return dict(dimensions) | dict(argument(name, settings[name]) for name in flags_of(self.settings))

    def argument_types(self) -> dict[str, Any]:
        """Argument of the class -> what config.json must hold for it."""
        hints = get_type_hints(self.settings)
        own = {argument(name, False)[0]: hints[name] for name in flags_of(self.settings)}
        return dict.fromkeys(DIMENSIONS, int) | own


def dimensions(store, frame_num: int) -> dict[str, int]:
    """DIMENSIONS of a data set (a FeatureStore) of which `frame_num` frames are used."""
    return {
        "visual_dim": store.visual.shape[2],
        "textual_dim": store.textual.shape[1],
        "frame_num": frame_num,
        "label_dim": store.items.label_dim,
    }


def argument(flag: str, value: Any) -> tuple[str, Any]:
    """A flag's name and value -> the argument of the class: a switch no_x is the argument use_x, turned round."""
    return (f"use_{flag.removeprefix('no_')}", not value) if flag.startswith("no_") else (flag, value)
