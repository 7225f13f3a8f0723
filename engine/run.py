"""A run's folder: everything that repeats, resumes, judges and reuses a trained method. No pickled code."""

from __future__ import annotations

import importlib.metadata
import json
import platform
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from common import distributed, manifest
from common.console import InputError
from common.files import make_folder, read_json, sync_folder, whole_lines, without_nan, write_json, written_beside
from common.room import naming
from dataloader.place import Lacks

if TYPE_CHECKING:  # it takes seconds to import, and reading what a run was trained with does not need it
    from engine.events import Events

BEST, LAST = "best.safetensors", "last.pt"
HISTORY = "history.jsonl"  # a line an epoch
WEIGHTS = "weights.json"  # of a blend: its members' folders, and how much each weighs
MEMBERS = "members"  # in the blend's folder: a folder for each, with its run in it
PARTS = {"data": "data set", "neighbours": "neighbours", "sources": "neighbours by source", "model": "dimensions"}
VALID = "valid.json"  # the metrics of split valid, of a model that a library fitted
# Beside a run in its folder, and needed neither to predict with it nor to go on: what it was tested and compared to.
BESIDE = ("metrics.json", "predictions.csv", "report.html", "cell.json")
PACKAGES = ("torch", "numpy", "scipy", "pandas", "transformers", "safetensors", "scikit-learn", "crepes")
# of some baselines: absent where only others are run
PACKAGES += ("catboost", "lightgbm", "pytorch-tabnet", "tabm", "pytabkit", "autogluon.tabular")


class Run:
    """`config.json`, `log.txt`, `history.jsonl`, TensorBoard events, `best.safetensors` and `last.pt` in one folder.

    members: of a blend the run of each member, by its folder, and how much it weighs; none before these are known.
    """

    def __init__(self, folder: Path, config: dict, members: tuple[tuple[Path, float], ...] = ()):
        self.folder, self.config, self.members = Path(folder), config, members
        self._to_write = False  # whether config.json is to say what `config` says
        self._events: Events | None = None

    @classmethod
    def create(cls, save: Path | str, name: str, config: dict) -> Run:
        """A new folder `<save>/<name>_<time>`; what is there is never reused."""
        stem, number = f"{name}_{time.strftime('%Y%m%d-%H%M%S')}", 1
        folder = Path(save) / stem
        make_folder(Path(save))
        while True:
            try:
                folder.mkdir()
                break
            except FileExistsError:
                number += 1
                folder = Path(save) / f"{stem}-{number}"
        sync_folder(Path(save))
        manifest.begin(folder)
        run = cls(folder, config | {"environment": environment()})
        try:
            write_json(folder / "config.json", run.config)
        except (InputError, OSError):
            shutil.rmtree(folder)  # no run without it
            raise
        return run

    @classmethod
    def open(cls, path: Path | str, flag: str) -> Run:
        """The run in folder `path`, or around a checkpoint in it; `flag` is what the user gave it by."""
        path = Path(path)
        folder = path if path.is_dir() else path.parent
        if not path.exists():
            raise InputError(f"{flag} {path}: no such run folder or checkpoint", Lacks("run", path))
        if not (folder / "config.json").is_file():
            raise InputError(
                f"{flag} {path}: no config.json beside it, so it is no run (published checkpoints "
                "are pickled code and are not loaded; load_published takes their tensors)"
            )
        if path.is_file() and path.name not in (BEST, LAST, "config.json"):
            raise InputError(f"{flag} {path}: not a checkpoint; the run's folder or its {BEST} is expected")
        return cls(folder, read_json(folder / "config.json"), members_in(folder))

    def require_whole(self, resuming: bool) -> None:
        """InputError where a file of the run is damaged that is needed to predict with it, or to go on with it."""
        passed_over = BESIDE if resuming else (*BESIDE, LAST, HISTORY, VALID)
        damaged = manifest.damaged(self.folder, passed_over)
        if damaged:
            rest = "; the best epoch is whole and can be tested" if not {*damaged} - {LAST, HISTORY, VALID} else ""
            remedy = f"bring a copy of it back, or train the run anew{rest}"
            raise InputError(f"{self.folder / damaged[0]}: {manifest.said_of_damage(remedy)}")

    def go_on(self, config: dict) -> None:
        """Take the epochs that a resumed run is told anew, and how many processes go on, into its configuration.

        InputError where `config`, that of a run on the data as they are now, says other data, neighbours or dimensions.
        Nothing is written before `keep_config`.
        """
        for what, before, now in self.unlike(config):
            raise InputError(
                f"--resume {self.folder}: the {what} changed since it was trained ({before}, now {now}); bring the "
                "old ones back or train anew"
            )
        epochs = {name: value for name, value in config["settings"].items() if name == "epochs"}
        changed = self.config | {"settings": self.config["settings"] | epochs}
        before, now = (one.get("processes", [1]) for one in (self.config, config))
        if before[-1:] != now:
            changed |= {"processes": before + now}
        if changed != self.config:
            self.config, self._to_write = changed, True

    def unlike(self, config: dict) -> Iterator[tuple[str, object, object]]:
        """What is other in `config`, of what data and dimensions a run has: in words, here, and there."""
        for part, what in PARTS.items():
            before, now = (one.get(part) for one in (self.config, config))
            if part == "neighbours":
                before, now = without_backend(before), without_backend(now)
            if before != now:
                yield what, before, now

    def keep_config(self) -> None:
        """Write what go_on has taken, when nothing can be refused any more."""
        if self._to_write and distributed.is_first():
            write_json(self.folder / "config.json", self.config)
            self._to_write = False

    # ---- what training writes ------------------------------------------------------------------

    def log(self, message: str) -> None:
        if not distributed.is_first():
            return
        print(message, flush=True)
        path = self.folder / "log.txt"
        with naming(path), path.open("a", encoding="utf-8") as file:
            file.write(message + "\n")

    def history(self) -> list[dict]:
        """A record per finished epoch, or tree, from `history.jsonl`; none where there is no such file.

        InputError where a line is not what is written there. One cut short by a kill is left out.
        """
        path, records = self.folder / HISTORY, []
        for number, line in enumerate(whole_lines(path), start=1):
            try:
                record = json.loads(line)
                sound = is_record(record, number) and record["valid"].keys() == (records or [record])[0]["valid"].keys()
            except (ValueError, RecursionError):
                sound = False
            if not sound:
                said = f"not what training writes of an epoch ({line[:60]!r})"
                raise InputError(f"{path} line {number}: {said}; bring the file back or train anew")
            records.append(record)
        return records

    def valid(self) -> dict:
        """The validation metrics of the whole model, or of a network's epoch that was kept; {} where there are none."""
        path = self.folder / VALID
        for one in (path, self.folder / HISTORY):
            manifest.require_whole(one, "the run still predicts; train it anew to know how it was trained")
        if path.exists():
            found = read_json(path)
            if not all(value is None or is_number(value) for value in found.values()):
                raise InputError(f"{path}: not the metrics of split valid")
            return found
        history = self.history()
        best = history[-1]["best_epoch"] if history else 0
        return history[best - 1]["valid"] if best else {}

    def write_history(self, records: list[dict]) -> None:
        with written_beside(self.folder / HISTORY) as partial:
            partial.write_text("".join(json.dumps(without_nan(record)) + "\n" for record in records), encoding="utf-8")

    def record_scalars(self, epoch: int, scalars: dict[str, float]) -> None:
        """To TensorBoard; a resumed run hides what was recorded from this epoch on."""
        if self._events is None:
            from engine.events import Events

            self._events = Events(self.folder, epoch)
        self._events.record(epoch, scalars)


def is_record(record: object, number: int) -> bool:
    """Whether it is what is written of epoch `number`; of what a library fits there are no seconds."""
    if not isinstance(record, dict) or not isinstance(record.get("valid"), dict):
        return False
    whole = [record.get(name) for name in ("epoch", "best_epoch")]
    numbers = [record.get(name, 0) for name in ("train_loss", "score", "seconds")]
    return (
        all(type(one) is int for one in whole)
        and whole[0] == number
        and 0 <= whole[1] <= number
        and all(one is None or is_number(one) for one in (*numbers, *record["valid"].values()))
    )


def is_number(value: object) -> bool:
    return type(value) in (int, float) and abs(value) < float("inf")


def members_in(folder: Path) -> tuple[tuple[Path, float], ...]:
    """The folder and the weight of each member of the blend in `folder`; InputError where its file does not say so."""
    path = folder / WEIGHTS
    if not path.exists():
        return ()
    found = read_json(path).get("members")
    sound = isinstance(found, list) and bool(found)
    for one in found if sound else []:
        run_of, weight = (one.get("run"), one.get("weight")) if isinstance(one, dict) else (None, None)
        sound &= isinstance(run_of, str) and type(weight) in (int, float) and 0 <= weight <= 1
        sound &= isinstance(run_of, str) and (folder / run_of).resolve().is_relative_to(folder.resolve())
    if not sound:
        raise InputError(f"{path}: not the weights of a blend")
    return tuple((folder / one["run"], float(one["weight"])) for one in found)


def without_backend(neighbours: object) -> object:
    """What a run says of its neighbours but for what searched them: the same are found on every machine."""
    if not isinstance(neighbours, dict):
        return neighbours
    return {name: value for name, value in neighbours.items() if name != "backend"}


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def environment() -> dict:
    """What else it takes to repeat a run: versions, machine, commit."""
    import torch

    root = Path(__file__).resolve().parent.parent
    try:
        git = ["git", "-C", str(root), "describe", "--always", "--abbrev=40", "--dirty"]
        commit = subprocess.run(git, capture_output=True, text=True, timeout=10, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        commit = "unknown (no git checkout)"
    return {
        "versions": {"python": platform.python_version()}
        | {package: version for package in PACKAGES if (version := _version(package))},
        "commit": commit,
        "threads": torch.get_num_threads(),
        "processor": platform.processor() or platform.machine(),
        "cuda": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    }
