"""What compare.py leaves behind for its readers: tables, tests and pictures, each saying what made it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from baselines.ablation import SWEEPS, Variant
from baselines.results import Result, cells_table
from baselines.tables import Origin, frame, markdown, tex
from baselines.verdicts import judge, verdicts_markdown, verdicts_table
from dataloader.files import written_beside
from engine.figures import draw_rows, draw_sweeps
from engine.significance import TESTED, resample

BOOTSTRAP_SEED = 2024


@dataclass(frozen=True)
class Report:
    place: Path
    truth: np.ndarray  # (n, label_dim) of split test
    origin: Origin

    # ---- the table -----------------------------------------------------------------------------

    def write_comparison(self, results: list[Result]) -> str:
        """table.*, significance.csv and cells.csv; the first row is the reference. What to print."""
        table = markdown(results)
        shown, verdicts = self._judged(results, "table.png", f"{self.origin.dataset_id}, split test")
        text = [f"# {self.origin.dataset_id}: the table", self._caption(), table, *failures(results)]
        text += [f"## What is shown about {results[0].name}", shown]
        per_cell = cells_table(results)
        text += ["## How it was made", self.origin.markdown(results, made_by(per_cell)), ""]
        self._text("table.md", "\n\n".join(text))
        self._text("table.tex", tex(results, self.origin))
        self._csv("table.csv", frame(results, self.origin))
        self._csv("significance.csv", verdicts)
        self._csv("cells.csv", per_cell)
        return f"\n{table}\n\n{self.place / 'table.md'} says what is shown, and how; beside it .csv, .tex and .png"

    def _caption(self) -> str:
        seeds = ", ".join(map(str, self.origin.seeds))
        return (
            f"{self.origin.n} test items, label {self.origin.label}. Mean ± sample standard deviation over seeds "
            f"{seeds} of metrics over the whole split; no ± where there is one seed or every seed predicts the same "
            "(deterministic). Best **bold**, second <u>underlined</u>, as the printed figures rank, trivial rows "
            "included; larger is better for SRC, smaller for the others. Train s: mean wall seconds of train.py, "
            "start and loading included."
        )

    def _judged(self, results: list[Result], picture: str, title: str) -> tuple[str, pd.DataFrame]:
        """Paired tests of the first of `results` against the others, in words and as a table; and the picture."""
        finished = [result for result in results if len(result.seeds)]
        if not finished:
            return "Nothing: no row has a finished run.", pd.DataFrame(columns=["reference", "row"])
        resampled = resample([result.prediction for result in finished], self.truth, BOOTSTRAP_SEED)
        panels = {
            metric: [
                (resampled.interval(i, metric), None if result.trivial else [one[metric] for one in result.measured])
                for i, result in enumerate(finished)
            ]
            for metric in TESTED
        }
        draw_rows(self.place / picture, [result.name for result in finished], panels, title, self.origin.line)
        if finished[0] is not results[0] or len(finished) == 1:
            reason = "has no finished run" if finished[0] is not results[0] else "is the only row that is finished"
            return f"Nothing: {results[0].name} {reason}.", pd.DataFrame(columns=["reference", "row"])
        verdicts = judge(finished, resampled, results[0].name, self.truth)
        return verdicts_markdown(verdicts, len(self.truth)), verdicts_table(verdicts, self.origin.fingerprint)

    # ---- the ablation --------------------------------------------------------------------------

    def write_ablation(self, variants: list[Variant], results: dict[str, Result], left_out: list[str]) -> str:
        """ablation.* and sensitivity.png: the first variant is the reference. What to print."""
        parts = [results[variant.row.name] for variant in variants if variant.sweep == "parts"]
        shown, verdicts = self._judged(parts, "ablation.png", f"{self.origin.dataset_id}, split test: parts left out")
        sweeps = self._sweeps(variants, results)
        if sweeps:
            title = f"{self.origin.dataset_id}, split test: sensitivity of {parts[0].name}"
            draw_sweeps(self.place / "sensitivity.png", sweeps, title, self.origin.line)
        every = list(results.values())
        per_cell = cells_table(every)
        text = [f"# {self.origin.dataset_id}: {parts[0].name} taken apart and varied", self._caption()]
        text += [
            "Figures of split test: to be read, not to choose settings by (ablation_cells.csv has those of valid).",
            "## Parts",
        ]
        text += [markdown(parts), shown]
        for sweep in SWEEPS:
            if rows := [_at_value(variant, results) for variant in variants if variant.sweep == sweep.key]:
                text += [f"## {sweep.label}", markdown(rows)]
        text += [*failures(every)]
        notes = [*made_by(per_cell), *(f"left out: {what}" for what in left_out)]
        text += ["## How it was made", self.origin.markdown(every, notes), ""]
        self._text("ablation.md", "\n\n".join(text))
        first = [{"sweep": v.sweep, "value": v.value} for v in variants]
        self._csv("ablation.csv", frame([results[v.row.name] for v in variants], self.origin, first))
        self._csv("ablation_significance.csv", verdicts)
        self._csv("ablation_cells.csv", per_cell)
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
        with written_beside(self.place / name) as partial:
            table.to_csv(partial, index=False)


def _at_value(variant: Variant, results: dict[str, Result]) -> Result:
    """The variant's result under a name that says its value, the reference's too: `MMRA, K 10`."""
    result, value = results[variant.row.name], f", {variant.sweep} {variant.value:g}"
    return result if result.name.endswith(value) else replace(result, name=f"{result.name}{value} (reference)")


def made_by(per_cell: pd.DataFrame) -> list[str]:
    """Which state of the code and how many threads the cells were made with: more than one is worth knowing."""
    if "run" not in per_cell or not per_cell["run"].notna().any():
        return []
    counted = per_cell.dropna(subset="run").groupby(["commit", "threads"]).size()
    made = [(commit, f"{threads:g}", count) for (commit, threads), count in counted.items()]
    found = [f"cells of commit `{commit}` with {threads} threads: {count}" for commit, threads, count in made]
    if len(found) > 1:
        found.append("not all cells were made alike: --save in a new folder makes them all anew")
    return found


def failures(results: list[Result]) -> list[str]:
    """A paragraph that names the cells that failed, and why; none where none did."""
    lines = [f"- {r.name}, seed {seed}: {reason}" for r in results for seed, reason in r.failures.items()]
    return ["Failed, and tried again by the same command:\n\n" + "\n".join(lines)] if lines else []
