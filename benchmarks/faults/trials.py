"""The disturbances, one trial each: what was done, and what came of it."""

from __future__ import annotations

import io
import os
import pickle
import random
import re
import shutil
import subprocess
import time
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from benchmarks.faults.judging import content, differences, misses_cells, named, of_ended
from benchmarks.faults.running import Ended, Running
from benchmarks.faults.world import Stage, World, drawn, said, stages, words_in

MARK = "code-was-run"  # a file that code in a hostile pickle would leave


@dataclass(frozen=True)
class Outcome:
    """kind of the trial; outcome: of those that are counted; told: what was done, and how it ended."""

    kind: str
    outcome: str
    told: str


class NotPossible(Exception):
    """This machine does not allow it."""


# ---- kills ---------------------------------------------------------------------------------------------------------


def kill(world: World, rng: random.Random, files: Path) -> Outcome:
    """A command killed at a random moment, once or twice, and typed again: the content that nothing disturbed has."""
    stage = drawn(rng, world, stages(world.folder / "raw"))
    place, told = world.place(stage, "trial"), f"kill {stage.name}"
    for _ in range(rng.choice((1, 1, 2))):
        moment = rng.uniform(0, 1.05 * world.seconds[stage.name])
        ended = Running(again(stage, place), place, files).kill_after(moment)
        told += f" at {moment:.2f} s"
        if wrong := of_ended(ended):
            return Outcome("kill", wrong, f"{told}: {said(ended)}")
    return finished("kill", world, stage, place, files, told)


def again(stage: Stage, place: Path) -> list[str]:
    """The command to be typed after one that did not end: of training, which names its folder anew, --resume."""
    runs = sorted((place / f"runs/{stage.trains}").glob("*/config.json")) if stage.trains else []
    if not runs:
        if stage.trains:
            shutil.rmtree(place / f"runs/{stage.trains}", ignore_errors=True)
        return words_in(stage, place)
    return ["train.py", "--resume", str(runs[-1].parent.relative_to(place)), "--device", "cpu"]


def finished(kind: str, world: World, stage: Stage, place: Path, files: Path, told: str) -> Outcome:
    """Type the command again until it ends, and compare what is there then."""
    ended = Running(again(stage, place), place, files).end()
    if ended.code == 2 and stage.trains and not stage.resumes:  # it says that it cannot go on, and is trained anew
        if wrong := of_ended(ended):
            return Outcome(kind, wrong, f"{told}: {said(ended)}")
        told += f"; {said(ended)}; anew"
        shutil.rmtree(place / f"runs/{stage.trains}")
        ended = Running(words_in(stage, place), place, files).end()
    if wrong := of_ended(ended) or ("odd end" if ended.code else None):
        return Outcome(kind, wrong, f"{told}: {said(ended)}")
    if other := differences(content(place), world.after[stage.name], world.free[stage.name]):
        return Outcome(kind, "silently different", f"{told}: {', '.join(other[:4])}")
    return Outcome(kind, "same content", told)


# ---- damage --------------------------------------------------------------------------------------------------------


def damaged(raw: bytes, rng: random.Random) -> tuple[str, bytes]:
    """What was done to the bytes of a file, and what they are then."""
    n, how = max(1, len(raw)), rng.choice(sorted(DAMAGES))
    return how, DAMAGES[how](raw, n, rng)


def _flip(raw: bytes, n: int, rng: random.Random) -> bytes:
    place = rng.randrange(n)
    return raw[:place] + bytes([(raw[place] if raw else 0) ^ (1 << rng.randrange(8))]) + raw[place + 1 :]


def _noise(raw: bytes, n: int, rng: random.Random) -> bytes:
    place = rng.randrange(n)
    return raw[:place] + rng.randbytes(min(64, n - place)) + raw[place + 64 :]


def _swap(raw: bytes, n: int, rng: random.Random) -> bytes:
    half = n // 2
    return raw[half:] + raw[:half]


DAMAGES: dict[str, Callable[[bytes, int, random.Random], bytes]] = {
    "a bit flipped": _flip,
    "noise in it": _noise,
    "its halves swapped": _swap,
    "cut short": lambda raw, n, rng: raw[: rng.randrange(n)],
    "its second half zeros": lambda raw, n, rng: raw[: n // 2] + bytes(n - n // 2),
    "empty": lambda raw, n, rng: b"",
    "twice": lambda raw, n, rng: raw + raw,
    "other bytes": lambda raw, n, rng: rng.randbytes(rng.randrange(1, 2000)),
    "deep JSON": lambda raw, n, rng: b"[" * 100_000,
    "odd JSON": lambda raw, n, rng: rng.choice((b"{}", b"[1]", b"null", b'{"a": 1e999}', b'"\\ud800"', b"1" * 5000)),
}


def last(world: World) -> Stage:
    """Before it, everything is there, and the results are of the data set as it is."""
    return stages(world.folder / "raw")[-1]


def damage(world: World, rng: random.Random, files: Path) -> Outcome:
    """A file of a data set or of a run, damaged, and a command that reads it: refused, or nothing has changed."""
    place = world.place(last(world), "trial")
    kinds: dict[str, list[Path]] = {}  # frames of videos are one kind, and so are the parts of an ensemble
    for path in sorted(place.rglob("*")):
        if path.is_file() and not path.name.startswith("events.out"):
            kinds.setdefault(re.sub(r"\d+", "", str(path.relative_to(place))), []).append(path)
    path = rng.choice(rng.choice(list(kinds.values())))
    name = path.relative_to(place)
    how, raw = damaged(path.read_bytes(), rng)
    path.write_bytes(raw)
    return read_by_a_command("damage", world, rng, place, name, how, files)


def hostile(world: World, rng: random.Random, files: Path) -> Outcome:
    """A file replaced by a pickle that would run code."""
    place = world.place(last(world), "trial")
    path = rng.choice(
        [p for p in sorted(place.rglob("*")) if p.suffix in (".pt", ".npy", ".npz", ".safetensors", ".json")]
    )
    mark = place / MARK

    how, raw = pickled(rng, mark)
    path.write_bytes(raw)
    outcome = read_by_a_command("hostile", world, rng, place, path.relative_to(place), how, files)
    return Outcome("hostile", "code run", outcome.told) if mark.exists() else outcome


def pickled(rng: random.Random, mark: Path) -> tuple[str, bytes]:
    """What would leave a mark if it were unpickled, and as what it is written."""

    class Hostile:
        def __reduce__(self):
            return os.mkdir, (str(mark),)

    how, buffer = rng.choice(("a pickle", "a pickle of torch", "an archive of pickles")), io.BytesIO()
    if how == "a pickle":
        pickle.dump(Hostile(), buffer)
    elif how == "a pickle of torch":
        torch.save(Hostile(), buffer)
    else:
        with zipfile.ZipFile(buffer, "w") as archive:
            for member in ("ids.npy", "similarity.npy", "meta.npy"):
                archive.writestr(member, b"\x93NUMPY\x01\x00" + pickle.dumps(Hostile()))
    return how, buffer.getvalue()


# folder -> what reads its files: a stage that is there already and is typed again, or a command on a run
READ_BY = {
    "data/NUS": ("NUS",),
    "data/MicroLens-100k": ("MicroLens", "match"),
    "data/p": ("pickles",),
    "data/w": ("test", "retriever", "boost"),
    "runs/mmra": ("test", "resume"),
    "runs/boost": ("boost",),
    "runs/svr": ("svr",),
    "runs": ("test",),
    "compared": ("compare",),
    "tuned": ("tune",),
    ".": ("test",),
}


def read_by_a_command(
    kind: str, world: World, rng: random.Random, place: Path, name: Path, how: str, files: Path
) -> Outcome:
    """The end of a command that reads a damaged file, and whether it left the others as they were."""
    (run,) = (place / "runs/mmra").iterdir()
    run = run.relative_to(place)
    stage = {stage.name: stage for stage in stages(world.folder / "raw")}
    boost, svr = (str(next((place / f"runs/{name}").iterdir()).relative_to(place)) for name in ("boost", "svr"))
    commands: dict[str, list[str]] = {
        "test": ["test.py", "--model_path", str(run), "--device", "cpu"],
        "resume": ["train.py", "--resume", str(run), "--device", "cpu"],
        "boost": ["test.py", "--model_path", boost],
        "svr": ["test.py", "--model_path", svr],
    }
    which = rng.choice(next(commands_of for folder, commands_of in READ_BY.items() if name.is_relative_to(folder)))
    commands |= {which: words_in(stage[which], place)} if which in stage and which not in commands else {}
    undisturbed, before = undisturbed_end(world, which, commands[which], files), content(place)
    ended = Running(commands[which], place, files).end()
    told = f"{name}: {how}, then {which}: {said(ended)}"
    if wrong := of_ended(ended):
        return Outcome(kind, wrong, told)
    if misses_cells(ended):
        return Outcome(kind, "refused", told)
    if ended.code == 2:
        changed = differences(content(place), before, set())
        return Outcome(kind, "overwritten" if changed else "refused", f"{told} {', '.join(changed[:4])}")
    # What the command wrote is what it writes undisturbed; the damaged file itself it may not have read, or made anew.
    other = differences(content(place), undisturbed, world.free["tune"])
    other = [leaf for leaf in other if leaf.split(": ")[0] != named(name)]
    return Outcome(kind, "silently different" if other else "same content", f"{told} {', '.join(other[:4])}")


def undisturbed_end(world: World, which: str, words: list[str], files: Path) -> dict[str, str]:
    """What a command leaves of what the last stage left, found once a world."""
    if f"end, {which}" not in world.after:
        place = world.place(last(world), "undisturbed")
        Running(words, place, files).end()
        world.after[f"end, {which}"] = content(place)
    return world.after[f"end, {which}"]


# ---- damaged input -------------------------------------------------------------------------------------------------


def raw_input(world: World, rng: random.Random, files: Path) -> Outcome:
    """A table, clip, release or encoder that is damaged or hostile: taken, or refused and nothing is lost by it."""
    raw = world.folder / "raw"
    stage = drawn(rng, world, [stage for stage in stages(raw) if stage.reads])
    path = rng.choice(sorted(path for pattern in stage.reads for path in raw.glob(pattern) if path.is_file()))
    place, whole = world.place(stage, "trial"), path.read_bytes()
    how, broken = pickled(rng, place / MARK) if rng.random() < 0.2 else damaged(whole, rng)
    told = f"{path.relative_to(raw)}: {how}, then {stage.name}"
    try:
        path.write_bytes(broken)
        ended = Running(words_in(stage, place), place, files).end()
    finally:
        path.write_bytes(whole)
    told += f": {said(ended)}"
    if wrong := "code run" if (place / MARK).exists() else of_ended(ended):
        return Outcome("input", wrong, told)
    if ended.code == 0:
        return Outcome("input", "taken", told)
    return finished("input", world, stage, place, files, told)


# ---- two at once -----------------------------------------------------------------------------------------------------


def race(world: World, rng: random.Random, files: Path) -> Outcome:
    """The same command twice, some moments apart: one may be refused, and the content is that of one."""
    stage = drawn(rng, world, stages(world.folder / "raw"))
    place, told = world.place(stage, "trial"), f"race of {stage.name}"
    if stage.trains:  # two commands that train anew make two runs, which is right: two that go on with one are tried
        Running(words_in(stage, place), place, files).kill_after(rng.uniform(0.3, 1) * world.seconds[stage.name])
        if "--resume" not in again(stage, place):
            return finished("race", world, stage, place, files, f"{told}, killed before there was a run")
    first = Running(again(stage, place), place, files.with_name("first"))
    time.sleep(rng.choice((0.0, 0.05, 0.1, 0.3, 1.0)) * rng.random())
    second = Running(again(stage, place), place, files.with_name("second"))
    ends: list[Ended] = [first.end(), second.end()]
    told += f": {'; '.join(map(said, ends))}"
    for ended in ends:
        if wrong := of_ended(ended):
            return Outcome("race", wrong, told)
    return finished("race", world, stage, place, files, told)


# ---- a full disk ----------------------------------------------------------------------------------------------------


def full(world: World, rng: random.Random, files: Path) -> Outcome:
    """A command on a file system with little room; then there is room, and it is typed again."""
    stage = drawn(rng, world, stages(world.folder / "raw"))
    source, place = world.before(stage), world.folder / "full"
    place.mkdir(exist_ok=True)
    used = sum(-(-p.stat().st_size // 4096) * 4096 for p in source.rglob("*")) + 4096 * 8
    room = rng.choice((0, 4, 16, 64, 128, 256, 512, 1024)) * 1024
    options = f"size={used + room}"
    if subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(place)], capture_output=True).returncode:
        raise NotPossible("no file system can be mounted here")
    try:
        shutil.copytree(source, place, dirs_exist_ok=True)
        ended = Running(again(stage, place), place, files).end()
        told = f"{room // 1024} kB for {stage.name}: {said(ended)}"
        if wrong := of_ended(ended):
            return Outcome("full disk", wrong, told)
        subprocess.run(["mount", "-o", "remount,size=64m", str(place)], check=True)
        return finished("full disk", world, stage, place, files, told)
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


TRIALS: dict[str, Callable[[World, random.Random, Path], Outcome]] = {
    "kill": kill,
    "damage": damage,
    "hostile": hostile,
    "input": raw_input,
    "race": race,
    "full disk": full,
}
