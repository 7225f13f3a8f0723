"""The kinds of features by name, of which a data set holds any, others too, and what a method wants of them."""

from __future__ import annotations

import argparse
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from common.console import InputError
from dataloader.names import NeighboursAs

# name -> axes of its array: visual (N, F, Dv), textual (N, Dt), audio (N, Da); any other name has two or three
AUDIO = "audio"
MODALITIES = {"visual": 3, "textual": 2, AUDIO: 2}
METADATA = "metadata"  # typed columns, in a file of their own; a method takes them as they are, or as an array (N, Dm)
RETRIEVAL = "retrieval"  # (N, R): what the retriever compares, and no method takes
TAKEN = {"items", "dataset", "neighbours", "metadata", "captions", "captured", "skipped"}  # files of a data set


def is_name(text: str) -> bool:
    """Whether features can have this name, which becomes that of a file."""
    return bool(re.fullmatch(r"[a-z][a-z0-9_]{0,39}", text)) and text not in TAKEN


def modality(text: str) -> str:
    """An argparse type: a name that features can have."""
    if not is_name(text) and text != METADATA:
        raise argparse.ArgumentTypeError(
            f"{text!r} names no features: lower-case letters, digits and _ are allowed, and not the name of another "
            "file of a data set"
        )
    return text


def named_files(texts: list[str], flag: str) -> dict[str, str]:
    """NAME=FILE of each -> name of features -> file; InputError for what is none. flag: that they were typed for."""
    found = {}
    for text in texts:
        name, mark, file = text.partition("=")
        if not mark or not file or not is_name(name) or name in found:
            raise InputError(f"--{flag} {text}: NAME=FILE is expected, as in textual=a.npy, each name once")
        found[name] = file
    return found


def side_of_metadata(modalities: Sequence[str]) -> str:
    """Behind which of the features of a published network, which knows no metadata, they stand."""
    return "textual" if "textual" in modalities else modalities[-1]


def axes(name: str) -> tuple[int, ...]:
    """How many axes the array of features `name` may have."""
    if name == RETRIEVAL:
        return (2,)
    return (MODALITIES[name],) if name in MODALITIES else (2, 3)


def in_order(names) -> list[str]:
    """Known names first, in the order of the table, then the others by name, retrieval last."""
    known = [*MODALITIES, METADATA, RETRIEVAL]
    return sorted(names, key=lambda n: (n == RETRIEVAL, known.index(n) if n in known else len(known), n))


def shape_in_words(name: str) -> str:
    flat, framed = "(items, dimension)", "(items, frames, dimension)"
    return " or ".join(flat if n == 2 else framed for n in reversed(axes(name)))


@dataclass(frozen=True)
class Wants:
    """What a method wants of a data set.

    method: its name, for messages. modalities: the features it takes; any_modality: any others too; needs_all: it can
    do without none of them, else without all but one. Metadata are taken where they are there by a method that takes
    anything, by any other where --modalities names them; typed_columns: as columns, not as an array.
    takes_all: others beside the published ones too, without --modalities.
    typed: those that --modalities chose, feature_num: how many they must be, if that was typed. left_out: by ablations.
    frame_num: frames of a video, all without it. neighbours: how it wants what an item retrieved, of the first k,
    weighed with `temperature`; None: not at all. sources: of "each" and "statistics", None for all there are; seed: of
    folds. wording: it is told what the wording of an item's text says of its label. as_columns: this and the statistics
    of neighbours' labels are further columns of metadata, also beside "each". drop_history: share of train's videos of
    whose creators nothing is told as such; None: as many as make train like valid. calibrates: what calibrates its
    intervals is held back of split valid.
    """

    method: str
    modalities: tuple[str, ...]
    any_modality: bool = False
    needs_all: bool = False
    typed_columns: bool = False
    takes_all: bool = False
    typed: tuple[str, ...] | None = None
    feature_num: int | None = None
    left_out: tuple[str, ...] = ()
    frame_num: int | None = None
    neighbours: NeighboursAs | None = None
    k: int = 10
    temperature: float = 1.0
    sources: tuple[str, ...] | None = (RETRIEVAL,)
    as_columns: bool = False
    wording: bool = False
    drop_history: float | None = None
    seed: int = 0
    calibrates: bool = False

    def of(self, there: Sequence[str]) -> tuple[str, ...]:
        """The modalities that are taken, of those that are there.

        InputError where the method cannot do with them; it lacks the name of one that is needed.

        Without --modalities they are the published ones that are there, or whatever is there for a method that takes
        anything. Those that an ablation leaves out are among them.
        """
        typed = self.typed or ()
        if len(set(typed)) < len(typed):
            raise InputError(f"--modalities {' '.join(typed)}: each once")
        if absent := [name for name in typed if name not in there]:
            raise InputError(f"--modalities {absent[0]}: the data set has {_listed(there)} features")
        known = (*self.modalities, METADATA)
        if foreign := [name for name in typed if name not in known and not self.any_modality]:
            raise InputError(
                f"--modalities {foreign[0]}: {self.method} takes {_listed(self.modalities)} features, and metadata"
            )
        taken = [name for name in self.modalities if name in (typed or there)]
        if self.any_modality:
            others = typed or (there if self.takes_all or not taken else ())
            taken += [name for name in others if name not in taken]
        if METADATA in (typed or (there if self.any_modality else ())) and METADATA not in taken:
            taken.append(METADATA)
        if self.needs_all and not set(self.modalities) <= set(taken):
            given = f"it is to take {_listed(typed)}" if typed else f"the data set has {_listed(there)}"
            lacks = next(name for name in self.modalities if name not in taken)
            needed = " and ".join(self.modalities)
            raise InputError(f"{self.method} needs {needed} features, and {given} alone", None if typed else lacks)
        if not self.used(taken):
            without = f" without {' and '.join(f'--no_{name}' for name in taken)}" if taken else ""
            needed = " or ".join(self.modalities)
            lacks = None if taken else self.modalities[-1]
            raise InputError(
                f"{self.method} needs {needed} features{without}; the data set has {_listed(there)}", lacks
            )
        if idle := [name for name in self.left_out if name not in taken]:
            raise InputError(f"--no_{idle[0]}: no {idle[0]} features are taken; leave it out")
        taken = in_order(taken)
        if self.feature_num not in (None, len(taken)):
            raise InputError(
                f"--feature_num {self.feature_num}: it is the number of feature kinds, and {self.method} takes "
                f"{len(taken)}, {' and '.join(taken)} (the width of the features is --feature_dim)"
            )
        if self.frame_num is not None and "visual" not in taken:
            raise InputError(f"--frame_num {self.frame_num}: no visual features are taken; leave it out")
        return tuple(taken)

    def used(self, taken: Collection[str]) -> tuple[str, ...]:
        """Of those that are taken the ones that no ablation leaves out."""
        return tuple(name for name in taken if name not in self.left_out)


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names) or "no"
