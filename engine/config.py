"""What a run's config.json must hold for the run to be rebuilt, resumed and tested."""

from __future__ import annotations

from common.console import InputError
from common.settings import flags_of
from dataloader.names import FAMILIES
from engine.recipe import Recipe
from engine.run import Run

DATA = {"family": str, "fingerprint": str}
PLACE = {"model_id": str, "dataset_path": str, "dataset_id": str}


def check_config(run: Run, recipe: Recipe) -> None:
    """InputError that names what config.json lacks or holds with another type or range than train.py writes."""
    settings, flags = _part(run, "settings"), recipe.flags()
    wrong = [name for name, kind in PLACE.items() if not isinstance(settings.get(name), kind)]
    wrong += [name for name, flag in flags.items() if name not in settings or not flag.accepts(settings[name])]
    _refuse(run, "settings", wrong)
    for part, kinds in {"model": recipe.argument_types(), "data": DATA}.items():
        values = _part(run, part)
        wrong = [name for name, kind in kinds.items() if name not in values or not isinstance(values[name], kind)]
        if part == "data" and "family" not in wrong and values["family"] not in FAMILIES:
            wrong.append("family")
        if part == "model":
            wrong += [
                n
                for n in flags_of(recipe.settings)
                if n in values and n not in wrong and not flags[n].accepts(values[n])
            ]
        _refuse(run, part, wrong)
        if part == "model" and (unknown := sorted(set(values) - set(kinds))):
            raise InputError(f"{run.folder / 'config.json'}: its model has unknown arguments ({', '.join(unknown)})")


def _part(run: Run, part: str) -> dict:
    values = run.config.get(part)
    return values if isinstance(values, dict) else {}


def _refuse(run: Run, part: str, wrong: list[str]) -> None:
    if wrong:
        raise InputError(
            f"{run.folder / 'config.json'}: not the configuration of a run of train.py (its {part} lack, or "
            f"hold with a value that train.py does not write: {', '.join(wrong)})"
        )
