"""The one bootstrap: what another draw of test videos would change, of one row and of the difference between two.

Where creators are known they are drawn, each with all its videos: videos of a creator fare alike, so drawing videos as
if they told as much as videos of as many creators makes intervals too narrow. Those of videos are kept beside them.
Every statistic is that of the tables: a metric of each seed's predictions, averaged over the seeds. Predictions are
never averaged over seeds: that would judge an ensemble, which nobody trained and which flatters the methods that
differ most from seed to seed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from dataloader.description import Label
from engine.metrics import AS_GIVEN, METRICS, measure_resampled

CONFIDENCE = 0.95
RESAMPLES = 2000
DEFINED = 0.95  # share of the resamples in which a metric must be defined for it to have an interval
BATCH_BYTES = 8 << 20  # of weights held at once: what a cache holds


@dataclass(frozen=True)
class Interval:
    """A percentile interval; low and high by `unit`, and by videos beside them (the same where they are the unit)."""

    value: float
    low: float
    high: float
    unit: str = "videos"
    low_videos: float = float("nan")
    high_videos: float = float("nan")

    @property
    def excludes_zero(self) -> bool:
        return self.low > 0 or self.high < 0


@dataclass(frozen=True)
class Resampled:
    """Metrics of every row on the test items, (rows, M), and on resamples: unit -> (rows, M, RESAMPLES).

    unit: what the first key of `draws` says, creators where they are known.
    """

    value: np.ndarray
    draws: dict[str, np.ndarray]

    @property
    def unit(self) -> str:
        return next(iter(self.draws))

    def interval(self, row: int, metric: str) -> Interval:
        """95 % percentile interval of one row's metric."""
        m = list(METRICS).index(metric)
        return self._interval(self.value[row, m], {unit: draws[row, m] for unit, draws in self.draws.items()})

    def difference(self, row: int, other: int, metric: str) -> Interval:
        """The same for metric(row) - metric(other), both on the same resamples: paired."""
        m = list(METRICS).index(metric)
        draws = {unit: draws[row, m] - draws[other, m] for unit, draws in self.draws.items()}
        return self._interval(self.value[row, m] - self.value[other, m], draws)

    def _interval(self, value: float, draws: dict[str, np.ndarray]) -> Interval:
        tail = (1 - CONFIDENCE) / 2
        bounds = {}
        for unit, one in draws.items():
            defined = one[np.isfinite(one)]  # in few resamples a side may be constant
            enough = len(defined) >= DEFINED * len(one)
            bounds[unit] = np.quantile(defined, [tail, 1 - tail]).tolist() if enough else [float("nan")] * 2
        return Interval(float(value), *bounds[self.unit], self.unit, *bounds["videos"])


def resample(
    predictions: list[np.ndarray],
    truth: np.ndarray,
    seed: int,
    creators: np.ndarray | None = None,
    target: Label = AS_GIVEN,
) -> Resampled:
    """Bootstrap with the same draws for all rows: predictions (seeds, n, label_dim) of each, truth (n, label_dim).

    creators: (n,) whole numbers from 0, where they are known. target: what the labels are. With fewer than two of what
    is drawn its intervals are NaN. Intervals hold the trained seeds fixed.
    """
    every, row = np.concatenate(predictions), np.repeat(np.arange(len(predictions)), [len(p) for p in predictions])

    def measured(weight: np.ndarray) -> np.ndarray:
        """(n, R) -> (rows, M, R), the mean over each row's seeds."""
        found = np.stack(list(measure_resampled(every, truth, weight, target).values()), axis=1)  # (P, M, R)
        return np.array([found[row == i].mean(axis=0) for i in range(len(predictions))])

    value = measured(np.ones((len(truth), 1)))[:, :, 0]  # (rows, M)
    items = np.arange(len(truth))
    units = {"videos": items} if creators is None else {"creators": creators, "videos": items}
    draws = {}
    for unit, group in units.items():
        if len(np.unique(group)) < 2:
            draws[unit] = np.full((*value.shape, RESAMPLES), np.nan)
        else:
            draws[unit] = np.concatenate([measured(weight) for weight in weights(group, seed)], axis=2)
    return Resampled(value, draws)


def weights(group: np.ndarray, seed: int) -> Iterator[np.ndarray]:
    """RESAMPLES draws of as many groups as there are, with replacement: how often each item is in, (n, R) a batch."""
    rng, groups = np.random.default_rng(seed), int(group.max()) + 1
    step = max(1, BATCH_BYTES // (8 * len(group)))
    for start in range(0, RESAMPLES, step):
        number = min(step, RESAMPLES - start)
        drawn = rng.integers(0, groups, (number, groups)) + groups * np.arange(number)[:, None]
        count = np.bincount(drawn.ravel(), minlength=number * groups).reshape(number, groups)
        yield count.T.astype(np.float64)[group]  # (n, R)
