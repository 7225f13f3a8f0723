"""Recipe: a method as the command line offers it: its class, its flags, its published defaults.

A method's own flags are arguments of its constructor, whose signature is the one place of their defaults. A shared flag
has the default of TRAINING, RETRIEVAL or DATA below, unless the recipe's `defaults` says otherwise.
"""

from __future__ import annotations

import argparse
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, get_type_hints

from torch import nn

from dataloader.console import number, whole_number
from dataloader.store import FeatureStore
from engine.metrics import METRICS
from engine.network import LOSSES, OPTIMISERS, PRECISIONS, Training

DIMENSIONS = ("visual_dim", "textual_dim", "frame_num", "label_dim")  # arguments of every method, from the data set


@dataclass(frozen=True)
class Flag:
    """A command-line flag. A bool as default makes it a switch; `parse` is an argparse type."""

    help: str
    parse: Callable[[str], Any] = str
    default: Any = None
    choices: tuple[str, ...] | None = None

    def add(self, group, name: str) -> None:
        if isinstance(self.default, bool):
            group.add_argument(f"--{name}", action="store_true", help=self.help)
        else:
            group.add_argument(f"--{name}", type=self.parse, default=self.default, choices=self.choices, help=self.help)

    def accepts(self, value: object) -> bool:
        """Whether config.json may hold `value` for this flag."""
        if self.default is None and value is None:
            return True
        kind = list if self.parse is metric_names else int if self.default is None else type(self.default)
        if type(value) is not kind or (self.choices is not None and value not in self.choices):
            return False
        if kind is bool:
            return True
        try:
            self.parse("+".join(map(str, value)) if kind is list else str(value))
        except (argparse.ArgumentTypeError, ValueError):
            return False
        return True


def metric_names(text: str) -> tuple[str, ...]:
    names = tuple(text.split("+"))
    if unknown := [name for name in names if name not in METRICS]:
        raise argparse.ArgumentTypeError(f"{unknown[0]!r} is unknown; known, and summed with +: {', '.join(METRICS)}")
    return names


DATA = {
    "feature_num": Flag("kinds of features: 2, visual and textual", int, 2),
    "label_dim": Flag("number of targets; must agree with the data set", whole_number(1)),
    "frame_num": Flag("frames used of each video; all the data set has if not given", whole_number(1)),
    "seed": Flag("of all that is drawn at random: weights, order, noise, samples", whole_number(0), Training.seed),
}
RETRIEVAL = {
    "num_of_retrieved_items": Flag("K, neighbours aggregated", whole_number(1), 10),
    "similarity_temperature": Flag(
        "neighbours weigh softmax(similarity / this); 1 is published and nearly uniform, 0.1 prefers the nearest",
        number(0, above=True),
        1.0,
    ),
}
TRAINING = {
    "epochs": Flag("at most", whole_number(1), Training.epochs),
    "batch_size": Flag("videos a step", whole_number(1), Training.batch_size),
    "early_stop_turns": Flag("epochs without a better one, then stop", whole_number(1), Training.early_stop_turns),
    "loss": Flag("BCE is for labels in [0, 1]", str, Training.loss, tuple(LOSSES)),
    "optim": Flag("optimiser", str, Training.optim, tuple(OPTIMISERS)),
    "lr": Flag("learning rate", number(0, above=True), Training.lr),
    "weight_decay": Flag("of the optimiser", number(0), Training.weight_decay),
    "metric": Flag(
        f"what chooses the epoch, on the whole valid split: one of {', '.join(METRICS)}, or a sum of them with + "
        "(SRC counts negative)",
        metric_names,
        "+".join(Training.metric),
    ),
    "precision": Flag("of the matrix products", str, Training.precision, tuple(PRECISIONS)),
    "no_shuffle": Flag("train in the order of the data set, as published", default=False),
}


@dataclass(frozen=True)
class Recipe:
    """How to offer and make a method.

    made: its class, whose keyword-only constructor takes DIMENSIONS, the own flags and, where it is no network, seed,
        device and run
    own: flag -> its help and type; a switch `no_x` turns the argument `use_x` off
    defaults: of shared flags, where the published ones are others
    presets: name -> defaults, of which --preset takes one; the first is the default
    made_for: a data set's family -> the class, where it is not the same for all
    check: refuses, with an InputError, settings that contradict each other; given them and those that were typed
    """

    made: type
    own: Mapping[str, Flag] = field(default_factory=dict)
    defaults: Mapping[str, Any] = field(default_factory=dict)
    presets: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    uses_retrieval: bool = False
    made_for: Callable[[str], type] | None = None
    check: Callable[[Mapping[str, Any], Mapping[str, Any]], None] = lambda settings, typed: None

    @property
    def is_network(self) -> bool:
        return issubclass(self.made, nn.Module)

    @property
    def is_transductive(self) -> bool:
        return getattr(self.made, "transductive", False)

    def groups(self, preset: str | None = None) -> dict[str, dict[str, Flag]]:
        """Title -> the method's flags with their defaults: those shared by all, its own, retrieval, training."""
        signature = inspect.signature(self.made).parameters
        own = {name: replace(flag, default=_default(name, signature)) for name, flag in self.own.items()}
        if self.presets:
            named = {name: ", ".join(f"{f} {v}" for f, v in values.items()) for name, values in self.presets.items()}
            said = "; ".join(f"{name}: {values or 'the defaults'}" for name, values in named.items())
            first = next(iter(self.presets))
            own["preset"] = Flag(f"defaults by name, typed flags go before ({said})", str, first, tuple(self.presets))
        groups = {"data": DATA, "model": own}
        if self.uses_retrieval:
            groups["retrieval"] = RETRIEVAL
        if self.is_network:
            # A network with a loss of its own has no use for --loss.
            plain = not hasattr(self.made, "loss")
            groups["training"] = {name: flag for name, flag in TRAINING.items() if plain or name != "loss"}
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
        return dict(dimensions) | dict(_argument(name, settings[name]) for name in self.own)

    def argument_types(self) -> dict[str, Any]:
        """Argument of the class -> what config.json must hold for it."""
        hints = get_type_hints(self.made.__init__)
        names = (*DIMENSIONS, *(_argument(name, False)[0] for name in self.own))
        return {name: int if name in DIMENSIONS else hints[name] for name in names}


def dimensions(store: FeatureStore, frame_num: int) -> dict[str, int]:
    """DIMENSIONS of a data set of which `frame_num` frames are used."""
    return {
        "visual_dim": store.visual.shape[2],
        "textual_dim": store.textual.shape[1],
        "frame_num": frame_num,
        "label_dim": store.items.label_dim,
    }


def _argument(flag: str, value: Any) -> tuple[str, Any]:
    return (f"use_{flag.removeprefix('no_')}", not value) if flag.startswith("no_") else (flag, value)


def _default(flag: str, signature: Mapping[str, inspect.Parameter]) -> Any:
    name, _ = _argument(flag, True)
    default = signature[name].default
    return not default if name != flag else default
