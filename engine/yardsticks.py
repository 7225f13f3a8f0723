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

    By nMSE, of several targets by their mean.
    """
    own, found = measure(prediction, truth, target)["nMSE"], []
    for name, other in yardsticks.items():
        theirs = measure(other, truth, target)["nMSE"]
        if own > theirs:
            found.append(f"warning: worse than {name} on split {split}: nMSE {own:.4f}, and that has {theirs:.4f}")
    return found
