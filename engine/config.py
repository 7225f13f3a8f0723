"""What a run's config.json must hold for the run to be rebuilt, resumed and tested."""

from __future__ import annotations

from typing import Any

from common.console import InputError
from common.settings import flags_of
from dataloader.modalities import METADATA, is_name, side_of_metadata
from dataloader.names import FAMILIES, KINDS, SKETCHED
from engine.recipe import PUBLISHED, Recipe, argument
from engine.run import Run

DATA = {"family": str, "fingerprint": str, "modalities": list}
MISSING = object()  # no flag accepts it
MOVED = ("sources", "drop_history")  # settings of retrieval, which the first RetrievalBoost had as arguments too
PLACE = {"model_id": str, "dataset_path": str, "dataset_id": str}
MOVABLE = ("device", "save")  # texts, too, where they are said


def check_config(run: Run, recipe: Recipe) -> dict[str, Any]:
    """What the run was trained with, flag by flag, where the data set decided too: features and their number.

    InputError that names what config.json lacks or holds with another type or range than training writes. What runs of
    earlier versions did not say yet is added.
    """
    bring_up_to_date(run, recipe)
    flags, arguments = recipe.flags(), recipe.argument_types()
    parts = {part: run.config.get(part) for part in ("settings", "model", "data")}
    settings, model, data = (values if isinstance(values, dict) else {} for values in parts.values())
    wrong = {
        "settings": [name for name, kind in PLACE.items() if not isinstance(settings.get(name), kind)],
        "model": [name for name, kind in arguments.items() if not isinstance(model.get(name), kind)],
        "data": [name for name, kind in DATA.items() if not isinstance(data.get(name), kind)],
    }
    wrong["settings"] += [name for name in MOVABLE if not isinstance(settings.get(name, ""), str)]
    if data.get("family") not in FAMILIES:
        wrong["data"].append("family")
    taken = data.get("modalities")
    if not isinstance(taken, list) or not taken or not all(isinstance(name, str) for name in taken):
        wrong["data"].append("modalities")
        taken = []
    left_out = {name for name in recipe.modalities if settings.get(f"no_{name}", False)}
    side = side_of_metadata(recipe.modalities)
    for name in recipe.modalities:
        used = (name in taken and name not in left_out) or (METADATA in taken and name == side)
        if f"use_{name}" in arguments and model.get(f"use_{name}") is not used:
            wrong["model"].append(f"use_{name}")
    processes = run.config.get("processes", [1])
    if not isinstance(processes, list) or not all(type(count) is int for count in processes):
        wrong["data"].append("processes")
    if METADATA in taken and not are_kinds(data.get("metadata")):
        wrong["data"].append("metadata")
    if not isinstance(run.config.get("neighbours"), dict | None):
        wrong["data"].append("neighbours")
    sources = run.config.get("sources", {})
    if not isinstance(sources, dict) or not all(is_name(name) for name in sources):
        wrong["data"].append("sources")
    if not are_sketches(run.config.get("similarities", {})):
        wrong["data"].append("similarities")
    if "shapes" in arguments and not are_shapes(model.get("shapes")):
        wrong["model"].append("shapes")
    unknown = sorted(set(model) - set(arguments))
    # The flags come last: what one accepts is asked of common/settings.py.
    wrong["settings"] += [name for name, flag in flags.items() if not flag.accepts(settings.get(name, MISSING))]
    wrong["model"] += [name for name, flag in flags.items() if name in model and not flag.accepts(model[name])]
    # What the class is made with are the method's own settings once more, but for the features, which the data have.
    own = [
        name
        for name in flags_of(recipe.settings)
        if name in settings and name.removeprefix("no_") not in recipe.modalities
    ]
    twins = dict(argument(name, settings[name]) for name in own)
    wrong["model"] += [name for name, value in twins.items() if name in model and model[name] != value]
    if recipe.statistics and are_shapes(model.get("shapes")) and type(model.get("numbers")) is int:
        columns = model["shapes"].get(METADATA, [0])[0]
        wrong["model"] += [] if 0 <= model["numbers"] <= columns else ["numbers"]
    for part, names in wrong.items():
        if names:
            raise InputError(
                f"{run.folder / 'config.json'}: not the configuration of a run (its {part} lack, or hold with a value "
                f"that training does not write: {', '.join(dict.fromkeys(names))})"
            )
    if unknown:
        raise InputError(f"{run.folder / 'config.json'}: its model has unknown arguments ({', '.join(unknown)})")
    frames = {"frame_num": model["shapes"]["visual"][0]} if "visual" in model.get("shapes", {}) else {}
    return settings | model | frames | {"modalities": taken, "feature_num": len(taken)}


def are_shapes(shapes: object) -> bool:
    """Whether these are the shapes of some features: name -> positive whole numbers."""
    if not isinstance(shapes, dict):
        return False
    sizes = [size for shape in shapes.values() for size in (shape if isinstance(shape, list) else [None])]
    return bool(sizes) and all(type(size) is int and size > 0 for size in sizes)


def are_sketches(sketches: object) -> bool:
    """Whether these are sketches of similarities (dataloader/neighbours.py), by source."""
    lists = [*sketches.values()] if isinstance(sketches, dict) else [None]
    numbers = [one if isinstance(one, list) and len(one) == SKETCHED else [None] for one in lists]
    return all(type(number) in (int, float) for one in numbers for number in one)


def are_kinds(kinds: object) -> bool:
    """Whether these are the kinds of some columns of metadata."""
    return isinstance(kinds, dict) and bool(kinds) and all(isinstance(k, str) and k in KINDS for k in kinds.values())


def bring_up_to_date(run: Run, recipe: Recipe) -> None:
    """What runs of earlier versions did not say, or said elsewhere: the features taken, what is drawn of sources."""
    settings, model, data = (run.config.get(part) for part in ("settings", "model", "data"))
    if not all(isinstance(part, dict) and part for part in (settings, model, data)):
        return
    # Flags that runs of earlier versions do not have, with the values that say what those versions did.
    newer = {"modalities": None} | ({"label_scale": "none"} if recipe.network else {})
    arguments = recipe.argument_types()
    model = {name: value for name, value in model.items() if name not in MOVED or name in arguments}
    run.config = run.config | {"settings": newer | settings, "model": model}
    if "modalities" in data:
        return
    model = dict(model)
    sizes = [model.get(name) for name in ("frame_num", "visual_dim", "textual_dim")]
    if recipe.any_modality and all(type(size) is int for size in sizes):
        frames, visual, textual = (model.pop(name) for name in ("frame_num", "visual_dim", "textual_dim"))
        model["shapes"] = {"visual": [frames, visual], "textual": [textual]}
    elif not recipe.any_modality and not recipe.needs_all:
        model = {f"use_{name}": True for name in PUBLISHED} | model
    run.config = run.config | {
        "model": model,
        "data": data | {"modalities": list(PUBLISHED)},
    }
