"""SVR: support vector regression with a radial kernel on standardised features (scikit-learn's defaults)."""

from __future__ import annotations

import time
import warnings
from pathlib import Path

import numpy as np

from common.console import InputError
from common.files import written_beside
from dataloader.batches import Split
from engine.estimator import Estimator, read_arrays
from engine.method import History

FILE = "best.npz"  # plain arrays; read without pickle
ROWS_AT_ONCE = 1024
CACHE_MB = 2000  # of the kernel that are held at most: a row that is not held is computed again and again
PROBES = 5, 30  # iterations of two short fits, whose difference tells what an iteration takes


class SVR(Estimator):
    """RBF kernel on [first frame, text] and what else there is, standardised by train; one machine a target.

    The published code concatenates a 3-d array with a 2-d one and fails. gamma is scikit-learn's "scale".
    max_train_items: a seeded sample of train of this size instead of all of it, as the cost grows with its square.
    """

    frames = 1

    def __init__(self, *, C: float = 1.0, epsilon: float = 0.1, max_train_items: int | None = None, **dimensions):
        super().__init__(**dimensions)
        self.C, self.epsilon, self.max_train_items = C, epsilon, max_train_items
        self.arrays: dict[str, np.ndarray] = {}

    def _fit(self, train: Split, valid: Split) -> History:
        from sklearn.svm import SVR as Machine

        train = self._sample(train)
        inputs, label = self.inputs(train, np.float64), train.label  # libsvm takes float64: so it is made but once
        mean, scale = standardise(inputs)
        # scikit-learn's gamma="scale", without its copy of the inputs
        gamma = 1 / max(np.dot(inputs.ravel(), inputs.ravel()) / len(inputs), 1e-12)
        cache = min(1.1 * kernel_mb(len(inputs)) + 1, CACHE_MB)
        machine = Machine(C=self.C, epsilon=self.epsilon, gamma=gamma, cache_size=cache)
        self._announce(machine, inputs, label[:, 0])
        self.arrays = {"mean": mean, "scale": scale, "gamma": np.array(gamma)}
        for t in range(self.label_dim):
            machine.fit(inputs, label[:, t])
            self.arrays |= {
                f"vectors_{t}": machine.support_vectors_.astype(np.float32),
                f"weight_{t}": machine.dual_coef_[0],
                f"intercept_{t}": machine.intercept_[0],
            }
            self.run.log(f"target {t + 1} of {self.label_dim}: {len(machine.support_)} support vectors")
        return History()

    def _sample(self, train: Split) -> Split:
        if self.max_train_items is None or self.max_train_items >= len(train):
            return train
        chosen = np.random.default_rng(self.seed).choice(len(train), self.max_train_items, replace=False)
        return train.sample(np.sort(chosen))

    def _announce(self, machine, inputs: np.ndarray, label: np.ndarray) -> None:
        """Say what the fit costs before it starts, by the time of its first iterations on all videos.

        A fit takes somewhat fewer iterations than there are videos, each of which takes two rows of the kernel: where
        they are held, every row is computed once, so half as many iterations cost what the first ones cost.
        """
        n, held = len(inputs), min(1.0, CACHE_MB / kernel_mb(len(inputs)))
        few, more = PROBES
        each = (_seconds(machine, more, inputs, label) - _seconds(machine, few, inputs, label)) / (more - few)
        seconds = max(0.0, each) * n * (1 - held / 2) * self.label_dim
        self.run.log(
            f"SVR on {n:,} videos: a kernel of {n * n:,} entries ({held:.0%} of its {kernel_mb(n):,.0f} MB held), "
            f"{self.label_dim} to fit, which takes {in_words(seconds)}; the cost "
            "grows with the square of the videos: --max_train_items N fits a seeded sample of N of them, and half of "
            "them take a quarter of the time"
        )

    def predict(self, split: Split) -> np.ndarray:
        from sklearn.metrics.pairwise import rbf_kernel

        saved, inputs = self.arrays, self.inputs(split, np.float64)
        inputs -= saved["mean"]
        inputs /= saved["scale"]
        out = np.empty((len(inputs), self.label_dim), np.float32)
        for t in range(self.label_dim):
            vectors = saved[f"vectors_{t}"].astype(np.float64)
            for start in range(0, len(inputs), ROWS_AT_ONCE):
                rows = slice(start, start + ROWS_AT_ONCE)
                kernel = rbf_kernel(inputs[rows], vectors, gamma=float(saved["gamma"]))  # (b, support vectors)
                out[rows, t] = kernel @ saved[f"weight_{t}"] + saved[f"intercept_{t}"]
        return out

    def save(self, folder: Path) -> None:
        with written_beside(folder / FILE) as partial, partial.open("wb") as file:
            np.savez(file, **self.arrays)

    def load(self, folder: Path) -> None:
        arrays = read_arrays(folder / FILE, "the arrays of an SVR")
        kinds = {"mean": (self.width,), "scale": (self.width,), "gamma": ()}
        for t in range(self.label_dim):
            vectors = len(weight) if (weight := arrays.get(f"weight_{t}", np.empty(()))).ndim else 0
            kinds |= {f"vectors_{t}": (vectors, self.width), f"weight_{t}": (vectors,), f"intercept_{t}": ()}
        found = {name: array.shape for name, array in arrays.items() if array.dtype.kind == "f"}
        if found != kinds:
            raise InputError(f"{folder / FILE}: arrays for other features or targets than this run's")
        self.arrays = arrays


def standardise(inputs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Bring columns to mean 0 and variance 1 in place; their mean and scale. Constant columns are only centred."""
    mean = inputs.mean(axis=0)
    inputs -= mean
    scale = np.sqrt(np.einsum("nd,nd->d", inputs, inputs) / len(inputs))
    scale[scale <= 1e-7 * np.maximum(np.abs(mean), 1e-30)] = 1
    inputs /= scale
    return mean, scale


def kernel_mb(n: int) -> float:
    """libsvm holds it in float32."""
    return 4 * n * n / 2**20


def _seconds(machine, iterations: int, inputs: np.ndarray, label: np.ndarray) -> float:
    """Of a fit that ends after so many iterations."""
    from sklearn.base import clone

    start = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it has not converged
        clone(machine).set_params(max_iter=iterations).fit(inputs, label)
    return time.perf_counter() - start


def in_words(seconds: float) -> str:
    if seconds < 90:
        return f"about {max(1, round(seconds))} s"
    return f"about {seconds / 60:.0f} minutes" if seconds < 5400 else f"about {seconds / 3600:.1f} hours"
