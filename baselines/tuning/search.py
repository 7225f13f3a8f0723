"""The search: trials of a study, one after the other, until the budget is spent.

A trial is a cell of compare.py for each data set and seed, trained by train.py and never tested. Which values a trial
tries follows from its number among those that count and from what these came to, so that an interrupted trial is done
again with the same ones: what it had trained already is found and used.
"""

from __future__ import annotations

import math
import random
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from tqdm import tqdm

from baselines.comparison.cells import Cell, Row, seconds_of, train_cell
from baselines.comparison.children import Children, Failed, side_by_side
from baselines.tuning import study as kept
from baselines.tuning.data import DataSet, open_data_set
from baselines.tuning.plan import Plan
from common.console import PROGRESS_BAR, InputError
from common.room import is_full
from engine.run import LAST, Run
from engine.space import Range, word

if TYPE_CHECKING:
    from optuna import Study
    from optuna.trial import FrozenTrial, Trial

MEASURE = "nMSE"  # on split valid, of the epoch or model that was kept


@dataclass
class Search:
    """What is searched, on what, and where."""

    study: Study
    plan: Plan
    data: list[DataSet]
    seeds: list[int]
    place: Path
    device: str
    jobs: int  # cells of a trial at a time
    children: Children
    started: float = field(default_factory=time.monotonic)

    def __post_init__(self):
        self.before = self.study.user_attrs.get(kept.SECONDS, 0.0)

    @property
    def seconds(self) -> float:
        """Wall time of this search, over all its starts."""
        return self.before + time.monotonic() - self.started

    @cached_property
    def cells(self) -> dict[str, tuple[DataSet, int]]:
        """Name -> data set and seed."""
        return {f"{one.name}, seed {seed}": (one, seed) for seed in self.seeds for one in self.data}

    # ---- until the budget is spent -------------------------------------------------------------

    def run(self, trials: int | None, minutes: float | None, write: Callable[[], None]) -> None:
        """Trials until there are `trials` of them, or `minutes` are over; `write` is called after each."""
        for stale in self.study.get_trials(deepcopy=False):
            if stale.state.name == "RUNNING":  # of a killed process; it has no reason, so that it does not count
                self.study.tell(stale.number, state=failed())
        done = kept.finished(self.study)
        bar = tqdm(total=trials, initial=len(done), desc="trials", unit="trial", **PROGRESS_BAR)
        try:
            with bar:
                self.show(bar, done)
                while not is_spent(len(done), self.seconds, trials, minutes):
                    self.attempt(len(done))
                    self.save_time()
                    done = kept.finished(self.study)
                    self.tidy(done)
                    write()
                    bar.update()
                    self.show(bar, done)
                    bar.write(self.line(len(done) - 1, done[-1]))
        finally:
            self.save_time()

    def show(self, bar: tqdm, done: list[FrozenTrial]) -> None:
        if best := kept.best_of(done):
            bar.set_postfix(best=f"{best.value:.4f}")

    def line(self, number: int, trial: FrozenTrial) -> str:
        what = " ".join(words_of(trial)) or "the defaults"
        if trial.value is None:
            return f"trial {number}: failed: {trial.user_attrs[kept.REASON]}: {what}"
        pruned = f" (pruned after {len(trial.user_attrs[kept.CELLS])} of {len(self.cells)} cells)"
        return f"trial {number}: {trial.value:.4f}{pruned * bool(trial.user_attrs.get(kept.PRUNED))}: {what}"

    def save_time(self) -> None:
        self.study.set_user_attr(kept.SECONDS, self.seconds)

    def tidy(self, done: list[FrozenTrial]) -> None:
        """Delete the run folders of all trials but the best; what train.py printed stays."""
        best = kept.best_of(done)
        keep = self.row(best).folder if best else None
        for run in self.place.glob("runs/*/cells/*/seed*/*/"):
            if run.parents[1].name != keep:
                for name in ("cell.json", LAST):  # first what half of a run could be taken for a whole one by
                    (run / name).unlink(missing_ok=True)
                shutil.rmtree(run, ignore_errors=True)

    # ---- one trial -----------------------------------------------------------------------------

    def attempt(self, number: int) -> None:
        """The `number`th trial that counts: asked for, trained, told."""
        optuna = kept.library()
        # Seeded by the trial, not by the process: where it was interrupted changes nothing of what comes after.
        self.study.sampler = optuna.samplers.TPESampler(seed=number)
        if number == 0 and not self.study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.WAITING,)):
            self.study.enqueue_trial(self.plan.defaults())
        trial = self.study.ask()
        for name, tried in self.plan.space.items():
            if number or name in self.plan.defaults():
                suggest(trial, name, tried)
        found: dict[str, dict] = {}
        try:
            value = self.value(trial, number, found)
        except (Failed, InputError, OSError) as error:
            self.require_same_data()
            if is_full(self.place, str(error)):  # no trial's fault: it is done again when there is room
                self.study.tell(trial, state=failed())
                raise InputError(f"{error}; with room on the disk the same command continues") from None
            trial.set_user_attr(kept.CELLS, found)
            if number == 0 and len(self.data) > 1:
                self.study.tell(trial, state=failed())
                raise InputError(
                    f"the defaults failed, so there is nothing to compare with over several data sets: {error}"
                ) from None
            trial.set_user_attr(kept.REASON, str(error))
            self.study.tell(trial, state=failed())
        else:
            trial.set_user_attr(kept.CELLS, found)
            self.study.tell(trial, value)

    def value(self, trial: Trial, number: int, found: dict[str, dict]) -> float:
        """The mean of the cells, each put into `found`; of those before it was pruned where it was."""
        row, names = self.row(trial), list(self.cells)
        random.Random(number).shuffle(names)  # as Optuna says, or what is easy on the first cells would be preferred
        values = []
        for begin in range(0, len(names), self.jobs):
            group = names[begin : begin + self.jobs]
            self.measure(row, group, found)
            self.save_time()
            if number == 0 and len(self.data) > 1:
                continue  # what they are set against is known when all are there
            for name in group:
                values.append(found[name][MEASURE] / self.scale(name))
                trial.report(values[-1], list(self.cells).index(name))
            if len(values) < len(names) and trial.should_prune():
                trial.set_user_attr(kept.PRUNED, True)
                break
        if not values:
            self.study.set_user_attr(kept.SCALE, self.means(found))
            for step, name in enumerate(self.cells):
                values.append(found[name][MEASURE] / self.scale(name))
                trial.report(values[-1], step)
        return math.fsum(values) / len(values)

    def measure(self, row: Row, names: list[str], found: dict[str, dict]) -> None:
        """Put these cells into `found`; the first one's failure is raised when all have ended."""
        ended = dict(side_by_side(lambda name: self.cell(row, *self.cells[name]), names, self.jobs, self.children))
        failures = []
        for name in names:
            if isinstance(ended[name], Exception):
                failures.append(ended[name])
            else:
                found[name] = ended[name]
        if failures:
            raise failures[0]

    def cell(self, row: Row, data: DataSet, seed: int) -> dict | Exception:
        """Its metrics on split valid, its seconds, how many epochs or trees it had; or what went wrong."""
        try:
            setting = data.setting(self.place, self.device, self.children.threads)
            run = train_cell(Cell(setting, row, seed), self.children)
            valid, epochs = Run(run, {}).valid(), len(Run(run, {}).history())
            if not isinstance(valid.get(MEASURE), float) or not math.isfinite(valid[MEASURE]):
                raise Failed(f"{data.name}, seed {seed}: valid {MEASURE} is {valid.get(MEASURE, 'not there')}")
        except (Failed, InputError, OSError) as error:
            return error
        return valid | {"seconds": seconds_of(run), "epochs": epochs}

    def means(self, found: dict[str, dict]) -> dict[str, float]:
        """Data set -> the defaults' mean over seeds."""
        means = {}
        for data in self.data:
            of_it = [found[name][MEASURE] for name, (one, _) in self.cells.items() if one is data]
            means[data.name] = math.fsum(of_it) / len(of_it)
            if means[data.name] == 0:
                raise InputError(f"{data.name}: the defaults have a valid {MEASURE} of 0 already")
        return means

    def scale(self, name: str) -> float:
        """What a cell's value is divided by: over several data sets what the defaults have on its own."""
        return self.study.user_attrs[kept.SCALE][self.cells[name][0].name] if len(self.data) > 1 else 1.0

    def row(self, trial: Trial | FrozenTrial) -> Row:
        return Row(self.plan.method, self.plan.method, (*self.plan.fixed, *words_of(trial, self.plan)))

    def require_same_data(self) -> None:
        """InputError where a data set is no longer the one that was opened: no trial's fault."""
        for one in self.data:
            if str(open_data_set(self.plan, one.folder, warn=False)) != str(one):
                raise InputError(f"{one.folder} changed meanwhile; bring it back, or begin anew on one state of it")


def is_spent(done: int, seconds: float, trials: int | None, minutes: float | None) -> bool:
    return (trials is not None and done >= trials) or (minutes is not None and seconds >= 60 * minutes)


def failed():
    return kept.library().trial.TrialState.FAIL


def suggest(trial: Trial, name: str, tried) -> None:
    if not isinstance(tried, Range):
        trial.suggest_categorical(name, tried.ends)
    elif isinstance(tried.low, int):
        trial.suggest_int(name, tried.low, tried.high, log=tried.log)
    else:
        trial.suggest_float(name, tried.low, tried.high, log=tried.log)


def words_of(trial: Trial | FrozenTrial, plan: Plan | None = None) -> tuple[str, ...]:
    """What a trial's parameters are as flags of train.py."""
    names = [name for name in (plan.space if plan else trial.params) if name in trial.params]
    return tuple(text for name in names for text in (f"--{name}", word(trial.params[name])))
