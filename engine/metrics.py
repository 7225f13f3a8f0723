"""nMSE, SRC, MAE, RMSE and others over a whole split, and the published means over batches.

Every metric is a function of P predictions (P, n), truth (n,) and weights (n, R): how often each item is drawn in each
of R resamples, so that one bootstrap (engine/bootstrap.py) takes any of them. With a column of ones it is the metric
itself. A new metric is a function and a line in METRICS.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from dataloader.description import Label

ROUNDING = 1e-5  # a count comes back from the logarithm of a float32 label only so exactly
AS_GIVEN = Label(("label",))  # labels that are no function of a count


def nmse(prediction: np.ndarray, truth: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Mean squared error over the variance of the truth; 1 is what predicting the split's mean would give.

    NaN where the truth is constant.
    """
    shifted = truth - np.median(truth)  # so that equal labels have a variance of exactly 0
    mean, square = _mean(np.stack([shifted, shifted**2]), weight)  # (R,) each
    variance = square - mean**2
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(variance > 1e-12 * square, _mean((prediction - truth) ** 2, weight) / variance, np.nan)


def src(prediction: np.ndarray, truth: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Spearman's rank correlation, equal values sharing their mean rank; NaN where either side is constant."""
    if len(truth) < 2:
        return np.full((len(prediction), weight.shape[1]), np.nan)
    other = _centred_ranks(truth, weight)  # (n, R)
    weighed, found = weight * other, []
    spread = np.einsum("nr,nr->r", weighed, other)  # (R,)
    for one in prediction:
        if not np.isfinite(one).all():  # NaN has no rank
            found.append(np.full(weight.shape[1], np.nan))
            continue
        ranks = _centred_ranks(one, weight)  # (n, R)
        with np.errstate(divide="ignore", invalid="ignore"):
            own = np.einsum("nr,nr->r", weight * ranks, ranks)
            found.append(np.einsum("nr,nr->r", weighed, ranks) / np.sqrt(spread * own))
    return np.array(found)


def mae(prediction: np.ndarray, truth: np.ndarray, weight: np.ndarray) -> np.ndarray:
    return _mean(np.abs(prediction - truth), weight)


def rmse(prediction: np.ndarray, truth: np.ndarray, weight: np.ndarray) -> np.ndarray:
    return np.sqrt(_mean((prediction - truth) ** 2, weight))


def pcc(prediction: np.ndarray, truth: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Pearson's r of labels; NaN where either side is constant."""
    x = prediction - prediction.mean(axis=1, keepdims=True)  # so that equal values have a variance of exactly 0
    y = truth - truth.mean()
    mean_x, mean_y = _mean(x, weight), _mean(y, weight)  # (P, R), (R,)
    square_x, square_y = _mean(x**2, weight), _mean(y**2, weight)
    var_x, var_y = square_x - mean_x**2, square_y - mean_y**2
    constant = (var_x <= 1e-12 * np.maximum(square_x, 1e-300)) | (var_y <= 1e-12 * np.maximum(square_y, 1e-300))
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(constant, np.nan, (_mean(x * y, weight) - mean_x * mean_y) / np.sqrt(var_x * var_y))


def within_factor_two(prediction: np.ndarray, truth: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Share of the predicted counts that are at least half and at most twice the true one; a count of 0 is met below
    one half. NaN where a prediction is.
    """
    least, most = truth / 2 * (1 - ROUNDING), 2 * truth * (1 + ROUNDING)
    met = (prediction >= least) & (prediction <= most) | (truth == 0) & (prediction < 0.5)
    return _mean(np.where(np.isnan(prediction), np.nan, met), weight)


def _mean(values: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """(P, n), (n, R) -> (P, R)"""
    return values @ weight / weight.sum(axis=0)


def _centred_ranks(values: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """(n,), (n, R) -> (n, R): the ranks in each resample, as if every item stood there as often as it was drawn."""
    distinct, group = np.unique(values, return_inverse=True)  # (n,) places among the distinct values
    count = weight[np.argsort(group, kind="stable")]
    if len(distinct) < len(values):
        starts = np.cumsum(np.bincount(group)) - np.bincount(group)
        count = np.add.reduceat(count, starts, axis=0)  # (G, R)
    rank = np.cumsum(count, axis=0)
    rank -= count / 2
    rank -= weight.sum(axis=0) / 2  # the mean of the ranks, without the half that both sides have
    return rank[group]


@dataclass(frozen=True)
class Metric:
    name: str
    function: Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]  # (P, n), (n,), (n, R) -> (P, R)
    larger_is_better: bool = False
    of_counts: bool = False  # it is given counts, not labels; NaN where labels are of none
    needs_spread: bool = False  # it is not defined where all labels are equal


METRICS = {
    metric.name: metric
    for metric in (
        Metric("nMSE", nmse, needs_spread=True),
        Metric("SRC", src, larger_is_better=True, needs_spread=True),
        Metric("MAE", mae),
        Metric("RMSE", rmse),
        Metric("PCC", pcc, larger_is_better=True, needs_spread=True),
        Metric("within2", within_factor_two, larger_is_better=True, of_counts=True),
    )
}


def measure(prediction: np.ndarray, truth: np.ndarray, target: Label = AS_GIVEN) -> dict[str, float]:
    """Every metric over all n items: (n, label_dim) both; with several targets the mean over them.

    target: what the labels are, for metrics of counts.
    """
    found = measure_resampled(prediction[None], truth, np.ones((len(truth), 1)), target)
    return {name: float(value[0, 0]) for name, value in found.items()}


def measure_resampled(
    prediction: np.ndarray, truth: np.ndarray, weight: np.ndarray, target: Label = AS_GIVEN
) -> dict[str, np.ndarray]:
    """The same for P predictions (P, n, label_dim) and R resamples at once: weight (n, R) -> (P, R) each."""
    labels = prediction.astype(np.float64), truth.astype(np.float64)
    counts = target.inverse(labels[0]), target.inverse(labels[1])
    found = {}
    for name, metric in METRICS.items():
        predicted, true = counts if metric.of_counts else labels
        if metric.of_counts and not target.of_counts:
            found[name] = np.full((len(prediction), weight.shape[1]), np.nan)
            continue
        each = [metric.function(predicted[:, :, t], true[:, t], weight) for t in range(truth.shape[1])]
        found[name] = np.mean(each, axis=0)
    return found


def batch_means(
    prediction: np.ndarray, truth: np.ndarray, batch_size: int, target: Label = AS_GIVEN
) -> dict[str, float]:
    """The published protocol: every metric by batch, then the mean of the batches. It moves with the batch size."""
    starts = range(0, len(truth), batch_size)
    batches = [measure(prediction[s : s + batch_size], truth[s : s + batch_size], target) for s in starts]
    return {name: float(np.mean([batch[name] for batch in batches])) for name in METRICS}


def selection_score(measured: dict[str, float], names: list[str]) -> float:
    """What chooses the epoch, smaller is better: the named metrics summed, negative where larger is better."""
    return sum(-measured[name] if METRICS[name].larger_is_better else measured[name] for name in names)
