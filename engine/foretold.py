"""Foretold: a method that predicts split test while it is fitted, as its library saves nothing but pickled code."""

from __future__ import annotations

from abc import abstractmethod
from functools import partial
from pathlib import Path

import numpy as np

from common.console import InputError
from common.files import written_beside
from dataloader.batches import Split, Unlabelled
from dataloader.components import Components
from dataloader.modalities import METADATA
from engine.estimator import Estimator, read_arrays
from engine.method import History

FILE = "predictions.npz"  # plain arrays; read without pickle
ARRAYS = {"rows": "i", "prediction": "f", "fingerprint": "U"}  # name -> numpy's letter of its kind


class Foretold(Estimator):
    """It is given the items of split test without their labels, and keeps what it says of them; each target by itself.

    So a run can be tested on split test of the data it was trained on, and on nothing else.
    components: of each kind of feature vectors, fitted on train, which stand for them as columns; 0: none.
    """

    transductive = True

    def __init__(self, *, components: int = 32, use_retrieval: bool = True, **dimensions):
        super().__init__(**dimensions)
        self.components = components
        self.tested: Unlabelled | None = None
        self.foretold: list[tuple[str, np.ndarray, np.ndarray]] = []  # fingerprint, rows (n,), prediction (n, L)

    @abstractmethod
    def foretell(self, train: Split, valid: Split, tested: Unlabelled, target: int) -> tuple[np.ndarray, np.ndarray]:
        """Fit on train and choose by valid: what is said of valid (n,) and of the items to be tested (m,)."""

    def fit(self, train: Split, valid: Split, unlabelled: Unlabelled | None = None) -> History:
        self.tested = unlabelled
        return super().fit(train, valid)

    def _fit(self, train: Split, valid: Split) -> History:
        found = [self.foretell(train, valid, self.tested, target) for target in range(self.label_dim)]
        self.foretold = [
            (split.fingerprint, split.rows, np.stack(of_targets, axis=1).astype(np.float32))
            for split, of_targets in zip((valid, self.tested), zip(*found, strict=True), strict=True)
        ]
        return History()

    def columns_of_vectors(self, train: Split, *splits: Split | Unlabelled) -> list[dict[str, np.ndarray]]:
        """For each of the splits the components (n,) of all kinds of feature vectors, by name."""
        found: list[dict[str, np.ndarray]] = [{} for _ in splits]
        for name in self.widths if self.components else ():
            if name == METADATA:
                continue
            fitted = Components.fit(partial(train.read, name), len(train), self.components, self.seed)
            for columns, split in zip(found, splits, strict=True):
                values = fitted.project(partial(split.read, name), len(split))
                columns |= {f"{name} component {place}": column for place, column in enumerate(values.T, start=1)}
        return found

    def predict(self, split: Split) -> np.ndarray:
        for fingerprint, rows, prediction in self.foretold:
            if split.fingerprint == fingerprint and np.array_equal(split.rows, rows):
                return prediction
        name = type(self).__name__
        raise InputError(
            f"{name} can be tested on split test of the data that it was trained on alone: what its library saves is "
            f"pickled code, so {name} predicts split test while it is fitted, and these predictions are all that it "
            "keeps; train it anew on the data set"
        )

    def save(self, folder: Path) -> None:
        fingerprint, rows, prediction = self.foretold[-1]  # of split test
        with written_beside(folder / FILE) as beside, beside.open("wb") as file:
            np.savez(file, fingerprint=np.array(fingerprint), rows=rows, prediction=prediction)

    def load(self, folder: Path) -> None:
        what = f"the predictions of a {type(self).__name__}"
        arrays = read_arrays(folder / FILE, what, ARRAYS)
        rows, prediction = arrays["rows"], arrays["prediction"]
        sound = all(arrays[name].dtype.kind == kind for name, kind in ARRAYS.items())
        sound &= rows.ndim == 1 and arrays["fingerprint"].ndim == 0
        if not sound or prediction.shape != (len(rows), self.label_dim):
            raise InputError(f"{folder / FILE}: not {what} for as many targets as this run's")
        self.foretold = [(str(arrays["fingerprint"]), rows, prediction)]
