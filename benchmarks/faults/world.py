"""What faults are tried on: a small table with clips and encoders, and every script on it, once undisturbed."""

from __future__ import annotations

import random
import shutil
from dataclasses import dataclass
from pathlib import Path

from benchmarks.faults.judging import Content, content, of_ended
from benchmarks.faults.raw import write_raw
from benchmarks.faults.running import Ended, Running
from common.console import InputError
from common.files import read_json, write_json

IN = ("--dataset_path", "data", "--dataset_id", "w")
FEW = ("--num_of_retrieved_items", "5")
NETWORK = ("--epochs", "4", "--feature_dim", "8", "--device", "cpu", *FEW)


@dataclass(frozen=True)
class Stage:
    """A command on what the ones before it have left; reads: of the raw folder, as patterns.

    trains: it makes a run in this folder. resumes: --resume goes on with that run, and may not refuse it; what a
    library fits in one go it refuses.
    """

    name: str
    words: tuple[str, ...]
    reads: tuple[str, ...] = ()
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

    def place(self, stage: Stage, name: str) -> Path:
        """A copy of what a stage finds."""
        place = self.folder / name
        shutil.rmtree(place, ignore_errors=True)
        shutil.copytree(self.before(stage), place, symlinks=True)
        return place


def stages(raw: Path) -> list[Stage]:
    def encoding(what: str, encoder: str, *more: str, of: tuple[str, ...] = IN) -> tuple[str, ...]:
        return (f"feature_engineering/{what}.py", *of, *more, *(("--encoder", str(raw / encoder)) if encoder else ()))

    vit, bert, wave, blip = (f"encoders/{name}" for name in ("vit", "bert", "wave", "blip"))
    table = ("--table", str(raw / "items.csv"), "--text_column", "title", "--count_column", "views")
    known = ("--user_column", "creator", "--metadata_columns", "tag")
    clips = ("--videos", str(raw / "videos"), "--workers", "1")
    frames = (*clips, "--frame_num", "2")
    newcomers = ("--videos", str(raw / "new"), "--workers", "1")
    pictures = ("--table", str(raw / "pictures.npz"), "--frame_num", "2")
    new, microlens = str(raw / "new.csv"), "data/MicroLens-100k/preprocess.py"
    boosted = ("--model_id", "RetrievalBoost", "--trees", "20")
    train, run = ("train.py", *IN, "--save"), ("--model_path", "{mmra}", "--device", "cpu")
    sources = ("--source", "retrieval", "textual", "audio")
    searched = (*IN, "--device", "cpu", "--model_id", "SVR", "--trials", "2", "--seeds", "1", "--save", "tuned")
    compared = (*IN, "--device", "cpu", "--methods", "SVR", "--reference", "SVR", "--seeds", "1", "--save", "compared")
    return [
        Stage("NUS", ("data/NUS/preprocess.py", *IN[:2], "--raw", str(raw / "nus")), ("nus/*",)),
        Stage("MicroLens", (microlens, *IN[:2], "--raw", str(raw / "microlens")), ("microlens/*",)),
        Stage("match", encoding("match_image_feature_to_video_item", "", *pictures, of=IN[:2]), ("pictures.npz",)),
        Stage("pickles", ("data/import_pickles.py", "--raw", str(raw / "pickles"), *IN[:3], "p"), ("pickles/*",)),
        Stage("import", ("data/import_features.py", *IN, *table, *known), ("items.csv",)),
        Stage("pictures", encoding("video_frame_capture", "", *frames), ("videos/*",)),
        Stage("captions", encoding("captioning", blip, *frames), ("videos/*", f"{blip}/*")),
        Stage("visual", encoding("visual_engineering", vit, *frames), ("videos/*", f"{vit}/*")),
        Stage("audio", encoding("audio_engineering", wave, *clips), ("videos/*", f"{wave}/*")),
        Stage("textual", encoding("textual_engineering", bert, "--normalise", "standard+l2"), (f"{bert}/*",)),
        Stage("retrieval", encoding("retrieval_engineering", bert, "--source", "text:1+visual:0.5"), (f"{bert}/*",)),
        Stage("retriever", ("retriever.py", *IN, "--num_of_retrieved_items", "8", *sources)),
        Stage("MMRA", (*train, "runs/mmra", *NETWORK), (), "mmra", resumes=True),
        Stage("LARK", (*train, "runs/lark", *NETWORK, "--model_id", "LARK"), (), "lark", resumes=True),
        Stage("RetrievalBoost", (*train, "runs/boost", *boosted, *FEW), (), "boost"),
        Stage("SVR", (*train, "runs/svr", "--model_id", "SVR"), (), "svr"),
        Stage("test", ("test.py", *run)),
        Stage("newcomers", ("test.py", *run, "--table", new, *newcomers, "--output", "out"), ("new.csv", "new/*")),
        Stage("compare", ("baselines/compare.py", *compared)),
        Stage("tune", ("baselines/tune.py", *searched)),
        Stage("append", ("data/import_features.py", *IN, "--append", new, *newcomers), ("new.csv", "new/*")),
    ]  # fmt: skip


def drawn(rng: random.Random, world: World, found: list[Stage]) -> Stage:
    """One of the stages; one that takes longer comes less often, so that a campaign tries more in its time."""
    return rng.choices(found, [1 / max(1.0, world.seconds[stage.name]) for stage in found])[0]


def words_in(stage: Stage, place: Path) -> list[str]:
    """Its command, the run's folder in it."""
    runs = sorted((place / "runs/mmra").glob("*/config.json"))
    return [word.replace("{mmra}", str(runs[-1].parent.relative_to(place))) if runs else word for word in stage.words]


def build(folder: Path) -> World:
    """The world in `folder`, or the one that an earlier call left there; InputError where a stage fails undisturbed."""
    raw, known = folder / "raw", folder / "world.json"
    if not known.exists():
        shutil.rmtree(folder, ignore_errors=True)
        write_raw(raw)
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
        found.append(after)
        shutil.rmtree(place)
    if found:
        free = {name: sorted(_differing(found[0][name], found[1][name])) for name in found[0]}
        write_json(known, {"seconds": seconds, "after": found[0], "free": free})
    said = read_json(known)
    return World(folder, said["seconds"], said["after"], {name: set(leaves) for name, leaves in said["free"].items()})


def _differing(one: Content, other: Content) -> set[str]:
    return {leaf for leaf in one.keys() | other.keys() if one.get(leaf) != other.get(leaf)}


def said(ended: Ended) -> str:
    """How a command ended, in a line."""
    errors = [line for line in ended.stderr.splitlines() if line.strip()]
    return f"exit {ended.code}{' (killed)' * ended.killed}: {errors[-1][:300] if errors else ''}"
