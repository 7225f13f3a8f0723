"""What a run's config.json must hold for the run to be rebuilt, resumed and tested."""

from __future__ import annotations

from typing import Any

from common.console import InputError
from common.settings import flags_of
from dataloader.names import FAMILIES
from engine.recipe import PUBLISHED, Recipe
from engine.run import Run

DATA = {"family": str, "fingerprint": str, "modalities": list}
PLACE = {"model_id": str, "dataset_path": str, "dataset_id": str}


def check_config(run: Run, recipe: Recipe) -> None:
    """InputError that names what config.json lacks or holds with another type or range than training writes.

    What runs of earlier versions did not say yet is added.
    """
    _bring_up_to_date(run, recipe)
    settings, flags = _part(run, "settings"), recipe.flags()
    wrong = [name for name, kind in PLACE.items() if not isinstance(settings.get(name), kind)]
    wrong += [name for name, flag in flags.items() if name not in settings or not flag.accepts(settings[name])]
    _refuse(run, "settings", wrong)
    for part, kinds in {"model": recipe.argument_types(), "data": DATA}.items():
        values = _part(run, part)
        wrong = [name for name, kind in kinds.items() if name not in values or not isinstance(values[name], kind)]
        if part == "data" and "family" not in wrong and values["family"] not in FAMILIES:
            wrong.append("family")
        if part == "data" and "modalities" not in wrong and not all(isinstance(m, str) for m in values["modalities"]):
            wrong.append("modalities")
        if part == "model":
            own = [n for n in flags_of(recipe.settings) if n in values and n not in wrong]
            wrong += [n for n in own if not flags[n].accepts(values[n])]
            if "shapes" in kinds and "shapes" not in wrong and not _are_shapes(values["shapes"]):
                wrong.append("shapes")
        _refuse(run, part, wrong)
        if part == "model" and (unknown := sorted(set(values) - set(kinds))):
            raise InputError(f"{run.folder / 'config.json'}: its model has unknown arguments ({', '.join(unknown)})")


def trained_with(run: Run) -> dict[str, Any]:
    """Flag -> what the run was trained with, where the data set decided too: features and their number."""
    settings, modalities = run.config["settings"], run.config["data"]["modalities"]
    return settings | {"modalities": modalities, "feature_num": len(modalities)}


def _are_shapes(shapes: dict) -> bool:
    sizes = [size for shape in shapes.values() for size in (shape if isinstance(shape, list) else [None])]
    return bool(sizes) and all(type(size) is int and size > 0 for size in sizes)


def _bring_up_to_date(run: Run, recipe: Recipe) -> None:
    """A run of before --modalities took visual and textual features, and did not say so."""
    settings, model, data = (_part(run, part) for part in ("settings", "model", "data"))
    if not (settings and model and data) or "modalities" in data:
        return
    model = dict(model)
    sizes = [model.get(name) for name in ("frame_num", "visual_dim", "textual_dim")]
    if recipe.any_modality and all(type(size) is int for size in sizes):
        frames, visual, textual = (model.pop(name) for name in ("frame_num", "visual_dim", "textual_dim"))
        model["shapes"] = {"visual": [frames, visual], "textual": [textual]}
    elif not recipe.any_modality and not recipe.needs_all:
        model = {f"use_{name}": True for name in PUBLISHED} | model
    run.config = run.config | {
        "settings": {"modalities": None} | settings,
        "model": model,
        "data": data | {"modalities": list(PUBLISHED)},
    }


def _part(run: Run, part: str) -> dict:
    values = run.config.get(part)
    return values if isinstance(values, dict) else {}


def _refuse(run: Run, part: str, wrong: list[str]) -> None:
    if wrong:
        raise InputError(
            f"{run.folder / 'config.json'}: not the configuration of a run (its {part} lack, or hold with a value "
            f"that training does not write: {', '.join(wrong)})"
        )
