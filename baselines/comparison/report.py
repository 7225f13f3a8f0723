"""What compare.py leaves behind for its readers: tables, tests and pictures, each saying what made it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from baselines.comparison.ablation import SWEEPS, Variant
from baselines.comparison.cells import Row
from baselines.comparison.folds import folds_in_words
from baselines.comparison.results import Result, cells_table
from baselines.comparison.tables import Origin, frame, markdown, plain, tex, valid_markdown
from baselines.comparison.verdicts import TESTED, judge, verdicts_markdown, verdicts_table
from common.cells import write_table
from common.files import written_beside
from dataloader.description import Label
from dataloader.items import creators
from dataloader.neighbours import Neighbours
from dataloader.store import FeatureStore
from engine.bootstrap import Resampled, resample
from engine.figures import draw_rows, draw_sweeps, save
from engine.metrics import METRICS
from engine.run import environment

BOOTSTRAP_SEED = 2024
LARGER = ", ".join(name for name, metric in METRICS.items() if metric.larger_is_better)


@dataclass(frozen=True)
class Report:
    place: Path
    truth: np.ndarray  # (n, label_dim) of all test items
    target: Label  # what the labels are
    user: np.ndarray  # (n,) who made them, "" where unknown
    origin: Origin
    left_out: dict[str, str]  # rows that the data set has not what they take for -> why

    @property
    def creators(self) -> np.ndarray | None:
        """(n,) whose they are, as whole numbers; None where no creator is known."""
        return creators(self.user) if (self.user != "").any() else None

    # ---- the table -----------------------------------------------------------------------------

    def write_comparison(self, results: list[Result]) -> str:
        """table.*, significance.csv and cells.csv; the first row is the reference. What to print."""
        table, resampled = markdown(results), self._resampled(results)
        shown, verdicts = self._judged(results, resampled)
        text = [f"# {plain(self.origin.dataset_id)}: the table", self._caption(), table, *failures(results)]
        if self.left_out:
            lines = [f"- {plain(name)}: {plain(reason)}" for name, reason in self.left_out.items()]
            text.append("Left out:\n\n" + "\n".join(lines))
        text += [f"## What is shown about {plain(results[0].name)}", shown]
        per_cell = cells_table(results)
        text += ["## Split valid", self._valid_caption(), valid_markdown(results)]
        text += ["## How it was made", self.origin.markdown(results, made_by(per_cell)), ""]
        self._text("table.md", "\n\n".join(text))
        self._text("table.tex", tex(results, self.origin))
        self._csv("table.csv", self._with_intervals(frame(results, self.origin), results, resampled))
        self._csv("significance.csv", verdicts)
        self._csv("cells.csv", per_cell)
        self._draw("table.png", results, resampled, self._title)
        return f"\n{table}\n\n{self.place / 'table.md'} says what is shown, and how; beside it .csv, .tex and .png"

    def _caption(self) -> str:
        seeds = ", ".join(map(str, self.origin.seeds))
        which = f"of {self.origin.folds}, all together" if self.origin.folds else "over the whole split"
        split = f", split by {plain(self.origin.split)}" if self.origin.split else ""
        late = plain(", ".join(self.origin.consequences))
        late = f" COUNTED AFTER PUBLICATION, and among the metadata: {late}." if late else ""
        return (
            f"{self.origin.n} test items{split}, label {plain(self.origin.label)}.{late} "
            "Mean ± sample standard deviation over seeds "
            f"{seeds} of metrics {which}; no ± where there is one seed or every seed predicts the same "
            "(deterministic). Best **bold**, second <u>underlined</u>, as the printed figures rank, trivial rows "
            f"included; larger is better for {LARGER}, smaller for the others. within2: share of the predicted counts "
            "that are at least half and at most twice the true one. Train s: mean wall seconds of train.py, "
            "start and loading included."
        )

    @property
    def _title(self) -> str:
        return f"{self.origin.dataset_id}, {self.origin.folds or 'split test'}"

    def _with_intervals(self, table: pd.DataFrame, results: list[Result], resampled: Resampled | None) -> pd.DataFrame:
        """The table with each row's own intervals beside, by what is drawn (creators, where they are known)."""
        names = [result.name for result in finished(results)]
        for metric in METRICS if resampled else ():
            found = {name: resampled.interval(i, metric) for i, name in enumerate(names)}
            for bound in ("low", "high"):
                table[f"{metric}_{bound}"] = [getattr(found.get(name), bound, np.nan) for name in table["row"]]
        return table

    def _valid_caption(self) -> str:
        mean = ", the mean over the folds" if self.origin.folds else ""
        return (
            f"To choose settings by; the test figures above are not. Of the models that were kept{mean}. A network's "
            "epoch is chosen by these very figures, so they are a little too good."
        )

    def _resampled(self, results: list[Result]) -> Resampled | None:
        """Of those that have a finished run; None where none has."""
        done = finished(results)
        predictions = [result.prediction for result in done]
        return resample(predictions, self.truth, BOOTSTRAP_SEED, self.creators, self.target) if done else None

    def _judged(self, results: list[Result], resampled: Resampled | None) -> tuple[str, pd.DataFrame]:
        """Paired tests of the first of `results` against the others, in words and as a table."""
        done, nothing = finished(results), pd.DataFrame(columns=["reference", "row"])
        if resampled is None:
            return "Nothing: no row has a finished run.", nothing
        if done[0] is not results[0] or len(done) == 1:
            reason = "has no finished run" if done[0] is not results[0] else "is the only row that is finished"
            return f"Nothing: {plain(results[0].name)} {reason}.", nothing
        verdicts = judge(done, resampled, results[0].name, self.truth, self.creators, BOOTSTRAP_SEED)
        return verdicts_markdown(verdicts, self.user), verdicts_table(verdicts, self.origin.fingerprint)

    def _draw(self, picture: str, results: list[Result], resampled: Resampled | None, title: str) -> None:
        if resampled is None:
            return
        done = finished(results)
        panels = {
            metric: [
                (resampled.interval(i, metric), None if result.trivial else [one[metric] for one in result.measured])
                for i, result in enumerate(done)
            ]
            for metric in TESTED
        }
        figure = draw_rows([result.name for result in done], panels, title, resampled.unit)
        save(figure, self.place / picture, self.origin.line)

    # ---- the ablation --------------------------------------------------------------------------

    def write_ablation(self, variants: list[Variant], results: dict[str, Result], left_out: list[str]) -> str:
        """ablation.* and sensitivity.png: the first variant is the reference. What to print."""
        parts = [results[variant.row.name] for variant in variants if variant.sweep == "parts"]
        resampled = self._resampled(parts)
        shown, verdicts = self._judged(parts, resampled)
        every = list(results.values())
        per_cell = cells_table(every)
        text = [f"# {plain(self.origin.dataset_id)}: {plain(parts[0].name)} taken apart and varied", self._caption()]
        text += [
            "Figures of split test: to be read, not to choose settings by (ablation_cells.csv has those of valid).",
            "## Parts",
        ]
        text += [markdown(parts), shown]
        reference = variants[0].row
        for sweep in SWEEPS:
            if rows := [_at_value(v, reference, results) for v in variants if v.sweep == sweep.key]:
                text += [f"## {sweep.label}", markdown(rows)]
        text += [*failures(every)]
        notes = [*made_by(per_cell), *(f"left out: {plain(what)}" for what in left_out)]
        text += ["## How it was made", self.origin.markdown(every, notes), ""]
        self._text("ablation.md", "\n\n".join(text))
        first = [{"sweep": v.sweep, "value": v.value} for v in variants]
        self._csv("ablation.csv", frame([results[v.row.name] for v in variants], self.origin, first))
        self._csv("ablation_significance.csv", verdicts)
        self._csv("ablation_cells.csv", per_cell)
        title = self._title
        self._draw("ablation.png", parts, resampled, f"{title}: parts left out")
        if sweeps := self._sweeps(variants, results):
            title += f": sensitivity of {parts[0].name}"
            save(draw_sweeps(sweeps, title), self.place / "sensitivity.png", self.origin.line)
        rest = f"{self.place / 'ablation.md'} has the rest; beside it .csv, .png and sensitivity.png"
        return f"\n{markdown(parts)}\n\n{rest}"

    def _sweeps(self, variants: list[Variant], results: dict[str, Result]) -> dict[str, dict]:
        """What draw_sweeps takes, of the sweeps that have any finished run."""
        found, reference = {}, variants[0].row
        for sweep in SWEEPS:
            own = [variant for variant in variants if variant.sweep == sweep.key]
            rows = [results[variant.row.name] for variant in own]
            if any(row.measured for row in rows):
                found[sweep.label] = {
                    "values": [variant.value for variant in own],
                    "kept": next(variant.value for variant in own if variant.row == reference),
                    "metrics": {m: [[one[m] for one in row.measured] for row in rows] for m in TESTED},
                }
        return found

    # ---- files ---------------------------------------------------------------------------------

    def _text(self, name: str, content: str) -> None:
        with written_beside(self.place / name) as partial:
            partial.write_text(content, encoding="utf-8")

    def _csv(self, name: str, table: pd.DataFrame) -> None:
        write_table(self.place / name, table)


def finished(results: list[Result]) -> list[Result]:
    return [result for result in results if len(result.seeds)]


def _at_value(variant: Variant, reference: Row, results: dict[str, Result]) -> Result:
    """The variant's result under a name that says its value, the reference's too: `MMRA, K 10 (reference)`."""
    result = results[variant.row.name]
    if variant.row != reference:
        return result
    return replace(result, name=f"{result.name}, {variant.sweep} {variant.value:g} (reference)")


def made_by(per_cell: pd.DataFrame) -> list[str]:
    """Which state of the code, how many threads and what device made the cells: more than one is worth knowing."""
    if "run" not in per_cell or not per_cell["run"].notna().any():
        return []
    counted = per_cell.dropna(subset="run").groupby(["commit", "threads", "device"], dropna=False).size()
    found = [
        f"cells of commit `{commit}` with {threads:g} threads on {device}: {count}"
        for (commit, threads, device), count in counted.items()
    ]
    if len(found) > 1:
        found.append("not all cells were made alike: --save in a new folder makes them all anew")
    return found


def failures(results: list[Result]) -> list[str]:
    """A paragraph that names the cells that failed, and why; none where none did."""
    lines = [f"- {plain(r.name)}, {cell}: {plain(reason)}" for r in results for cell, reason in r.failed.items()]
    return ["Failed, and tried again by the same command:\n\n" + "\n".join(lines)] if lines else []


def origin_of(
    store: FeatureStore,
    neighbours: Neighbours | None,
    n: int,
    by: str | None,
    folds: int,
    seeds: list[int],
    command: str,
) -> Origin:
    return Origin(
        command=command,
        dataset_id=store.dataset_id,
        fingerprint=store.fingerprint,
        neighbours=neighbours_in_words(neighbours, by),
        label=f"{', '.join(store.label.names)} ({store.label.in_words()})",
        split="" if by else store.label.split_in_words(),
        consequences=store.description.consequences,
        n=n,
        folds=folds_in_words(folds, by) if by else "",
        seeds=seeds,
        environment=environment(),
    )


def neighbours_in_words(neighbours: Neighbours | None, by: str | None) -> str:
    if neighbours is None:
        return "no neighbours"
    which = "searched anew in each fold" if by else f"digest {neighbours.digest()}"
    return f"{neighbours.k} neighbours an item from bank {neighbours.bank_in_words} ({which})"
