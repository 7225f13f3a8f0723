"""The contract that every method keeps, network or not."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np

from dataloader.batches import Split


@dataclass
class History:
    """What a fit did: a record per epoch, the best epoch (0: none), and whether Ctrl-C ended it."""

    epochs: list[dict] = field(default_factory=list)
    best_epoch: int = 0
    interrupted: bool = False


class Method(Protocol):
    """A method that predicts popularity; MMRA's networks come as engine.network.Network."""

    uses_retrieval: bool
    transductive: bool

    def fit(self, train: Split, valid: Split, unlabelled: Split | None = None) -> History: ...

    def predict(self, split: Split) -> np.ndarray:
        """(n, label_dim) float32, in the order of the split's rows."""
        ...

    def save(self, folder: Path) -> None: ...

    def load(self, folder: Path) -> None: ...
