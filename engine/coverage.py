"""Whether intervals hold what they promise where the truth is known, and how far off the sizes allow them to be."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from common.console import InputError
from dataloader.batches import Split
from dataloader.description import Label
from dataloader.items import creators
from dataloader.opening import Data
from engine.adaptive import RATE, adapted
from engine.intervals import Intervals, rank
from engine.method import Prediction
from engine.run import Run

RANGE = 0.95
DRAWS = 1000
BATCH_BYTES = 32 << 20
PARTS = 5  # by predicted popularity


@dataclass(frozen=True)
class Banded:
    """The intervals of predictions of a run, and what is said of them.

    bands: as of Intervals.of, none where the run has no intervals; expected (n, label_dim): the errors expected.
    told: where they are adaptive, for how many items any label had become known; else None.
    """

    intervals: Intervals | None
    bands: dict[str, np.ndarray]
    expected: np.ndarray | None = None
    told: int | None = None

    @classmethod
    def of(cls, run: Run, data: Data, items: Split, prediction: Prediction, adaptive: bool) -> Banded:
        """InputError for `adaptive` where there are no intervals, or no times."""
        intervals = Intervals.load(run.folder)
        if intervals is not None and len(intervals.targets) != prediction.mean.shape[1]:
            raise InputError(f"{run.folder}: its intervals are of {len(intervals.targets)} targets; train it anew")
        if adaptive and intervals is None:
            raise InputError(f"--adaptive: {run.folder} has no intervals")
        if adaptive and "time" not in data.store.items.origin:
            raise InputError(f"--adaptive: {data.store.folder} does not know when its videos were published")
        if intervals is None:
            return cls(None, {})
        expected = intervals.expected_error(prediction, data, items)
        if adaptive:
            bands, told = adapted(intervals, data.store, items.rows, prediction.mean, expected)
            return cls(intervals, bands, expected, told)
        return cls(intervals, intervals.of(prediction, data, items), expected)

    def report(self, items: Split, prediction: np.ndarray) -> dict | None:
        if self.intervals is None or not self.intervals.levels:
            return None
        found = coverage_report(self.intervals, self.bands, items, prediction, self.expected)
        return found | ({} if self.told is None else {"adaptive": {"rate": RATE, "told": self.told}})

    def show(self, report: Mapping | None, label: Label) -> None:
        if self.intervals is None:
            print("no intervals: none were calibrated when the run was trained")
            return
        if report is not None:
            print("\n".join(in_words(report, label.in_words())))
        if self.told is not None:
            print(f"adaptive: for {self.told} of {len(self.expected)} videos any label had been counted before")
        elif self.intervals.by_time:
            print(
                "note: the split is by time, so what calibrates is older than what is tested, and what intervals "
                "promise is not kept exactly; --adaptive learns of what was counted meanwhile"
            )


def coverage_report(
    intervals: Intervals, bands: Mapping[str, np.ndarray], split: Split, prediction: np.ndarray, expected: np.ndarray
) -> dict:
    """Level -> share of labels held and mean width, of all and by fifth of `prediction`, target by target.

    bands: of Intervals.of, (n, label_dim) each; expected (n, label_dim): the errors expected, for the scores of what is
    tested. allowed: the range that `allowed_range` gives.
    """
    report = {"calibration": len(intervals.scores), "targets": {}}
    own = creators(split.user) if intervals.creator is not None and (split.user != "").any() else None
    report["range_by"] = "items" if own is None else "creators"
    for t, name in enumerate(split.target.names):
        truth, order = split.label[:, t], np.argsort(prediction[:, t], kind="stable")
        scores = np.abs(truth - prediction[:, t]) / expected[:, t]
        levels = {}
        for level in intervals.levels:
            lower, upper = bands[f"lower_{level}"][:, t], bands[f"upper_{level}"][:, t]
            within, width = (lower <= truth) & (truth <= upper), upper - lower
            if own is None:
                low, high = allowed_range(len(intervals.scores), len(truth), level)
            else:
                low, high = allowed_by_creators(intervals.scores[:, t], intervals.creator, scores, own, level)
            levels[str(level)] = {
                "coverage": float(within.mean()),
                "allowed_low": low,
                "allowed_high": high,
                "width": float(width.mean()),
                "fifths": [
                    {
                        "n": len(part),
                        "from": float(prediction[part, t].min()),
                        "to": float(prediction[part, t].max()),
                        "coverage": float(within[part].mean()),
                        "width": float(width[part].mean()),
                    }
                    for part in np.array_split(order, min(PARTS, len(order)))
                ],
            }
        report["targets"][name] = levels
    return report


def allowed_range(calibration: int, tested: int, level: int) -> tuple[float, float]:
    """The central 95 % of the coverage of `tested` items where they and those of calibration are exchangeable.

    Their number is beta-binomial whatever the scores are, where these have no ties: Angelopoulos and Bates, A gentle
    introduction to conformal prediction, 2021, appendix C.
    """
    from scipy.stats import betabinom

    k = rank(calibration, level)
    low, high = betabinom.interval(RANGE, tested, calibration + 1 - k, k)
    return float(low) / tested, float(high) / tested


def allowed_by_creators(
    calibration: np.ndarray, theirs: np.ndarray, tested: np.ndarray, own: np.ndarray, level: int
) -> tuple[float, float]:
    """The same where a creator's videos fare alike: creators, each with all its videos of one part, are drawn anew.

    calibration (c,), tested (n,): scores; theirs, own: their creators, whole numbers. Both are drawn of all of them, as
    many creators as each has, with replacement: as if calibration and test were two draws of the same. The middle of
    the range is therefore near the level, wherever the measured coverage is.
    """
    pool, group = np.concatenate([calibration, tested]), np.concatenate([theirs, own + theirs.max() + 1])
    order = np.argsort(-pool, kind="stable")
    group = np.unique(group, return_inverse=True)[1][order]
    sizes, rng, found = (len(np.unique(theirs)), len(np.unique(own))), np.random.default_rng(0), []
    for number in batches_of(len(pool)):
        mine, others = (drawn(rng, group, size, number) for size in sizes)  # (c + n, R) how often each is in
        total = mine.sum(axis=0)
        k = np.floor((100 - level) * (total + 1) / 100)
        larger = np.cumsum(mine, axis=0) < k  # those above the k-th largest score, which are not held
        missed = (others * larger).sum(axis=0)
        found.append(1 - missed / others.sum(axis=0))
    tail = 100 * (1 - RANGE) / 2
    low, high = np.percentile(np.concatenate(found), [tail, 100 - tail])
    return float(low), float(high)


def batches_of(n: int) -> Iterator[int]:
    """DRAWS in parts, so many that their weights (n, R) fit into BATCH_BYTES."""
    step, left = max(1, BATCH_BYTES // (8 * n)), DRAWS
    while left > 0:
        yield min(step, left)
        left -= step


def drawn(rng: np.random.Generator, group: np.ndarray, size: int, number: int) -> np.ndarray:
    """(n, R) how often each of n items is in R draws of `size` of the groups, whole."""
    groups = int(group.max()) + 1
    chosen = rng.integers(0, groups, (number, size)) + groups * np.arange(number)[:, None]
    count = np.bincount(chosen.ravel(), minlength=number * groups).reshape(number, groups)
    return count.T.astype(np.float64)[group]


def in_words(report: Mapping, unit: str) -> list[str]:
    """A line a target and level: what share is held, whether that is what the sizes allow, how wide intervals are."""
    lines = []
    for name, levels in report["targets"].items():
        of = f"{name}, " if len(report["targets"]) > 1 else ""
        for level, found in levels.items():
            low, high = 100 * found["allowed_low"], 100 * found["allowed_high"]
            parts = " ".join(f"{100 * part['coverage']:.0f}" for part in found["fifths"])
            lines.append(
                f"{of}intervals of {level} %: hold {100 * found['coverage']:.1f} %, allowed {low:.1f} .. {high:.1f} by "
                f"{report['range_by']}; mean width {found['width']:.2f} {unit}; by fifths of prediction {parts}"
            )
    return lines
