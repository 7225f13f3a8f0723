"""Cells of the table: one method with its flags and one seed, trained and tested by train.py and test.py.

A cell's folder is named by method and flags, so that other flags never meet it, and holds normal run folders. A run
is finished when it has cell.json (training came to its end) and test.py's metrics.json; what is found is used as far
as it goes: tested, resumed, or done anew. Nothing is ever deleted.
"""

from __future__ import annotations

import hashlib
import json
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from baselines.comparison.children import Children, Failed
from baselines.parser import parse_flags
from common.console import InputError
from common.files import read_json, write_json
from common.manifest import is_whole
from dataloader.modalities import RETRIEVAL
from engine.run import LAST, MEMBERS, Run, is_number

RESULTS = ("metrics.json", "predictions.csv")  # which test.py leaves
OURS = ("model_id", "dataset_path", "dataset_id", "seed", "save", "device", "resume")  # flags that the cells are given


@dataclass(frozen=True)
class Row:
    """A line of the table: a method with flags of train.py."""

    name: str
    method: str
    flags: tuple[str, ...] = ()
    of_ablation: bool = False

    @cached_property
    def settings(self) -> dict[str, Any]:
        """What train.py makes of the flags, as config.json holds it; InputError for what it would refuse."""
        return json.loads(json.dumps(parse_flags(self.method, self.flags)))

    @property
    def folder(self) -> str:
        """`MMRA`, or `MMRA_alpha=0_1f3c09`: the same for the same flags in another order."""
        if not self.flags:
            return self.method
        words = " ".join(sorted("=".join(group) for group in grouped(self.flags).values()))
        readable = re.sub(r"[^A-Za-z0-9.=+-]+", "_", words.replace("--", ""))[:60]
        return f"{self.method}_{readable}_{hashlib.sha256(words.encode()).hexdigest()[:6]}"


@dataclass(frozen=True)
class Setting:
    """What all cells share: place, data and device."""

    place: Path  # the cells are in <place>/cells: <save>/<dataset_id>, or the folder of a fold
    dataset_path: str
    dataset_id: str
    device: str
    fingerprint: str
    neighbours: Mapping[str, str]  # source -> their digest
    threads: int | None  # a cell's; None: as many as it takes by itself
    fold: str = ""  # `fold 1`, where there are several

    def folder(self, row: Row, seed: int) -> Path:
        return self.place / "cells" / row.folder / f"seed{seed}"

    def train_words(self, row: Row, seed: int) -> list[str]:
        data = ["--dataset_path", self.dataset_path, "--dataset_id", self.dataset_id]
        where = ["--save", str(self.folder(row, seed)), "--device", self.device]
        return ["train.py", "--model_id", row.method, *data, "--seed", str(seed), *where, *row.flags]

    def command(self, row: Row, seed: int | str, threads: int | None) -> str:
        """What to type for this cell alone."""
        prefix = "" if threads is None else f"OMP_NUM_THREADS={threads} "
        return f"{prefix}python {shlex.join(self.train_words(row, seed))}"

    def has_data_of(self, run: Path) -> bool:
        config = recorded(run / "config.json")
        data, neighbours, sources = (config.get(part) or {} for part in ("data", "neighbours", "sources"))
        if not all(isinstance(part, dict) for part in (data, neighbours, sources)):
            return False
        learned_from = {RETRIEVAL: neighbours["digest"]} | sources if "digest" in neighbours else sources
        same = all(self.neighbours.get(source) == digest for source, digest in learned_from.items())
        members = [path.parent for path in run.glob(f"{MEMBERS}/*/*/config.json")]  # of a blend
        return data.get("fingerprint") == self.fingerprint and same and all(map(self.has_data_of, members))


@dataclass(frozen=True)
class Outcome:
    """A finished run and how long it trained, or the reason why there is none."""

    run: Path | None = None
    seconds: float = float("nan")
    failure: str = ""


@dataclass(frozen=True)
class Cell:
    """One training: a row of the table with one seed, on one data set."""

    setting: Setting
    row: Row
    seed: int

    @property
    def folder(self) -> Path:
        return self.setting.folder(self.row, self.seed)

    def __str__(self) -> str:
        fold = f", {self.setting.fold}" if self.setting.fold else ""
        return f"{self.row.name}, seed {self.seed}{fold}"


# ---- flags -------------------------------------------------------------------------------------


def grouped(words: tuple[str, ...]) -> dict[str, tuple[str, ...]]:
    """("--lr", "1", "--no_shuffle") -> {"--lr": ("--lr", "1"), "--no_shuffle": ("--no_shuffle",)}; the last wins."""
    groups: dict[str, tuple[str, ...]] = {}
    flag = ""
    for word in words:
        if word.startswith("--"):
            flag, equals, value = word.partition("=")
            groups[flag] = (flag, value) if equals else (flag,)
        else:
            groups[flag] = (*groups.get(flag, ()), word)
    return groups


def changed(flags: tuple[str, ...], changes: dict[str, str | None], without: tuple[str, ...] = ()) -> tuple[str, ...]:
    """`flags` with each flag of `changes` set (None: a flag that takes no value), and those in `without` left out."""
    groups = {flag: group for flag, group in grouped(flags).items() if flag not in without}
    groups |= {flag: (flag,) if value is None else (flag, value) for flag, value in changes.items()}
    return tuple(word for group in groups.values() for word in group)


# ---- what is there already -----------------------------------------------------------------------


def recorded(path: Path) -> dict:
    """What a JSON file of a run says; nothing where it is absent or damaged: one old run must not end the rest."""
    try:
        content = read_json(path)
    except (InputError, FileNotFoundError):
        return {}
    return content if is_whole(path) else {}


def finished(setting: Setting, row: Row, seed: int) -> Outcome | None:
    """The newest finished run of this cell on these data."""
    for run in _runs(setting, row, seed):
        seconds = seconds_of(run)
        if seconds is not None and all((run / name).is_file() and is_whole(run / name) for name in RESULTS):
            return Outcome(run, seconds)
    return None


def seconds_of(run: Path) -> float | None:
    """How long a run trained; None where its training has not come to its end."""
    seconds = recorded(run / "cell.json").get("seconds")
    return seconds if is_number(seconds) else None


def _runs(setting: Setting, row: Row, seed: int) -> list[Path]:
    """Runs of this cell on these data, newest first: a run that was resumed by hand with other flags is none."""
    runs = [path.parent for path in setting.folder(row, seed).glob("*/config.json")]
    runs.sort(key=lambda run: (run.stat().st_mtime, run.name), reverse=True)
    return [run for run in runs if setting.has_data_of(run) and _has_settings_of(run, row, seed)]


def _has_settings_of(run: Path, row: Row, seed: int) -> bool:
    trained = recorded(run / "config.json").get("settings")
    wanted = row.settings | {"model_id": row.method, "seed": seed}
    return isinstance(trained, dict) and all(trained.get(name) == value for name, value in wanted.items())


def notes(setting: Setting, rows: list[Row], seeds: list[int]) -> list[str]:
    """What a user wonders about who changed the data or a row's flags since: which runs are there but not used."""
    found = []
    for row in rows:
        for seed in seeds:
            runs = {path.parent for path in setting.folder(row, seed).glob("*/config.json")}
            if others := sorted(runs - set(_runs(setting, row, seed))):
                found.append(
                    f"{Cell(setting, row, seed)}: {len(others)} run(s) made with other data, neighbours or settings "
                    f"are kept, not used: {others[-1]}"
                )
            for run in _runs(setting, row, seed):
                if bad := [name for name in RESULTS if not is_whole(run / name)]:
                    found.append(f"{run / bad[0]}: damaged, so the run is tested anew")
        for path in sorted(setting.place.glob("cells/*/seed*/*/cell.json")):
            cell = recorded(path)
            same = cell.get("row") == row.name and cell.get("seed") == seeds[0] and not cell.get("of_ablation")
            if same and path.parts[-4] != row.folder:
                flags = cell.get("flags")
                typed = shlex.join(map(str, flags if isinstance(flags, list) else [])) or "no flags"
                found.append(f"{row.name}: runs made with {typed} are kept, not used: {path.parents[2]}")
    return list(dict.fromkeys(found))


# ---- doing what is missing -----------------------------------------------------------------------


def train_cell(cell: Cell, children: Children) -> Path:
    """The cell's run, trained now unless it was before; Failed, InputError or OSError where it cannot be."""
    setting, row, seed = cell.setting, cell.row, cell.seed
    cell.folder.mkdir(parents=True, exist_ok=True)
    run = _trained(setting, row, seed)
    if run is None:
        run, seconds = _train(setting, row, seed, children)
        content = {"row": row.name, "method": row.method, "flags": list(row.flags), "seed": seed}
        content |= {"command": setting.command(row, seed, setting.threads), "device": setting.device}
        content |= {"threads": setting.threads, "of_ablation": row.of_ablation, "seconds": round(seconds, 1)}
        write_json(run / "cell.json", content)
    return run


def _trained(setting: Setting, row: Row, seed: int) -> Path | None:
    return next((run for run in _runs(setting, row, seed) if seconds_of(run) is not None), None)


def _seconds_of_epochs(run: Path) -> float | None:
    """How long the epochs of a run took; None where its history is damaged, so that it is trained anew."""
    try:
        return sum(record.get("seconds") or 0 for record in Run(run, {}).history())
    except InputError:
        return None


def _train(setting: Setting, row: Row, seed: int, children: Children) -> tuple[Path, float]:
    """Go on with the newest run that left something to go on with, else train anew; the run and its seconds."""
    folder = setting.folder(row, seed)
    begun = [run for run in _runs(setting, row, seed) if (run / LAST).is_file() or (run / MEMBERS).is_dir()]
    unfinished = next(iter(begun), None)
    if unfinished is not None and (before := _seconds_of_epochs(unfinished)) is not None:
        words = ["train.py", "--resume", str(unfinished), "--dataset_path", setting.dataset_path]
        try:
            seconds = children.run([*words, "--device", setting.device], folder / "output.txt")
            return unfinished, before + seconds
        except Failed as error:
            # Code 2 says that the run is damaged or of another version, so it is trained anew. Whatever else went wrong
            # may go away by itself, so the epochs that are done are not thrown away for it.
            if error.code != 2:
                raise
    known = set(folder.glob("*/config.json"))
    seconds = children.run(setting.train_words(row, seed), folder / "output.txt")
    made = sorted(set(folder.glob("*/config.json")) - known)
    if len(made) != 1:
        raise Failed(f"train.py left {len(made)} new runs in {folder}, expected one")
    if not setting.has_data_of(made[0].parent):
        raise Failed("the data set changed meanwhile; start again, on one state of it")
    return made[0].parent, seconds
