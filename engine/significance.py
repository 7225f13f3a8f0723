"""Is one method better than another, or is it the choice of test videos? Paired on the same test items.

What is resampled are items, and every statistic is that of the tables: a metric of each seed's predictions, averaged
over the seeds. Predictions are never averaged over seeds: that would judge an ensemble, which nobody trained and which
flatters the methods that differ most from seed to seed.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
from scipy import stats

from engine.metrics import CONFIDENCE

RESAMPLES = 2000
BATCH = 50  # resamples at once
TESTED = ("nMSE", "SRC", "MAE")
LARGER_IS_BETTER = {"SRC"}


@dataclass(frozen=True)
class Interval:
    value: float
    low: float
    high: float

    @property
    def excludes_zero(self) -> bool:
        return self.low > 0 or self.high < 0


@dataclass(frozen=True)
class Resampled:
    """TESTED metrics of every row, on the test items and on resamples of them: (rows, 3) and (rows, 3, RESAMPLES)."""

    value: np.ndarray
    draws: np.ndarray

    def interval(self, row: int, metric: str) -> Interval:
        """95 % percentile interval of one row's metric."""
        m = TESTED.index(metric)
        return _interval(self.value[row, m], self.draws[row, m])

    def difference(self, row: int, other: int, metric: str) -> Interval:
        """The same for metric(row) - metric(other), both on the same resamples: paired."""
        m = TESTED.index(metric)
        return _interval(self.value[row, m] - self.value[other, m], self.draws[row, m] - self.draws[other, m])


def resample(predictions: list[np.ndarray], truth: np.ndarray, seed: int) -> Resampled:
    """Bootstrap over items, the same for all rows: predictions (seeds, n, label_dim) of each, truth (n, label_dim).

    Intervals say what another draw of test items would change; they hold the trained seeds fixed.
    """

    def metrics(items: np.ndarray, axis: int = -1) -> np.ndarray:
        """items (..., n) -> (rows, 3, ...)"""
        return np.stack([_metrics(prediction, truth, items) for prediction in predictions])

    items = np.arange(len(truth))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", stats.DegenerateDataWarning)
        found = stats.bootstrap(
            (items,),
            metrics,
            vectorized=True,
            n_resamples=RESAMPLES,
            batch=BATCH,
            method="percentile",
            rng=np.random.default_rng(seed),
        )
    return Resampled(metrics(items), found.bootstrap_distribution)


def wilcoxon(prediction: np.ndarray, other: np.ndarray, truth: np.ndarray) -> tuple[float, bool]:
    """Two-sided signed-rank test on the items' absolute errors: p, and whether those of `prediction` rank smaller.

    prediction, other (seeds, n, label_dim); truth (n, label_dim). An item's error is its mean over seeds (and
    targets). p is 1 where no item's error differs.
    """
    difference = absolute_error(prediction, truth) - absolute_error(other, truth)  # (n,)
    ranked = difference[difference != 0]  # as scipy does: an item whose errors are equal has no rank
    if not len(ranked):
        return 1.0, False
    signed_ranks = np.sign(ranked) * stats.rankdata(np.abs(ranked))
    return float(stats.wilcoxon(difference).pvalue), bool(signed_ranks.sum() < 0)


def absolute_error(prediction: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """(seeds, n, label_dim) -> (n,)"""
    return np.abs(prediction - truth).mean(axis=(0, 2))


def holm(p_values: list[float]) -> list[float]:
    """p values, each corrected for all of them being looked at (Holm, 1979): in the order given."""
    order = np.argsort(p_values, kind="stable")
    factors = len(p_values) - np.arange(len(p_values))
    corrected = np.minimum(np.maximum.accumulate(np.asarray(p_values)[order] * factors), 1)
    return corrected[np.argsort(order, kind="stable")].tolist()


def _metrics(prediction: np.ndarray, truth: np.ndarray, items: np.ndarray) -> np.ndarray:
    """prediction (seeds, n, label_dim), items (..., n) -> TESTED (3, ...): engine.metrics, many resamples at once."""
    found = []
    for t in range(truth.shape[1]):
        y = truth[items, t]  # (..., n)
        variance, ranks = y.var(axis=-1), _centred_ranks(y)
        for p in (one_seed[items, t] for one_seed in prediction):
            with np.errstate(divide="ignore", invalid="ignore"):  # NaN where a side is constant
                nmse = ((p - y) ** 2).mean(axis=-1) / variance
                other = _centred_ranks(p)
                src = (ranks * other).sum(axis=-1) / np.sqrt((ranks**2).sum(axis=-1) * (other**2).sum(axis=-1))
            found.append([nmse, src, np.abs(p - y).mean(axis=-1)])
    return np.mean(found, axis=0)


def _centred_ranks(values: np.ndarray) -> np.ndarray:
    ranks = stats.rankdata(values, axis=-1)
    return ranks - ranks.mean(axis=-1, keepdims=True)


def _interval(value: float, draws: np.ndarray) -> Interval:
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(draws, [tail, 1 - tail])
    return Interval(float(value), float(low), float(high))
