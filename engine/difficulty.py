"""How large an error is to be expected of each prediction: what speaks for one, and how much that came to on valid."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from dataloader.batches import Split
from dataloader.opening import Data
from engine.method import Prediction

SPREAD, DISAGREEMENT, DISTANCE = "spread", "neighbours_spread", "distance of the nearest"
SPREADS = (SPREAD, DISAGREEMENT)  # in the label's unit; how many times larger is what counts of them
WIDEST = 4.0  # no error is expected to be more times larger or smaller than the usual one
RIDGE = 5.0  # items' worth of evidence that a doubt does not matter
# What is weighed in any case: a video unlike all others is rare among those that weights are learned of.
LEAST = {DISAGREEMENT: 0.05, DISTANCE: 0.05}


def doubts_of(data: Data, split: Split, prediction: Prediction) -> dict[str, np.ndarray]:
    """What speaks for an error, by its column's name, (n, label_dim) each, in the label's unit: how far the members of
    an ensemble lie apart, and the labels of the neighbours."""
    found, near = {}, data.nearest
    if prediction.spread is not None:
        found[SPREAD] = prediction.spread
    if near is not None:
        label = data.store.items.label
        found[DISAGREEMENT] = near.disagreement(label, split.rows, data.k, data.temperature)
    return found


def all_doubts(data: Data, split: Split, prediction: Prediction) -> dict[str, np.ndarray]:
    """Name -> (n, label_dim), larger where an error is likelier; NaN where nothing is known.

    Beside `doubts_of`: how far the nearest neighbour is, and how few other videos of train are by the creator.
    """
    found, near, items = dict(doubts_of(data, split, prediction)), data.nearest, data.store.items
    alike = {}
    if near is not None:
        similarity = np.where(near.ids[split.rows] >= 0, near.similarity[split.rows], -np.inf).max(
            axis=1, initial=-np.inf
        )
        alike[DISTANCE] = np.where(np.isfinite(similarity), -similarity, np.nan)
    names, count = np.unique(items.user[items.rows("train")].astype(str), return_counts=True)
    if (names != "").any():
        known = dict(zip(names, count, strict=True)) | {"": 0}
        others = np.array([known.get(name, 0) for name in split.user], float)
        others -= (items.split[split.rows] == "train") & (split.user != "")  # not the video itself
        alike["videos of the creator"] = -np.log2(1 + others)
    label_dim = prediction.mean.shape[1]
    return found | {name: np.repeat(values[:, None], label_dim, axis=1) for name, values in alike.items()}


@dataclass(frozen=True)
class Difficulty:
    """Of one target: scale * exp(sum over the doubts of weight * standardised doubt), bounded by WIDEST.

    No weight is negative: what speaks for an error never makes an interval narrower; some are LEAST, at least. Spreads
    count by their logarithm. usual: of a spread, its mean; mean, deviation: of the doubts; most: the largest, for items
    where it is unknown.
    """

    names: tuple[str, ...]
    weight: tuple[float, ...]
    usual: tuple[float, ...]
    mean: tuple[float, ...]
    deviation: tuple[float, ...]
    most: tuple[float, ...]
    scale: float

    @classmethod
    def fit(cls, doubts: Mapping[str, np.ndarray], error: np.ndarray) -> Difficulty:
        """Of doubts (n,) by name and absolute errors (n,): as if these were Laplacian, which is a convex problem."""
        from scipy.optimize import minimize

        names, n = tuple(doubts), len(error)
        known = {name: values[np.isfinite(values)] for name, values in doubts.items()}
        usual = tuple(max(float(v.mean()), 1e-12) if name in SPREADS and len(v) else 1.0 for name, v in known.items())
        parts = {name: transformed(name, v, u) for (name, v), u in zip(known.items(), usual, strict=True)}
        mean = tuple(float(v.mean()) if len(v) else 0.0 for v in parts.values())
        deviation = tuple(float(v.std()) if len(v) and v.std() > 1e-9 else 0.0 for v in parts.values())
        most = tuple(float(v.max()) if len(v) else 0.0 for v in parts.values())
        scale = float(error.mean())
        if not scale > 0:  # it makes no errors: all intervals are alike
            return cls(names, (0.0,) * len(names), usual, mean, deviation, most, 1.0)
        plain = cls(names, (0.0,) * len(names), usual, mean, deviation, most, scale)
        x = np.hstack([np.ones((n, 1)), plain.standardised(doubts, n)])  # (n, 1 + D)

        def loss(w: np.ndarray) -> tuple[float, np.ndarray]:
            log = np.clip(x @ w, -20, 20)
            relative = error / scale * np.exp(-log)
            slope = x.T @ (1 - relative)
            slope[1:] += RIDGE * w[1:]
            return float((log + relative).sum() + RIDGE / 2 * (w[1:] ** 2).sum()), slope

        least = [LEAST.get(name, 0.0) for name in names]
        bounds = [(None, None), *((low, None) for low in least)]
        w = minimize(loss, [0.0, *least], jac=True, bounds=bounds, method="L-BFGS-B").x
        factor = scale * float(np.exp(np.clip(w[0], -20, 20)))
        return cls(names, tuple(map(float, w[1:])), usual, mean, deviation, most, factor)

    def of(self, doubts: Mapping[str, np.ndarray], n: int) -> np.ndarray:
        """(n,) the expected absolute error, above 0, of doubts (n,) by name."""
        log = self.standardised(doubts, n) @ np.array(self.weight)
        return self.scale * np.exp(np.clip(log, -np.log(WIDEST), np.log(WIDEST)))

    def standardised(self, doubts: Mapping[str, np.ndarray], n: int) -> np.ndarray:
        """(n, D); what varied in nothing is 0, what other data do not know is as large as it was."""
        columns = [np.empty((0, n))]
        for place, name in enumerate(self.names):
            values = transformed(name, doubts.get(name, np.full(n, np.nan)), self.usual[place])
            values = np.where(np.isfinite(values), values, self.most[place]) - self.mean[place]
            columns.append([values / self.deviation[place] if self.deviation[place] else 0 * values])
        return np.concatenate(columns).T


def transformed(name: str, values: np.ndarray, usual: float) -> np.ndarray:
    """A spread as its logarithm, in which a tenth of the usual is next to none."""
    return np.log(np.maximum(values, 0) / usual + 0.1) if name in SPREADS else values
