"""What the cells and the trivial rows predicted, read back and measured alike."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from baselines.cells import Outcome, Row, Setting, recorded
from baselines.trivial import Trivial
from dataloader.console import InputError
from dataloader.files import written_beside
from dataloader.store import FeatureStore
from engine.estimator import VALID
from engine.metrics import METRICS, measure
from engine.run import Run


@dataclass(frozen=True)
class Result:
    """A row of the table: predictions (seeds, n, label_dim) of split test, of the seeds that were finished."""

    name: str
    method: str
    prediction: np.ndarray
    measured: list[dict[str, float]]  # a seed each, over the whole split
    seeds: list[int]
    seconds: list[float]  # of training, a seed each
    command: str = ""
    runs: list[Path] = field(default_factory=list)
    failures: dict[int, str] = field(default_factory=dict)  # seed -> reason
    chosen: str = ""  # a trivial row's

    @property
    def trivial(self) -> bool:
        return not self.method

    @property
    def deterministic(self) -> bool:
        """Every seed predicts the same, to the last digit."""
        return self.trivial or (len(self.seeds) > 1 and bool((self.prediction == self.prediction[:1]).all()))

    def mean(self, metric: str) -> float:
        return float(np.mean([one[metric] for one in self.measured])) if self.measured else float("nan")

    def std(self, metric: str) -> float:
        """Sample standard deviation over seeds: NaN for one seed, 0 for a deterministic method."""
        values = [one[metric] for one in self.measured]
        if self.deterministic:
            return 0.0
        return float(np.std(values, ddof=1)) if len(values) > 1 else float("nan")

    @property
    def train_seconds(self) -> float:
        return float(np.mean(self.seconds)) if self.seconds else float("nan")

    @property
    def seeds_in_words(self) -> str:
        if self.trivial:
            return "deterministic"
        number = f"{len(self.seeds)} seed{'s' * (len(self.seeds) != 1)}"
        return f"{number}, deterministic" if self.deterministic else number


def trained_result(
    store: FeatureStore, setting: Setting, row: Row, seeds: list[int], outcomes: dict[tuple[str, int], Outcome]
) -> Result:
    """The row's finished cells and its failures."""
    predictions, done, failures = [], {}, {}
    for seed in seeds:
        outcome = outcomes[row.folder, seed]
        if outcome.run is not None:
            try:
                predictions.append(read_predictions(outcome.run / "predictions.csv", store))
                done[seed] = outcome
                continue
            except InputError as error:
                outcome = Outcome(failure=str(error))
        failures[seed] = outcome.failure
    truth = store.items.label[store.rows("test")]
    cells = [recorded(outcome.run / "cell.json") for outcome in done.values()]
    return Result(
        name=row.name,
        method=row.method,
        prediction=np.stack(predictions) if predictions else np.empty((0, *truth.shape)),
        measured=[measure(prediction, truth) for prediction in predictions],
        seeds=list(done),
        seconds=[outcome.seconds for outcome in done.values()],
        command=setting.command(row, "<seed>", cells[0].get("threads") if cells else setting.threads),
        runs=[outcome.run for outcome in done.values()],
        failures=failures,
    )


def trivial_result(store: FeatureStore, name: str, row: Trivial) -> Result:
    truth = store.items.label[store.rows("test")]
    measured = [measure(row.prediction, truth)]
    return Result(name, "", row.prediction[None], measured, [0], [row.seconds], chosen=row.chosen)


def read_predictions(path: Path, store: FeatureStore) -> np.ndarray:
    """(n, label_dim) of a predictions.csv of split test; InputError where it is not of these items."""
    rows, names = store.rows("test"), store.info["label"]["names"]
    columns = ["prediction"] if len(names) == 1 else [f"prediction_{name}" for name in names]
    try:
        table = pd.read_csv(path, dtype={"item_id": str}, keep_default_na=False, usecols=["item_id", *columns])
        prediction = table[columns].to_numpy(dtype=np.float64)
    except (ValueError, pd.errors.ParserError) as error:
        raise InputError(f"{path}: truncated or not test.py's predictions ({error}); delete it to test anew") from None
    if table["item_id"].tolist() != store.items.item_id[rows].tolist():
        raise InputError(f"{path}: not the {len(rows)} items of split test in {store.folder}; delete it to test anew")
    if not np.isfinite(prediction).all():
        raise InputError(f"{path}: has predictions that are not finite; delete it to test anew")
    return prediction


def write_trivial_predictions(place: Path, store: FeatureStore, results: list[Result]) -> None:
    """`trivial/<name>/predictions.csv`, columns as test.py writes them."""
    rows, names = store.rows("test"), store.info["label"]["names"]
    for result in results:
        columns = {"item_id": store.items.item_id[rows]}
        for t, name in enumerate(names):
            suffix = f"_{name}" if len(names) > 1 else ""
            columns[f"prediction{suffix}"] = result.prediction[0, :, t]
            columns[f"truth{suffix}"] = store.items.label[rows, t]
        slug = "".join(letter if letter.isalnum() else "_" for letter in result.name)
        with written_beside(place / "trivial" / slug / "predictions.csv") as partial:
            pd.DataFrame(columns).to_csv(partial, index=False, float_format="%.12g")


def cells_table(results: list[Result]) -> pd.DataFrame:
    """A line per finished or failed cell; valid_*: of the model that was kept."""
    lines = []
    for result in (r for r in results if not r.trivial):
        for seed, run, seconds, measured in zip(
            result.seeds, result.runs, result.seconds, result.measured, strict=True
        ):
            line = {"row": result.name, "method": result.method, "seed": seed} | measured | _valid(run)
            environment = recorded(run / "config.json").get("environment")
            environment = environment if isinstance(environment, dict) else {}
            how = {"commit": environment.get("commit"), "threads": environment.get("threads")}
            how["device"] = recorded(run / "cell.json").get("device")
            lines.append(line | {"train_seconds": seconds, "run": str(run)} | how)
        lines += [
            {"row": result.name, "method": result.method, "seed": seed, "failure": reason}
            for seed, reason in result.failures.items()
        ]
    return pd.DataFrame(lines, columns=None if lines else ["row", "method", "seed"])


def _valid(run: Path) -> dict[str, float]:
    """The validation metrics of the whole model, or of a network's epoch that was kept."""
    valid = recorded(run / VALID)
    if not valid:
        history = Run(run, {}).history()
        best = history[-1].get("best_epoch") if history else None
        valid = next((record for record in history if best and record.get("epoch") == best), {}).get("valid")
    return {f"valid_{name}": valid[name] for name in METRICS if name in valid} if isinstance(valid, dict) else {}
