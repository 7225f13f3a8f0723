"""What is written of a search: trials.csv, best.json and study.md, made anew of the study after each trial."""

from __future__ import annotations

import csv
import shlex
import statistics
from collections import Counter
from typing import TYPE_CHECKING

from baselines.comparison.tables import code, plain
from baselines.tuning import study as kept
from baselines.tuning.search import MEASURE, Search
from common.cells import guarded
from common.files import write_json, written_beside
from engine.space import word

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

ENOUGH = 10  # trials with a value, before importances say anything


def write_report(search: Search, command: str) -> str:
    """All three files; the text of study.md. command: what makes this search, or goes on with it."""
    trials = kept.finished(search.study)
    write_trials(search, trials)
    text = in_words(search, trials, command)
    with written_beside(search.place / "study.md") as partial:
        partial.write_text(text, encoding="utf-8")
    if best := kept.best_of(trials):
        write_json(search.place / "best.json", as_json(search, trials, best, command))
    return text


def state_of(trial: FrozenTrial) -> str:
    if trial.value is None:
        return "failed"
    return "pruned" if trial.user_attrs.get(kept.PRUNED) else "complete"


def seconds_of(trial: FrozenTrial) -> float:
    return sum(cell["seconds"] or 0.0 for cell in trial.user_attrs[kept.CELLS].values())


def write_trials(search: Search, trials: list[FrozenTrial]) -> None:
    """A line a trial; a cell's value is its valid nMSE, whatever the trial's value is made of."""
    with (
        written_beside(search.place / "trials.csv") as partial,
        partial.open("w", newline="", encoding="utf-8") as file,
    ):
        out = csv.writer(file)
        head = ["number", "value", *search.cells, "seconds", "state", *search.plan.space, "reason"]
        out.writerow(map(guarded, head))
        for number, trial in enumerate(trials):
            cells = trial.user_attrs[kept.CELLS]
            values = [cells[name][MEASURE] if name in cells else "" for name in search.cells]
            tried = [word(trial.params[name]) if name in trial.params else "" for name in search.plan.space]
            value = "" if trial.value is None else trial.value
            reason = trial.user_attrs.get(kept.REASON, "")
            out.writerow(
                [number, value, *values, round(seconds_of(trial), 1), state_of(trial), *tried, guarded(reason)]
            )


# ---- commands ------------------------------------------------------------------------------------


def flags_of(search: Search, trial: FrozenTrial) -> list[str]:
    """All that train.py is given of the method."""
    return list(search.row(trial).flags)


def row_of(search: Search, trial: FrozenTrial) -> str:
    """The value of a --row of compare.py."""
    return f"{search.plan.method}, tuned={shlex.join([search.plan.method, *flags_of(search, trial)])}"


def training(search: Search, trial: FrozenTrial) -> list[str]:
    """A command for each data set."""
    flags = shlex.join(flags_of(search, trial))
    return [
        f"python train.py --dataset_path {shlex.quote(str(one.folder.parent))} --dataset_id {shlex.quote(one.name)} "
        f"--model_id {search.plan.method} {flags}".rstrip()
        for one in search.data
    ]


# ---- study.md and best.json ------------------------------------------------------------------------


def in_words(search: Search, trials: list[FrozenTrial], command: str) -> str:
    names = ", ".join(plain(one.name) for one in search.data)
    lines = [f"# {search.plan.method} tuned on {names}", ""]
    lines += [*found(search, trials), "", *space_table(search, trials), "", *(made_on(search, trials)), ""]
    if best := kept.best_of(trials):
        block = [*training(search, best), "", "--row " + shlex.quote(row_of(search, best))]
        lines += ["The best trial as commands, and as a row of compare.py:", "", "```", *block, "```", ""]
    return "\n".join([*lines, f"Made, and gone on with, by {code(command)}."]) + "\n"


def found(search: Search, trials: list[FrozenTrial]) -> list[str]:
    """The defaults and the best, overall and cell by cell."""
    best = kept.best_of(trials)
    if best is None:
        reason = f"; the last failed: {trials[-1].user_attrs.get(kept.REASON, '')}" if trials else ""
        return [f"No trial has a value yet{reason}."]
    what = f"valid {MEASURE}" if len(search.data) == 1 else f"valid {MEASURE} over the defaults'"
    lines = [f"| {what}, smaller is better | value | {' | '.join(map(plain, search.cells))} |"]
    lines += ["|---|---|" + "---|" * len(search.cells)]
    for name, trial in (("the defaults (trial 0)", trials[0]), (f"the best (trial {trials.index(best)})", best)):
        cells = trial.user_attrs[kept.CELLS]
        values = [f"{cells[cell][MEASURE]:.4f}" if cell in cells else "failed" for cell in search.cells]
        value = "failed" if trial.value is None else f"{trial.value:.4f}"
        lines.append(f"| {name} | {value} | {' | '.join(values)} |")
    said = (
        "Split valid alone: no label of split test was read by what was trained. The best of many trials looks better "
        "on the split that chose it than it is; what it is worth says split test, with other seeds."
    )
    if best is trials[0]:
        said = f"**Nothing that was tried is better than the defaults.** {said}"
    return [*lines, "", said]


def space_table(search: Search, trials: list[FrozenTrial]) -> list[str]:
    best, importance = kept.best_of(trials), importances(search, trials)
    settings = search.row(trials[0]).settings if trials else {}
    lines = ["| flag | tried | default | best | importance |", "|---|---|---|---|---|"]
    for name, tried in search.plan.space.items():
        default = default_in_words(settings.get(name))
        chosen = word(best.params[name]) if best and name in best.params else default
        values = plain(str(tried))
        share = f"{importance[name]:.2f}" if name in importance else "-"
        lines.append(f"| {plain(name)} | {values} | {default} | {chosen if best else '-'} | {share} |")
    if importance:
        lines += ["", "Importance: share of what varies among the trials' values (PED-ANOVA), rough for few trials."]
    return lines + [f"\nLeft out of the search: {plain(one)}." for one in search.plan.left_out]


def default_in_words(value) -> str:
    return "+".join(map(str, value)) if isinstance(value, list | tuple) else word(value)


def importances(search: Search, trials: list[FrozenTrial]) -> dict[str, float]:
    """Flag -> its share, {} where too few trials say anything of it."""
    values = [trial.value for trial in trials if trial.value is not None]
    if len(values) < ENOUGH or statistics.pstdev(values) == 0:
        return {}
    try:
        return kept.library().importance.get_param_importances(search.study)
    except (ValueError, RuntimeError):  # of no flag are there values that differ
        return {}


def made_on(search: Search, trials: list[FrozenTrial]) -> list[str]:
    states = Counter(map(state_of, trials))
    counted = ", ".join(f"{number} {state}" for state, number in states.items()) or "none"
    fixed = code(shlex.join(search.plan.fixed)) if search.plan.fixed else "none"
    lines = [f"- data set {plain(one.name)}: {plain(str(one))}" for one in search.data]
    lines += [f"- seeds: {' '.join(map(str, search.seeds))}", f"- flags of every trial: {fixed}"]
    lines += [f"- trials: {len(trials)} ({counted}), in {search.seconds / 60:.1f} minutes"]
    if len(search.data) > 1:
        lines.append(
            f"- a trial's value: the mean over cells of valid {MEASURE} over the defaults' mean on that data set"
        )
    lines.append("- sampler and pruner: Optuna's TPE, seeded by the trial's number, and WilcoxonPruner")
    if len(search.seeds) > 1 and all(is_seedless(search, trial) for trial in trials):
        lines.append("- every seed gave the same: --seeds with one of them, in a search of its own, takes less time")
    # Without the exit code and the place of the output, which is another one for each trial.
    reasons = Counter(trial.user_attrs[kept.REASON].partition(" (exit code")[0] for trial in trials if not trial.values)
    return lines + [f"- failed ({number}): {plain(reason)}" for reason, number in reasons.most_common(5)]


def is_seedless(search: Search, trial: FrozenTrial) -> bool:
    """Whether no data set has two seeds with other values."""
    cells = [(search.cells[name][0].name, cell[MEASURE]) for name, cell in trial.user_attrs[kept.CELLS].items()]
    return len(set(cells)) == len(dict(cells))


def as_json(search: Search, trials: list[FrozenTrial], best: FrozenTrial, command: str) -> dict:
    return {
        "method": search.plan.method,
        "number": trials.index(best),
        "value": best.value,
        "value_of_defaults": trials[0].value,
        "flags": flags_of(search, best),
        "cells": best.user_attrs[kept.CELLS],
        "cells_of_defaults": trials[0].user_attrs[kept.CELLS],
        **{part: search.study.user_attrs[kept.MADE_OF][part] for part in ("data", "seeds", "space")},
        "trials": len(trials),
        "minutes": round(search.seconds / 60, 2),
        "train": training(search, best),
        "row": row_of(search, best),
        "command": command,
    }
