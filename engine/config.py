"""What a run's config.json must hold for the run to be rebuilt, resumed and tested."""

from __future__ import annotations

from typing import get_type_hints

from dataloader.console import InputError
from engine.network import Training
from engine.run import Run

SETTINGS = {name: kind for name, kind in get_type_hints(Training).items() if name not in ("shuffle", "metric")}
SETTINGS |= {"model_id": str, "dataset_path": str, "dataset_id": str, "metric": list}
SETTINGS |= {"no_shuffle": bool, "no_retrieval": bool, "num_of_retrieved_items": int, "similarity_temperature": float}
MODEL = dict.fromkeys(("visual_dim", "textual_dim", "feature_dim", "frame_num", "label_dim"), int)
MODEL |= {"alpha": float, "use_retrieval": bool}
DATA = {"family": str, "fingerprint": str}


def check_config(run: Run) -> None:
    """InputError that names what config.json lacks or holds with another type than train.py writes."""
    for part, kinds in {"settings": SETTINGS, "model": MODEL, "data": DATA}.items():
        values = run.config.get(part)
        values = values if isinstance(values, dict) else {}
        if wrong := [name for name, kind in kinds.items() if not isinstance(values.get(name), kind)]:
            raise InputError(
                f"{run.folder / 'config.json'}: not the configuration of a run of train.py (its {part} lack, or "
                f"hold with another type: {', '.join(wrong)})"
            )
        if part == "model" and (unknown := sorted(set(values) - set(kinds))):
            raise InputError(f"{run.folder / 'config.json'}: its model has unknown arguments ({', '.join(unknown)})")
