"""--ablation: the reference row with a part left out, and the paper's sensitivity figures around its settings.

The settings that the reference really has are read from a finished run of it, so that a value that it has already is
not trained again, whatever flag or default it comes from.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from baselines import recipe
from baselines.comparison.cells import Row, changed
from common.console import InputError
from common.files import read_json
from dataloader.opening import choose
from dataloader.store import FeatureStore

# What does nothing with --no_retrieval, and is refused beside it.
RETRIEVAL_FLAGS = ("--num_of_retrieved_items", "--similarity_temperature", "--no_retrieved_label")
PARTS = {
    "without retrieval": "no_retrieval",
    "without the retrieved labels": "no_retrieved_label",
    "without visual": "no_visual",
    "without textual": "no_textual",
}


@dataclass(frozen=True)
class Sweep:
    """A setting that is varied: its flag, the values tried, and its name in pictures."""

    key: str
    flag: str
    values: tuple[float, ...]
    label: str


SWEEPS = (
    Sweep("K", "--num_of_retrieved_items", (1, 5, 10, 20, 50), "retrieved items K"),
    Sweep("alpha", "--alpha", (0, 0.2, 0.4, 0.6, 0.8, 1), "alpha (negative attention)"),
    Sweep("temperature", "--similarity_temperature", (1, 0.3, 0.1, 0.05), "similarity temperature"),
    Sweep("frames", "--frame_num", (1, 2, 5, 10), "frames a video"),
)


@dataclass(frozen=True)
class Variant:
    """A row of the ablation: which sweep it belongs to (`parts` for what is left out), and its value there."""

    sweep: str
    value: float | None
    row: Row


def plan(reference: Row, run: Path, store: FeatureStore, stored_neighbours: int) -> tuple[list[Variant], list[str]]:
    """All variants of `reference`, which `run` is a finished run of, and what was left out, in words.

    A sweep holds the reference itself, with its own flags, at the value that it has.
    """
    kept, wants = settings(run), recipe("MMRA").wants(reference.settings | {"model_id": "MMRA"})
    taken = choose(store, wants)
    variants, left_out = [Variant("parts", None, reference)], []
    for name, flag in PARTS.items():
        side = flag.removeprefix("no_")
        if side in wants.modalities and side not in taken:
            left_out.append(f"{name}: the reference has no {side} features")
        elif reference.settings[flag]:
            left_out.append(f"{name}: that is the reference itself")
        elif wants.used(taken) == (side,):
            left_out.append(f"{name}: the reference has {side} features alone, so nothing would be left")
        else:
            without = RETRIEVAL_FLAGS if flag == "no_retrieval" else ()
            flags = changed(reference.flags, {f"--{flag}": None}, without)
            variants.append(Variant("parts", None, _varied(reference, f" {name}", flags)))
    frames = store.features["visual"].shape[1] if "visual" in taken else 0
    most = {"K": (stored_neighbours, "stored neighbours"), "frames": (frames, "stored frames")}
    for sweep in SWEEPS:
        if sweep.key == "frames" and "visual" not in taken:
            left_out.append("frames: the reference has no visual features")
            continue
        limit, what = most.get(sweep.key, (float("inf"), ""))
        if beyond := [f"{value:g}" for value in sweep.values if value > limit]:
            left_out.append(f"{sweep.key} {', '.join(beyond)}: the data set has {limit:g} {what}")
        values = sorted({value for value in sweep.values if value <= limit} | {kept[sweep.key]})
        if len(values) == 1:
            left_out.append(f"{sweep.key}: there is no second value to try")
            continue
        for value in values:
            row = reference if value == kept[sweep.key] else _with(reference, sweep, value)
            variants.append(Variant(sweep.key, value, row))
    return variants, left_out


def _with(reference: Row, sweep: Sweep, value: float) -> Row:
    flags = changed(reference.flags, {sweep.flag: f"{value:g}"})
    return _varied(reference, f", {sweep.key} {value:g}", flags)


def _varied(reference: Row, suffix: str, flags: tuple[str, ...]) -> Row:
    return Row(reference.name + suffix, reference.method, flags, of_ablation=True)


def settings(run: Path) -> dict[str, float]:
    """What a run of MMRA was trained with, by the names of SWEEPS."""
    config = read_json(run / "config.json")
    try:
        trained, model = config["settings"], config["model"]
        return {
            "K": trained["num_of_retrieved_items"],
            "alpha": model["alpha"],
            "temperature": trained["similarity_temperature"],
            "frames": model["frame_num"],
        }
    except (KeyError, TypeError) as error:
        raise InputError(f"{run / 'config.json'}: has no {error}, which --ablation varies") from None
