"""What faults are tried on: a small table with clips and encoders, and every script on it, once undisturbed."""

from __future__ import annotations

import csv
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.faults.judging import Content, content, of_ended
from benchmarks.faults.running import ROOT, Ended, Running
from common.console import InputError
from common.files import read_json, write_json

ITEMS, NEW = 60, 6
SUBJECTS = ("red ball", "blue ball", "grey cat", "old dog", "long road", "small boat")
IN = ("--dataset_path", "data", "--dataset_id", "w")
FEW = ("--num_of_retrieved_items", "5")
NETWORK = ("--epochs", "4", "--feature_dim", "8", "--device", "cpu", *FEW)


@dataclass(frozen=True)
class Stage:
    """A command on what the ones before it have left; trains: it makes a run in this folder.

    resumes: --resume goes on with that run, and may not refuse it; what a library fits in one go it refuses.
    """

    name: str
    words: tuple[str, ...]
    trains: str = ""
    resumes: bool = False


@dataclass
class World:
    """before/<stage>/: what a stage finds. after: what it leaves; free: leaves of it that no two runs share."""

    folder: Path
    seconds: dict[str, float]
    after: dict[str, Content]
    free: dict[str, set[str]]

    def before(self, stage: Stage) -> Path:
        return self.folder / "before" / stage.name

    def place(self, stage: Stage | None, name: str) -> Path:
        """A copy of what a stage finds, or with None of what the last one left."""
        place = self.folder / name
        shutil.rmtree(place, ignore_errors=True)
        shutil.copytree(self.before(stage) if stage else self.folder / "before" / "end", place, symlinks=True)
        return place


def stages(raw: Path) -> list[Stage]:
    script, encoders = "feature_engineering/{}_engineering.py".format, raw / "encoders"
    bert, train = str(encoders / "bert"), ("train.py", *IN, "--save")
    table = (
        "--text_column",
        "title",
        "--count_column",
        "views",
        "--user_column",
        "creator",
        "--metadata_columns",
        "tag",
    )
    videos = ("--videos", str(raw / "videos"), "--frame_num", "2", "--workers", "1")
    newcomers = ("--videos", str(raw / "new"), "--workers", "1")
    run = ("--model_path", "{mmra}", "--device", "cpu")
    return [
        Stage("import", ("data/import_features.py", "--table", str(raw / "items.csv"), *IN, *table)),
        Stage("visual", (script("visual"), *IN, *videos, "--encoder", str(encoders / "vit"))),
        Stage("textual", (script("textual"), *IN, "--encoder", bert, "--normalise", "standard+l2")),
        Stage("retrieval", (script("retrieval"), *IN, "--source", "text:1+visual:0.5", "--encoder", bert)),
        Stage("retriever", ("retriever.py", *IN, "--num_of_retrieved_items", "8", "--source", "retrieval", "textual")),
        Stage("MMRA", (*train, "runs/mmra", *NETWORK), "mmra", resumes=True),
        Stage("LARK", (*train, "runs/lark", *NETWORK, "--model_id", "LARK"), "lark", resumes=True),
        Stage("RetrievalBoost", (*train, "runs/boost", "--model_id", "RetrievalBoost", "--trees", "20", *FEW), "boost"),
        Stage("SVR", (*train, "runs/svr", "--model_id", "SVR"), "svr"),
        Stage("test", ("test.py", *run)),
        Stage("newcomers", ("test.py", *run, "--table", str(raw / "new.csv"), *newcomers, "--output", "out")),
        Stage("append", ("data/import_features.py", *IN, "--append", str(raw / "new.csv"), *newcomers)),
    ]  # fmt: skip


def words_in(stage: Stage, place: Path) -> list[str]:
    """Its command, the run's folder in it."""
    runs = sorted((place / "runs/mmra").glob("*/config.json"))
    return [word.replace("{mmra}", str(runs[-1].parent.relative_to(place))) if runs else word for word in stage.words]


def build(folder: Path) -> World:
    """The world in `folder`, or the one that an earlier call left there; InputError where a stage fails undisturbed."""
    raw, known = folder / "raw", folder / "world.json"
    if not known.exists():
        shutil.rmtree(folder, ignore_errors=True)
        _write_raw(raw)
    seconds, found = read_json(known)["seconds"] if known.exists() else {}, []
    for turn in () if known.exists() else ("once", "twice"):
        after, place = {}, folder / turn
        place.mkdir()
        for stage in stages(raw):
            if turn == "once":
                shutil.copytree(place, folder / "before" / stage.name)
            ended = Running(words_in(stage, place), place, folder / "said").end()
            if of_ended(ended) or ended.code:
                raise InputError(f"{stage.name} ends with {ended.code}, undisturbed: {ended.stderr[-500:]}")
            after[stage.name], seconds[stage.name] = content(place), ended.seconds
        if turn == "once":
            shutil.copytree(place, folder / "before" / "end")
        found.append(after)
        shutil.rmtree(place)
    if found:
        free = {name: sorted(_differing(found[0][name], found[1][name])) for name in found[0]}
        write_json(known, {"seconds": seconds, "after": found[0], "free": free})
    said = read_json(known)
    return World(folder, said["seconds"], said["after"], {name: set(leaves) for name, leaves in said["free"].items()})


def _differing(one: Content, other: Content) -> set[str]:
    return {leaf for leaf in one.keys() | other.keys() if one.get(leaf) != other.get(leaf)}


def _write_raw(raw: Path) -> None:
    """In a process of its own: encoders are computed, and what has computed cannot be forked."""
    import os

    if not (pid := os.fork()):
        try:
            _draw(raw)
            os._exit(0)
        finally:
            os._exit(1)
    if os.waitpid(pid, 0)[1]:
        raise InputError(f"{raw}: could not be made")


def _draw(raw: Path) -> None:
    import importlib.util

    import av

    rng = np.random.default_rng(0)
    for name, ids in (("videos", range(ITEMS)), ("new", range(ITEMS, ITEMS + NEW))):
        (raw / name).mkdir(parents=True)
        for number in ids:
            with av.open(str(raw / name / f"v{number}.mp4"), "w") as out:
                stream = out.add_stream("libx264", rate=5)
                stream.width, stream.height, stream.pix_fmt = 32, 32, "yuv420p"
                for _ in range(3):
                    frame = rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)
                    out.mux(stream.encode(av.VideoFrame.from_ndarray(frame, "rgb24")))
                out.mux(stream.encode())
        table = "items" if name == "videos" else "new"
        with (raw / f"{table}.csv").open("w", newline="") as file:
            rows = [[f"v{i}", f"{SUBJECTS[i % 6]} {i % 5}", f"t{i % 3}", f"c{i % 9}", 10 + i * 37 % 101] for i in ids]
            csv.writer(file).writerows([["item_id", "title", "tag", "creator", "views"], *rows])
    spec = importlib.util.spec_from_file_location("small_encoders", ROOT / "data/demo/small_encoders.py")
    encoders = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(encoders)
    encoders.write_image_encoder(raw / "encoders/vit", 0)
    encoders.write_text_encoder(raw / "encoders/bert", [f"{subject} {i}" for subject in SUBJECTS for i in range(5)], 0)


def said(ended: Ended) -> str:
    """How a command ended, in a line."""
    errors = [line for line in ended.stderr.splitlines() if line.strip()]
    return f"exit {ended.code}{' (killed)' * ended.killed}: {errors[-1][:300] if errors else ''}"
