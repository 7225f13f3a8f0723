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


@dataclass(frozen=True)
class Prediction:
    """mean (n, label_dim); of an ensemble also its members (M, n, label_dim), and the share of each in it (M,)."""

    mean: np.ndarray
    members: np.ndarray | None = None
    share: np.ndarray | None = None

    @classmethod
    def of(cls, method: Method, split: Split) -> Prediction:
        """By its members where it is an ensemble, all alike."""
        if not hasattr(method, "predict_members"):
            return cls(method.predict(split))
        found = method.predict_members(split)
        if len(found) == 1:
            return cls(found[0])
        return cls(found.mean(axis=0), found, np.full(len(found), 1 / len(found)))

    @property
    def spread(self) -> np.ndarray | None:
        """(n, label_dim): standard deviation among the members; None of one alone."""
        if self.members is None or len(self.members) < 2:
            return None
        return np.sqrt(np.einsum("m,mnt->nt", self.share, (self.members - self.mean) ** 2))


class Method(Protocol):
    """A method that predicts popularity; networks come as engine.network.Network.

    An ensemble has `predict_members(split) -> (M, n, label_dim)` besides, whose mean its prediction is.

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
