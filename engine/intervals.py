"""Intervals of predictions by conformal regression: how far off predictions were on items that nothing had seen.

An interval is prediction -+ quantile * difficulty, the quantile that of |label - prediction| / difficulty on the
calibration items (dataloader/calibration.py), which is chosen by crepes; Papadopoulos et al., Normalized nonconformity
measures for regression conformal prediction, 2008. It holds the label of as many items as is promised, on average over
draws of calibration and new items, where these could as well be exchanged. Saved in the run's folder as numbers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from common.console import InputError
from common.files import read_json, write_json
from dataloader.batches import Split
from dataloader.calibration import ENOUGH
from dataloader.items import creators
from dataloader.opening import Data
from engine.difficulty import Difficulty, all_doubts
from engine.method import Prediction

FILE, FORMAT = "intervals.json", 1
LEVELS = (80, 95)  # per cent
NOTE = "note: intervals are calibrated on {n} items alone, so that they may hold a good deal more or less than promised"


@dataclass(frozen=True)
class Intervals:
    """Of each target how large an error is to be expected, and how large those of calibration were beside it.

    scores (n, label_dim): |label - prediction| / difficulty of the calibration items. creator (n,): whole numbers,
    equal for items of one creator; None where no creators are known. by_time: these are older than what is tested.
    folds: they are those of train, predicted by so many copies that left them out; 0: of split valid, held back.
    """

    targets: tuple[str, ...]
    difficulty: tuple[Difficulty, ...]
    scores: np.ndarray
    creator: np.ndarray | None = None
    by_time: bool = False
    folds: int = 0

    @classmethod
    def fit(
        cls,
        data: Data,
        valid: Split,
        on_valid: Prediction,
        calibration: Split,
        on_calibration: Prediction,
        folds: int = 0,
    ) -> Intervals:
        """Difficulty of the errors on `valid`, and scores of `calibration`."""
        doubts = all_doubts(data, valid, on_valid)
        error = np.abs(valid.label - on_valid.mean)
        names = valid.target.names
        found = tuple(Difficulty.fit(of_target(doubts, t), error[:, t]) for t in range(len(names)))
        creator = creators(calibration.user) if (calibration.user != "").any() else None
        plain = cls(names, found, np.zeros((0, len(names))), creator, data.store.label.by_time, folds)
        error = np.abs(calibration.label - on_calibration.mean)
        return replace(plain, scores=error / plain.expected_error(on_calibration, data, calibration))

    # ---- what is asked of them -----------------------------------------------------------------

    @property
    def levels(self) -> tuple[int, ...]:
        """Of which an interval is finite; for one of 95 % it takes 19 items."""
        return tuple(level for level in LEVELS if rank(len(self.scores), level) > 0)

    @cached_property
    def regressors(self) -> list:
        """crepes' own, a target each, fitted on the scores."""
        from crepes import ConformalRegressor

        ones = np.ones(len(self.scores))
        return [ConformalRegressor().fit(scores, sigmas=ones) for scores in self.scores.T]

    def expected_error(self, prediction: Prediction, data: Data, split: Split) -> np.ndarray:
        """(n, label_dim), in the label's unit, above 0: what an interval's width is proportional to."""
        doubts, n = all_doubts(data, split, prediction), len(split)
        return np.stack([one.of(of_target(doubts, t), n) for t, one in enumerate(self.difficulty)], axis=1)

    def of(self, prediction: Prediction, data: Data, split: Split) -> dict[str, np.ndarray]:
        """lower_80, upper_80, lower_95, upper_95 -> (n, label_dim), as labels; `Label.inverse` makes counts of them.

        split: any items of `data`, labelled or not, of which `prediction` is.
        """
        sigma, found = self.expected_error(prediction, data, split), {}
        for level in self.levels:
            # What a difference of floats falls short of the level must not cost a rank: 1 - 0.8 is below 0.2.
            how = {"confidence": level / 100 - 1e-9}
            each = [
                regressor.predict_int(prediction.mean[:, t].astype(np.float64), sigmas=sigma[:, t], **how)  # (n, 2)
                for t, regressor in enumerate(self.regressors)
            ]
            found[f"lower_{level}"], found[f"upper_{level}"] = np.moveaxis(np.stack(each, axis=1), 2, 0)
        return found

    def described(self) -> list[str]:
        """What a log says of them, in lines."""
        of_valid = f"{len(self.scores)} items of split valid that nothing else has seen"
        of_train = f"{len(self.scores)} items of split train, by {self.folds} copies that were not fitted on them"
        said = [f"intervals: calibrated on {of_train if self.folds else of_valid}"]
        for name, one in zip(self.targets, self.difficulty, strict=True):
            of = f" of {name}" if len(self.targets) > 1 else ""
            weighed = [f"{doubt} {weight:.2f}" for doubt, weight in zip(one.names, one.weight, strict=True)]
            said[0] += f"; expected error{of} by {', '.join(weighed) or 'nothing'}"
        return said + ([NOTE.format(n=len(self.scores))] if len(self.scores) < ENOUGH else [])

    # ---- files ---------------------------------------------------------------------------------

    def save(self, folder: Path) -> None:
        content = {"format": FORMAT, "targets": list(self.targets), "by_time": self.by_time, "folds": self.folds}
        content |= {"difficulty": [asdict(one) for one in self.difficulty], "scores": self.scores.tolist()}
        write_json(folder / FILE, content | {"creator": None if self.creator is None else self.creator.tolist()})

    @classmethod
    def load(cls, folder: Path) -> Intervals | None:
        """Those saved in a run's folder; None where there are none, as in runs of before there were any."""
        path = Path(folder) / FILE
        if not path.exists():
            return None
        content = read_json(path)
        try:
            if content["format"] != FORMAT:
                raise ValueError(f"format {content['format']}")
            targets = tuple(map(str, content["targets"]))
            difficulty = tuple(read_difficulty(one) for one in content["difficulty"])
            scores = np.array(content["scores"], np.float64)
            creator = None if content["creator"] is None else np.array(content["creator"], np.int64)
            sound = scores.shape == (len(scores), len(targets)) and len(difficulty) == len(targets) > 0
            sound &= bool(np.isfinite(scores).all()) and (scores >= 0).all() and type(content["by_time"]) is bool
            sound &= creator is None or creator.shape == (len(scores),)
            sound &= type(content["folds"]) is int
            if not sound:
                raise ValueError("parts that do not fit each other")
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise InputError(f"{path}: truncated or not the intervals of a run ({error})") from None
        return cls(targets, difficulty, scores, creator, content["by_time"], content["folds"])


def read_difficulty(saved: Mapping) -> Difficulty:
    """ValueError, KeyError or TypeError where it is none."""
    names, scale = tuple(map(str, saved["names"])), float(saved["scale"])
    numbers = {
        one.name: tuple(map(float, saved[one.name])) for one in fields(Difficulty) if one.name not in ("names", "scale")
    }
    if any(len(values) != len(names) or not np.isfinite(values).all() for values in numbers.values()) or not scale > 0:
        raise ValueError("no expected error")
    return Difficulty(names=names, scale=scale, **numbers)


def rank(n: int, level: int) -> int:
    """Which of n scores, from the largest, bounds an interval of `level` per cent; 0: none is large enough."""
    return (100 - level) * (n + 1) // 100


def of_target(doubts: Mapping[str, np.ndarray], target: int) -> dict[str, np.ndarray]:
    return {name: values[:, target] for name, values in doubts.items()}


def suffixes(targets: Sequence[str]) -> list[str]:
    """Of columns, as those of predictions have them."""
    return [f"_{name}" if len(targets) > 1 else "" for name in targets]
