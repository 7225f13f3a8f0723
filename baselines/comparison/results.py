"""What the cells and the trivial rows predicted, read back and measured alike."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from baselines.comparison.cells import Outcome, Row, recorded
from baselines.comparison.parts import Part, truth_of
from baselines.comparison.trivial import trivial_rows
from common.cells import read_table, write_table
from common.console import InputError
from dataloader.store import FeatureStore
from engine.metrics import METRICS, measure
from engine.run import Run


@dataclass(frozen=True)
class Done:
    """A finished cell."""

    seed: int
    fold: str
    run: Path
    seconds: float  # of training
    measured: dict[str, float]  # over its test items
    valid: dict[str, float]


@dataclass(frozen=True)
class Result:
    """A row of the table: predictions (seeds, n, label_dim) of all test items, of the seeds that were finished."""

    name: str
    method: str
    prediction: np.ndarray
    measured: list[dict[str, float]]  # a seed each, over all n items: those of several folds are pooled
    valid: list[dict[str, float]]  # a seed each, of the models that were kept: the mean over the folds
    seeds: list[int]
    cells: list[Done] = field(default_factory=list)
    command: str = ""
    failures: dict[tuple[int, str], str] = field(default_factory=dict)  # seed and fold -> reason
    chosen: str = ""  # a trivial row's
    train_seconds: float = float("nan")  # mean of the cells

    @property
    def failed(self) -> dict[str, str]:
        """`seed 1, fold 2` -> reason"""
        return {f"seed {seed}{', ' * bool(fold)}{fold}": reason for (seed, fold), reason in self.failures.items()}

    @property
    def trivial(self) -> bool:
        return not self.method

    @property
    def deterministic(self) -> bool:
        """Every seed predicts the same, to the last digit."""
        return self.trivial or (len(self.seeds) > 1 and bool((self.prediction == self.prediction[:1]).all()))

    def mean(self, metric: str, split: str = "test") -> float:
        values = [one.get(metric, np.nan) for one in (self.measured if split == "test" else self.valid)]
        return float(np.mean(values)) if values else float("nan")

    def std(self, metric: str, split: str = "test") -> float:
        """Sample standard deviation over seeds: NaN for one seed, 0 for a deterministic method."""
        values = [one.get(metric, np.nan) for one in (self.measured if split == "test" else self.valid)]
        if self.deterministic:
            return 0.0
        return float(np.std(values, ddof=1)) if len(values) > 1 else float("nan")

    @property
    def seeds_in_words(self) -> str:
        if self.trivial:
            return "deterministic"
        number = f"{len(self.seeds)} seed{'s' * (len(self.seeds) != 1)}"
        return f"{number}, deterministic" if self.deterministic else number


def trained_result(parts: list[Part], row: Row, seeds: list[int], outcomes: dict[Path, Outcome]) -> Result:
    """The row's finished cells and its failures; a seed counts when all its parts are finished."""
    truth, predictions, done, failures = truth_of(parts), {}, [], {}
    for seed in seeds:
        found = []
        for part in parts:
            outcome = outcomes[part.setting.folder(row, seed)]
            if outcome.run is not None:
                try:
                    prediction = read_predictions(outcome.run / "predictions.csv", part.store)
                    measured = measure(prediction, part.store.items.label[part.test], part.store.label)
                    valid = valid_of(outcome.run)
                    done.append(Done(seed, part.setting.fold, outcome.run, outcome.seconds, measured, valid))
                    found.append(prediction)
                    continue
                except InputError as error:
                    outcome = Outcome(failure=str(error))
            failures[seed, part.setting.fold] = outcome.failure
        if len(found) == len(parts):
            predictions[seed] = np.concatenate(found)
    cells = [recorded(one.run / "cell.json") for one in done]
    setting = parts[0].setting
    command = setting.command(row, "<seed>", cells[0].get("threads") if cells else setting.threads)
    return Result(
        name=row.name,
        method=row.method,
        prediction=np.stack(list(predictions.values())) if predictions else np.empty((0, *truth.shape)),
        measured=[measure(prediction, truth, parts[0].store.label) for prediction in predictions.values()],
        valid=[_mean([one.valid for one in done if one.seed == seed]) for seed in predictions],
        seeds=list(predictions),
        cells=done,
        command=command.replace("fold1", "fold<n>") if setting.fold else command,
        failures=failures,
        train_seconds=float(np.mean([one.seconds for one in done])) if done else float("nan"),
    )


def trivial_results(parts: list[Part]) -> list[Result]:
    """The rows of TRIVIAL that all parts have what they take for."""
    computed, truth = [trivial_rows(part.store, part.neighbours) for part in parts], truth_of(parts)
    found = []
    for name in computed[0]:
        rows = [one[name] for one in computed if name in one]
        if len(rows) < len(parts):
            continue
        prediction = np.concatenate([row.prediction for row in rows])
        chosen = "; ".join(
            f"{part.setting.fold}: {row.chosen}" if part.setting.fold else row.chosen
            for part, row in zip(parts, rows, strict=True)
        )
        found.append(
            Result(
                name=name,
                method="",
                prediction=prediction[None],
                measured=[measure(prediction, truth, parts[0].store.label)],
                valid=[_mean([row.valid for row in rows])],
                seeds=[0],
                chosen=chosen,
                train_seconds=float(np.mean([row.seconds for row in rows])),
            )
        )
    return found


def _mean(measured: list[dict[str, float]]) -> dict[str, float]:
    return {name: float(np.mean([one.get(name, np.nan) for one in measured])) for name in METRICS}


def read_predictions(path: Path, store: FeatureStore) -> np.ndarray:
    """(n, label_dim) of a predictions.csv of split test; InputError where it is not of these items."""
    rows, names = store.rows("test"), store.label.names
    columns = ["prediction"] if len(names) == 1 else [f"prediction_{name}" for name in names]
    try:
        table = read_table(path, ["item_id"], columns)
        prediction = table[columns].to_numpy(dtype=np.float64)
    except (ValueError, OverflowError) as error:  # pandas' errors are ValueErrors
        raise InputError(f"{path}: truncated or not test.py's predictions ({error}); delete it to test anew") from None
    if table["item_id"].tolist() != store.items.item_id[rows].tolist():
        raise InputError(f"{path}: not the {len(rows)} items of split test in {store.folder}; delete it to test anew")
    if not np.isfinite(prediction).all():
        raise InputError(f"{path}: has predictions that are not finite; delete it to test anew")
    return prediction


def write_trivial_predictions(place: Path, parts: list[Part], results: list[Result]) -> None:
    """`trivial/<name>/predictions.csv`, columns as test.py writes them."""
    names = parts[0].store.label.names
    item_id = np.concatenate([part.store.items.item_id[part.test] for part in parts])
    fold = np.concatenate([np.full(len(part.test), part.setting.fold, object) for part in parts])
    truth = truth_of(parts)
    for result in results:
        columns = {"item_id": item_id} | ({"fold": fold} if len(parts) > 1 else {})
        for t, name in enumerate(names):
            suffix = f"_{name}" if len(names) > 1 else ""
            columns[f"prediction{suffix}"] = result.prediction[0, :, t]
            columns[f"truth{suffix}"] = truth[:, t]
        slug = "".join(letter if letter.isalnum() else "_" for letter in result.name)
        write_table(place / "trivial" / slug / "predictions.csv", pd.DataFrame(columns), "%.12g")


def cells_table(results: list[Result]) -> pd.DataFrame:
    """A line per finished or failed cell; valid_*: of the model that was kept."""
    lines = []
    for result in (r for r in results if not r.trivial):
        for one in result.cells:
            line = {"row": result.name, "method": result.method, "seed": one.seed}
            line |= {"fold": one.fold} if one.fold else {}
            line |= one.measured | {f"valid_{name}": value for name, value in one.valid.items()}
            environment = recorded(one.run / "config.json").get("environment")
            environment = environment if isinstance(environment, dict) else {}
            how = {"commit": environment.get("commit"), "threads": environment.get("threads")}
            how["device"] = recorded(one.run / "cell.json").get("device")
            lines.append(line | {"train_seconds": one.seconds, "run": str(one.run)} | how)
        for (seed, fold), reason in result.failures.items():
            line = {"row": result.name, "method": result.method, "seed": seed} | ({"fold": fold} if fold else {})
            lines.append(line | {"failure": reason})
    return pd.DataFrame(lines, columns=None if lines else ["row", "method", "seed"])


def valid_of(run: Path) -> dict[str, float]:
    valid = Run(run, {}).valid()
    return {name: np.nan if valid[name] is None else valid[name] for name in METRICS if name in valid}
