"""What any method must beat, and does not."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from dataloader.description import Label
from engine.metrics import measure


def shortfalls(
    yardsticks: Mapping[str, np.ndarray], split: str, prediction: np.ndarray, truth: np.ndarray, target: Label
) -> list[str]:
    """Which of the `yardsticks` predict a split better than `prediction`, (n, label_dim) each, a sentence each.

    By nMSE, of several targets by their mean; by RMSE where labels do not vary.
    """
    measured, found = measure(prediction, truth, target), []
    by = "RMSE" if np.isnan(measured["nMSE"]) else "nMSE"
    for name, other in yardsticks.items():
        own, theirs = measured[by], measure(other, truth, target)[by]
        if own > theirs:
            found.append(f"warning: worse than {name} on split {split}: {by} {own:.4f}, and that has {theirs:.4f}")
    return found
