"""What a result cannot tell, and why: sentences that stand beside it."""

from __future__ import annotations

import numpy as np

from dataloader.description import Label
from dataloader.items import Items
from engine.bootstrap import DEFINED
from engine.metrics import METRICS

ENOUGH = 50  # items; with fewer, intervals are wider than what methods differ by


def too_few(items: Items, split: str) -> list[str]:
    """A sentence for split valid, on which models are chosen, and one for the `split` judged, where it is small."""
    sizes = {name: len(items.rows(name)) for name in dict.fromkeys(("valid", split))}
    doubt = {split: "to tell methods apart by", "valid": "to choose a model by"}
    return [
        f"warning: split {name} has {size} videos, too few {doubt[name]} (under {ENOUGH})"
        for name, size in sizes.items()
        if 0 < size < ENOUGH
    ]


def undefined(report: dict, prediction: np.ndarray, truth: np.ndarray, target: Label) -> list[str]:
    """A sentence for each reason why a figure of `report` is NaN: of a metric, an interval, a mean over batches.

    prediction, truth: (n, label_dim), of which the report is.
    """
    found = []
    for t, measured in enumerate((report.get("targets") or {"": report["metrics"]}).values()):
        of = f" of {target.names[t]}" if len(target.names) > 1 else ""
        missing = [name for name, figures in measured.items() if np.isnan(figures["value"])]
        found += [f"{name}{of} is nan: {why(name, prediction[:, t], truth[:, t], target)}" for name in missing]
        loose = [name for name in measured if name not in missing and np.isnan(measured[name]["low"])]
        if loose:
            unit = "creators" if report["creators"] else "videos"
            one = f"fewer than two {unit}" if (report["creators"] or len(truth)) < 2 else ""
            reason = one or f"in more than {1 - DEFINED:.0%} of the resamples all labels or all predictions are equal"
            found.append(f"intervals of {', '.join(loose)}{of} are nan: {reason}")
    means = report["published_batch_means"]
    whole = {name: figures["value"] for name, figures in report["metrics"].items()}
    bad = [name for name in whole if np.isnan(means[name]) and not np.isnan(whole[name])]
    if bad:
        found.append(f"means of batches of {', '.join(bad)} are nan: in one batch all labels or predictions are equal")
    return found


def why(metric: str, prediction: np.ndarray, truth: np.ndarray, target: Label) -> str:
    """Why a metric of one target, (n,) both, is NaN."""
    if METRICS[metric].of_counts and not target.of_counts:
        return "labels are not counts"
    if len(truth) < 2:
        return "there is one video"
    if np.ptp(truth) == 0:
        return f"the labels of all {len(truth)} videos are equal"
    if np.ptp(prediction) == 0:
        return f"the predictions of all {len(truth)} videos are equal"
    return f"labels or predictions of all {len(truth)} videos are equal but for rounding"
