"""The contract that every method keeps, network or not."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
import torch

from dataloader.batches import Split, Unlabelled


@dataclass
class History:
    """What a fit did: a record per epoch, the best epoch (0: none), and whether Ctrl-C ended it.

    unit: what an epoch is called where it is none, as in boosting, where it is a tree.
    """

    epochs: list[dict] = field(default_factory=list)
    best_epoch: int = 0
    interrupted: bool = False
    unit: str = "epoch"


class Method(Protocol):
    """A method that predicts popularity; networks come as engine.network.Network.

    transductive: it learns from the features of the items it will be tested on too, `unlabelled`.
    """

    transductive: bool
    device: torch.device  # what it runs on

    def fit(self, train: Split, valid: Split, unlabelled: Unlabelled | None = None) -> History: ...

    def predict(self, split: Split) -> np.ndarray:
        """(n, label_dim) float32, in the order of the split's rows."""
        ...

    def save(self, folder: Path) -> None: ...

    def load(self, folder: Path) -> None: ...
