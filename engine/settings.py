"""Settings: dataclasses whose fields are flags, each with its default, its help and its check. Imports no torch.

The parser of a script is made from them, config.json holds their values, and a published flag is a field's name.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from dataloader.console import number, whole_number
from engine.metrics import METRICS

LOSSES = ("MSE", "MAE", "Huber", "BCE")
OPTIMISERS = ("Adam", "AdamW", "SGD")
PRECISIONS = ("fp32", "bf16")


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


def setting(
    default: Any,
    help: str,
    parse: Callable[[str], Any] = str,
    choices: tuple[str, ...] | None = None,
    typed: Any = None,
) -> Any:
    """A field of a settings class. typed: its default as it would be typed, where that is parsed to something else."""
    flag = Flag(help, parse, default if typed is None else typed, choices)
    return field(default=default, metadata={"flag": flag})


def flags_of(settings: type) -> dict[str, Flag]:
    """A settings class -> its flags by name; a field without a flag is not for the command line."""
    return {one.name: one.metadata["flag"] for one in fields(settings) if "flag" in one.metadata}


def metric_names(text: str) -> tuple[str, ...]:
    names = tuple(text.split("+"))
    if unknown := [name for name in names if name not in METRICS]:
        raise argparse.ArgumentTypeError(f"{unknown[0]!r} is unknown; known, and summed with +: {', '.join(METRICS)}")
    return names


@dataclass(frozen=True)
class DataSettings:
    feature_num: int = setting(2, "kinds of features: 2, visual and textual", int)
    label_dim: int | None = setting(None, "number of targets; must agree with the data set", whole_number(1))
    frame_num: int | None = setting(
        None, "frames used of each video; all the data set has if not given", whole_number(1)
    )
    seed: int = setting(2024, "of all that is drawn at random: weights, order, noise, samples", whole_number(0))


@dataclass(frozen=True)
class RetrievalSettings:
    num_of_retrieved_items: int = setting(10, "K, neighbours aggregated", whole_number(1))
    similarity_temperature: float = setting(
        1.0,
        "neighbours weigh softmax(similarity / this); 1 is published and nearly uniform, 0.1 prefers the nearest",
        number(0, above=True),
    )


@dataclass(frozen=True)
class TrainingSettings:
    """How a network is trained; the defaults are the published ones, but for shuffling."""

    epochs: int = setting(100, "at most", whole_number(1))
    batch_size: int = setting(64, "videos a step", whole_number(1))
    early_stop_turns: int = setting(20, "epochs without a better one, then stop", whole_number(1))
    loss: str = setting("MSE", "BCE is for labels in [0, 1]", str, LOSSES)
    optim: str = setting("Adam", "optimiser", str, OPTIMISERS)
    lr: float = setting(1e-5, "learning rate", number(0, above=True))
    weight_decay: float = setting(0.0, "of the optimiser", number(0))
    metric: tuple[str, ...] = setting(
        ("MAE", "nMSE"),
        f"what chooses the epoch, on the whole valid split: one of {', '.join(METRICS)}, or a sum of them with + "
        "(SRC counts negative)",
        metric_names,
        typed="MAE+nMSE",
    )
    precision: str = setting("fp32", "of the matrix products", str, PRECISIONS)
    no_shuffle: bool = setting(False, "train in the order of the data set, as published")
    seed: int = DataSettings.seed  # a flag there

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> TrainingSettings:
        """Flags of train.py -> how to train; what a method has no flag for stays as it is."""
        return cls(**{one.name: settings[one.name] for one in fields(cls) if one.name in settings})
