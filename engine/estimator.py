"""Estimator: a method that a library of its own fits, on each item as one flat vector."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch

from common.archives import opened
from common.console import InputError, in_one_line
from common.files import write_json
from dataloader.batches import Split, Unlabelled
from dataloader.modalities import METADATA
from engine.method import History
from engine.metrics import measure
from engine.run import VALID, Run

BLOCK_BYTES = 16 << 20  # of features read at a time
CPU = torch.device("cpu")


class Estimator(ABC):
    """What SVR and the trees share. It is fitted in one go: no epochs to resume, nothing kept on Ctrl-C.

    shapes: of an item's features, by modality: visual (F, Dv), textual (Dt,) ...
    seed: of all that is drawn at random. device: what was asked for; fitted on the CPU all the same, as CatBoost and
    TabNet's sparsemax do not repeat themselves on a GPU and libsvm does not know one.
    """

    device = CPU
    transductive = False
    frames: int | None = None  # how many, from the first, go into the vector; all without it
    typed_columns = False  # metadata are columns, and no part of the vector

    def __init__(
        self,
        *,
        shapes: Mapping[str, Sequence[int]],
        label_dim: int,
        seed: int = 2024,
        device: torch.device = CPU,
        run: Run | None = None,
    ):
        # of each modality's part of the vector, in the order of `shapes`
        flat = {name: shape for name, shape in shapes.items() if name != METADATA or not self.typed_columns}
        self.widths = {name: int(np.prod(self._kept(name, shape))) for name, shape in flat.items()}
        self.width = sum(self.widths.values())
        self.columns = sum(shape[0] for name, shape in shapes.items() if name not in flat)  # of metadata, beside it
        self.shapes = shapes
        self.label_dim, self.seed, self.asked, self.run = label_dim, seed, device, run

    def fit(self, train: Split, valid: Split, unlabelled: Unlabelled | None = None) -> History:
        if self.asked.type != "cpu":
            self.run.log(f"note: {type(self).__name__} runs on the CPU, whatever --device says")
        start = time.perf_counter()
        history = self._fit(train, valid)
        predicted = self.predict(valid)
        if not np.isfinite(predicted).all():
            raise InputError(
                f"{self.run.folder}: {type(self).__name__} predicts NaN or infinity for split valid and is not kept; "
                "check its flags (a smaller --lr where it has one)"
            )
        self.save(self.run.folder)
        if history.epochs:
            self.run.write_history(history.epochs)
        measured = measure(predicted, valid.label, valid.target)
        write_json(self.run.folder / VALID, measured)
        said = "  ".join(f"{name} {value:.4f}" for name, value in measured.items())
        self.run.log(f"fitted in {time.perf_counter() - start:.1f} s: valid {said}")
        return history

    def inputs(self, split: Split, dtype: type = np.float32) -> np.ndarray:
        """(n, width): each modality as one flat vector, one after the other; read in blocks, so held once."""
        out = np.empty((len(split), self.width), dtype)
        step = max(1, BLOCK_BYTES // (4 * max(1, self.width)))
        for start in range(0, len(split), step):
            block, column = out[start : start + step], 0
            for name, width in self.widths.items():
                part = split.read(name, slice(start, start + step))  # (b, F, Dv) or (b, D)
                part = part[:, : self.frames] if name == "visual" else part
                block[:, column : column + width] = part.reshape(len(part), width)
                column += width
        return out

    def _kept(self, name: str, shape: Sequence[int]) -> Sequence[int]:
        """The shape of what goes into the vector."""
        if name != "visual" or self.frames is None:
            return shape
        return (min(self.frames, shape[0]), *shape[1:])

    @abstractmethod
    def _fit(self, train: Split, valid: Split) -> History: ...

    @abstractmethod
    def predict(self, split: Split) -> np.ndarray: ...

    @abstractmethod
    def save(self, folder: Path) -> None: ...

    @abstractmethod
    def load(self, folder: Path) -> None: ...


def boosting_history(train_loss: Sequence[float], valid_rmse: Sequence[float], unit: str) -> History:
    """A record per epoch or tree, as networks have them; chosen by RMSE on valid."""
    best = [int(np.argmin(valid_rmse[:n])) + 1 for n in range(1, len(valid_rmse) + 1)]
    epochs = [
        {"epoch": n, "train_loss": float(loss), "valid": {"RMSE": float(rmse)}, "score": float(rmse), "best_epoch": b}
        for n, (loss, rmse, b) in enumerate(zip(train_loss, valid_rmse, best, strict=True), start=1)
    ]
    return History(epochs, best[-1], unit=unit)


def unreadable(path: Path, what: str, error: Exception) -> InputError:
    """For a saved model that its library cannot read."""
    if not path.exists():
        return InputError(f"{path}: no such file; the fit has not finished")
    return InputError(f"{path}: truncated or not {what} of this run ({in_one_line(error)})")


def read_arrays(path: Path, what: str, names: Collection[str] | None = None) -> dict[str, np.ndarray]:
    """All arrays of a saved model; InputError where they are not those of `names`."""
    try:
        with opened(path, f"truncated or not {what} of this run") as archive:
            if names is not None and sorted(names) != sorted(archive.names):
                raise InputError(f"{path}: arrays for other features than this run's")
            return {name: archive.read(name) for name in archive.names}
    except FileNotFoundError as error:
        raise unreadable(path, what, error) from None
