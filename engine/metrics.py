"""nMSE, SRC, MAE and RMSE over a whole split, their bootstrap intervals, and the published means over batches."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import numpy as np
from scipy import stats

RESAMPLES = 1000
CONFIDENCE = 0.95


def nmse(prediction: np.ndarray, truth: np.ndarray) -> float:
    """Mean squared error over the variance of the truth; 1 is what predicting the split's mean would give."""
    variance = np.var(truth)
    return float(np.mean((prediction - truth) ** 2) / variance) if variance > 0 else float("nan")


def src(prediction: np.ndarray, truth: np.ndarray) -> float:
    """Spearman's rank correlation; NaN where either side is constant."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", stats.ConstantInputWarning)
        return float(stats.spearmanr(prediction, truth).statistic) if len(truth) > 1 else float("nan")


def mae(prediction: np.ndarray, truth: np.ndarray) -> float:
    return float(np.mean(np.abs(prediction - truth)))


def rmse(prediction: np.ndarray, truth: np.ndarray) -> float:
    return float(np.sqrt(np.mean((prediction - truth) ** 2)))


METRICS: dict[str, Callable[[np.ndarray, np.ndarray], float]] = {"nMSE": nmse, "SRC": src, "MAE": mae, "RMSE": rmse}


def measure(prediction: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """Every metric over all n items: (n, label_dim) both; with several targets the mean over them."""
    targets = range(truth.shape[1])
    return {
        name: float(np.mean([metric(prediction[:, t], truth[:, t]) for t in targets]))
        for name, metric in METRICS.items()
    }


def batch_means(prediction: np.ndarray, truth: np.ndarray, batch_size: int) -> dict[str, float]:
    """The published protocol: every metric by batch, then the mean of the batches. It moves with the batch size."""
    starts = range(0, len(truth), batch_size)
    batches = [measure(prediction[s : s + batch_size], truth[s : s + batch_size]) for s in starts]
    return {name: float(np.mean([batch[name] for batch in batches])) for name in METRICS}


def intervals(prediction: np.ndarray, truth: np.ndarray, seed: int) -> dict[str, tuple[float, float]]:
    """95 % percentile bootstrap intervals over items, for one target: (n,) both."""
    found = {}
    for name, metric in METRICS.items():
        if len(truth) < 2:
            found[name] = (float("nan"), float("nan"))
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", stats.DegenerateDataWarning)
            result = stats.bootstrap(
                (prediction, truth),
                metric,
                paired=True,
                vectorized=False,
                n_resamples=RESAMPLES,
                confidence_level=CONFIDENCE,
                method="percentile",
                batch=50,
                rng=np.random.default_rng(seed),
            )
        found[name] = (float(result.confidence_interval.low), float(result.confidence_interval.high))
    return found


def selection_score(measured: dict[str, float], names: list[str]) -> float:
    """What chooses the epoch, smaller is better: the sum of the named metrics, SRC counted negative."""
    return sum(-measured[name] if name == "SRC" else measured[name] for name in names)
