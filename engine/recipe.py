"""Recipe: a method as the command line offers it: its settings, its published defaults, and where its class is.

A method's own flags are the fields of its settings class, and arguments of its class by the same names. A shared flag
has the default of engine/settings.py, unless the recipe's `defaults` says otherwise. Imports no torch: the class is
imported when it is made.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, get_type_hints

from common.console import InputError, in_one_line
from common.settings import Flag, flags_of
from dataloader.modalities import Wants
from dataloader.names import NeighboursAs
from engine.settings import DataSettings, RetrievalSettings, SourceSettings, TrainingSettings
from engine.space import Choice, Range

if TYPE_CHECKING:  # a command line makes its parser of recipes, without waiting for torch
    import torch

    from engine.method import Method
    from engine.run import Run

BASELINES = "pip install -r requirements-baselines.txt"
RIVALS = "pip install --no-deps -r requirements-rivals.txt"  # what they ask for would move other packages
PUBLISHED = ("visual", "textual")  # what the published methods take
RETRIEVAL, SOURCES, TRAINING = map(flags_of, (RetrievalSettings, SourceSettings, TrainingSettings))


@dataclass(frozen=True)
class Recipe:
    """How to offer and make a method.

    where: `module:Class`, whose keyword-only constructor takes what `arguments` gives and, where it is no network,
        seed, device and run; {family} in it stands for the data set's
    settings: the method's own flags; a switch `no_x` turns the argument `use_x` off
    defaults: of shared flags, where the published ones are others
    presets: name -> defaults, of which --preset takes one; the first is the default
    modalities: the features it takes; any_modality: any others too, each as one flat vector
    needs_all: it can do without none of them; else without all but one
    typed_columns: it takes metadata as typed columns, not as an array
    takes_all: of any modality, it takes others than the published ones beside these
    neighbours: how it wants what an item retrieved, "aggregated", "each" or "statistics"; None: not at all
    statistics: it is given statistics of the neighbours' labels as further columns of metadata: with neighbours "each"
        beside each of them, with "statistics" alone
    reads_text: it is told what the wording of an item's text says of its label, where textual features are taken
    network: it is trained by the one loop, with the flags of training; else a library fits it
    own_loss: its loss is its own, so it has no use for --loss
    blends: it is a weighted mean of other methods, each trained as a run of its own
    packages: that its class imports and not everyone has; installed_by: the command
    check: refuses, with an InputError, settings that contradict each other; given them and those that were typed
    search: name of a flag -> what a search for better settings tries of it
    calibrates: a part of split valid is held back, on which intervals of its predictions are calibrated
    """

    where: str
    settings: type
    defaults: Mapping[str, Any] = field(default_factory=dict)
    presets: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    modalities: tuple[str, ...] = PUBLISHED
    any_modality: bool = False
    needs_all: bool = False
    typed_columns: bool = False
    takes_all: bool = False
    neighbours: NeighboursAs | None = None
    statistics: bool = False
    reads_text: bool = False
    network: bool = True
    own_loss: bool = False
    transductive: bool = False
    blends: bool = False
    packages: tuple[str, ...] = ()
    installed_by: str = BASELINES
    check: Callable[[Mapping[str, Any], Mapping[str, Any]], None] = lambda settings, typed: None
    search: Mapping[str, Range | Choice] = field(default_factory=dict)
    calibrates: bool = False

    def made(self, family: str = "MicroLens") -> type:
        """The class, for a data set of `family`; InputError where the library that it is made of is absent."""
        self.require()
        module, _, name = self.where.format(family=family).partition(":")
        try:
            return getattr(importlib.import_module(module), name)
        except ModuleNotFoundError as error:  # of what a package is made of itself
            if not self.packages:
                raise
            raise self._lacks(error.name) from None

    def require(self) -> None:
        """InputError where a package that the class is made of is absent; none is imported."""
        for package in self.packages:
            if importlib.util.find_spec(package) is None:
                raise self._lacks(package)

    def _lacks(self, package: str) -> InputError:
        name = self.where.partition(":")[2]
        return InputError(f"{name} needs the package {package}, which is not installed; {self.installed_by}")

    def build(
        self, family: str, arguments: dict, training: TrainingSettings, device: torch.device, run: Run | None = None
    ) -> Method:
        """The method for a data set of `family`, its class made with `arguments`."""
        made = self.made(family)
        if self.network:
            from engine.network import Network

            try:
                network = made(**arguments)
            except (RuntimeError, OverflowError, MemoryError) as error:  # dimensions that no memory holds
                raise InputError(
                    f"{made.__name__} cannot be made as large as it is asked for: {in_one_line(error)}"
                ) from None
            return Network(network, training, device, run)
        return made(**arguments, seed=training.seed, device=device, run=run)

    def groups(self, preset: str | None = None) -> dict[str, dict[str, Flag]]:
        """Title -> the method's flags with their defaults: those shared by all, its own, retrieval, training."""
        own = flags_of(self.settings)
        if self.presets:
            named = {name: ", ".join(f"{f} {v}" for f, v in values.items()) for name, values in self.presets.items()}
            said = "; ".join(f"{name}: {values or 'the defaults'}" for name, values in named.items())
            first = next(iter(self.presets))
            own["preset"] = Flag(f"defaults by name, typed flags go before ({said})", str, first, tuple(self.presets))
        groups = {"data": flags_of(DataSettings), "model": own}
        if self.neighbours:
            groups["retrieval"] = SOURCES if self.merges_sources else RETRIEVAL
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
        return self.neighbours is not None and not settings.get("no_retrieval", False)

    @property
    def merges_sources(self) -> bool:
        """It learns of several sources of neighbours at once, and of creators."""
        return self.neighbours == "statistics" or self.statistics

    # ---- what it gets of a data set ------------------------------------------------------------

    def wants(self, settings: Mapping[str, Any], typed: Mapping[str, Any] | None = None) -> Wants:
        """What a run with these settings wants; typed: flags that the user gave, of which a default is told."""
        retrieval = {"seed": settings["seed"]} if "seed" in settings else {}
        if self.retrieves(settings):
            retrieval |= {"neighbours": self.neighbours, "k": settings["num_of_retrieved_items"]}
            retrieval |= {"temperature": settings["similarity_temperature"]}
            if self.merges_sources:
                retrieval |= {"sources": settings["sources"] and tuple(settings["sources"])}
                retrieval |= {"drop_history": settings["drop_history"]}
        modalities = settings.get("modalities")
        return Wants(
            method=settings["model_id"],
            modalities=self.modalities,
            any_modality=self.any_modality,
            needs_all=self.needs_all,
            typed_columns=self.typed_columns,
            takes_all=self.takes_all,
            typed=tuple(modalities) if modalities else None,
            feature_num=(typed or {}).get("feature_num"),
            left_out=tuple(name for name in self.modalities if settings.get(f"no_{name}", False)),
            frame_num=settings["frame_num"],
            as_columns=self.statistics,
            wording=self.reads_text and "textual" in (modalities or ("textual",)),
            **retrieval,
        )

    # ---- how its class is made -----------------------------------------------------------------

    def arguments(
        self,
        settings: Mapping[str, Any],
        shapes: Mapping[str, Sequence[int]],
        modalities: Sequence[str],
        label_dim: int,
        sources: Sequence[str] = (),
        numbers: int = 0,
    ) -> dict[str, Any]:
        """What the class is made with; `modalities` are those that are used.

        numbers: how many of metadata's columns are numbers, the first ones, for a network that takes `statistics`.
        sources: of its neighbours; these, and the temperature of similarities, for one that takes each of them too.

        shapes: of an item's features, by modality, as the method gets them: visual (F, Dv), textual (Dt,). A method
        that takes anything is given those of `modalities`, any other the dimensions of what it knows, 1 for what the
        data set has not, and `use_<modality>` where it can do without one.
        """
        own = dict(argument(name, settings[name]) for name in flags_of(self.settings))
        if self.any_modality:
            shapes = {name: list(shapes[name]) for name in modalities}
            beside = {}
            if self.statistics and self.network:
                beside = {"numbers": numbers}
            if self.statistics and self.neighbours == "each":
                beside |= {"sources": list(sources), "similarity_temperature": settings["similarity_temperature"]}
            return {"shapes": shapes, "label_dim": label_dim} | own | beside
        dims = {f"{name}_dim": shapes[name][-1] if name in shapes else 1 for name in self.modalities}
        frames = {"frame_num": shapes["visual"][0] if "visual" in shapes else 1} if "visual" in self.modalities else {}
        use = {} if self.needs_all else {f"use_{name}": name in modalities for name in self.modalities}
        return dims | frames | {"label_dim": label_dim} | own | use

    def argument_types(self) -> dict[str, Any]:
        """Argument of the class -> what config.json must hold for it."""
        hints = get_type_hints(self.settings)
        own = {argument(name, False)[0]: hints[name] for name in flags_of(self.settings)}
        if self.any_modality:
            beside = {"numbers": int} if self.statistics and self.network else {}
            if self.statistics and self.neighbours == "each":
                beside |= {"sources": list, "similarity_temperature": float}
            return {"shapes": dict, "label_dim": int} | own | beside
        dims = dict.fromkeys([f"{name}_dim" for name in self.modalities], int)
        frames = {"frame_num": int} if "visual" in self.modalities else {}
        use = {} if self.needs_all else dict.fromkeys([f"use_{name}" for name in self.modalities], bool)
        return dims | frames | {"label_dim": int} | own | use


def argument(flag: str, value: Any) -> tuple[str, Any]:
    """A flag's name and value -> the argument of the class: a switch no_x is the argument use_x, turned round."""
    return (f"use_{flag.removeprefix('no_')}", not value) if flag.startswith("no_") else (flag, value)


def without_retrieval(settings: Mapping[str, Any], typed: Mapping[str, Any], *others: str) -> None:
    """A check: InputError for flags of retrieval, and `others`, that were typed beside --no_retrieval."""
    for flag in (*SOURCES, *others):
        if settings["no_retrieval"] and flag in typed:
            raise InputError(f"--{flag} does nothing with --no_retrieval; leave one of them out")
