"""What to type next. The command lines know it and add it to what a floor below them says; nobody else imports this."""

from __future__ import annotations

import common.ends  # noqa: F401 before all that takes time: from here on Ctrl-C ends in one line

import os
import shlex
from collections.abc import Callable
from pathlib import Path

from common import distributed
from common.console import STEP
from dataloader.modalities import AUDIO, RETRIEVAL
from dataloader.place import Lacks, place

MAKERS = {
    "MicroLens-100k": "python data/MicroLens-100k/preprocess.py --raw <folder of the release> {place} "
    "(or data/import_pickles.py for the published .pkl files)",
    "NUS": "python data/NUS/preprocess.py --raw <folder of the release> {place}",
    "demo": "python data/demo/run.py",
}
DEFAULT_MAKER = (
    "python data/import_features.py --table <file> {place} (or data/import_pickles.py for the published .pkl files)"
)
ENCODERS = {
    "visual": "visual_engineering.py",
    "textual": "textual_engineering.py",
    AUDIO: "audio_engineering.py",
    RETRIEVAL: "retrieval_engineering.py",
}
CAPTIONS = "captions.jsonl"


def remedy(lacks: Lacks) -> str:
    """What to type where something is missing."""
    if lacks.what == "data set":
        return f"make it with: {maker_command(lacks.folder)}"
    if lacks.what == "run":
        return "python train.py makes one"
    if lacks.what == "neighbours":
        return f"make them with: {retriever_command(lacks.folder)}{lacks.flags}"
    if lacks.name not in ENCODERS and lacks.flags:
        return f"import the whole data set anew: {maker_command(lacks.folder)} --overwrite and the flags of then"
    return f"make them with: {encoding_command(lacks.name, lacks.folder)}{videos(lacks.name)}{lacks.flags}"


def launcher() -> str:
    """What started this script, and starts it again; of several machines each has its own --node_rank."""
    if not distributed.launched():
        return "python"
    machines, processes = (os.environ[name] for name in ("GROUP_WORLD_SIZE", "LOCAL_WORLD_SIZE"))
    if machines == "1":
        return f"torchrun --nproc_per_node {processes}"
    where = {"node_rank": os.environ["GROUP_RANK"], "master_addr": os.environ["MASTER_ADDR"]}
    where |= {"master_port": os.environ["MASTER_PORT"], "nproc_per_node": processes}
    return " ".join(["torchrun", "--nnodes", machines, *(f"--{name} {value}" for name, value in where.items())])


def say_next(text: str, say: Callable[[str], None] = print) -> None:
    """What to type next, but where this command is a step of a longer one."""
    if STEP not in os.environ:
        say(text)


def maker_command(folder: Path) -> str:
    """For a data set in `folder`."""
    return MAKERS.get(folder.name, DEFAULT_MAKER).format(place=place(folder))


def encoding_command(name: str, folder: Path) -> str:
    """For the features `name` of the data set in `folder`; those that no script makes come in with its table."""
    if name not in ENCODERS:
        return f"python data/import_features.py --table <file> {place(folder)} --features {name}=<file>"
    return f"python feature_engineering/{ENCODERS[name]} {place(folder)}"


def retriever_command(folder: Path) -> str:
    return f"python retriever.py {place(folder)}"


def next_steps(store) -> str:
    """A line for what `store` lacks before a method can be trained; what else could be made of it, in a line each."""
    folder, has = store.folder, store.features
    could = [name for name in ("textual", "visual") if name not in has and (name == "visual" or store.items.has_text)]
    visual = store.description.features.get("visual")
    if visual is not None and "encoder" in visual.made and visual.shape[1] > 1 and AUDIO not in has:  # of videos
        could.append(AUDIO)
    if not store.arrays:
        made = [f"{encoding_command(name, folder)}{videos(name)}" for name in could]
        # Of texts and of metadata more can be made here and now; videos have to be there.
        if store.modalities and could == ["visual"]:
            return f"next: {training_command(store)}\nor, with videos, before it: {made[0]}"
        lines = [f"next: {made[0]}", *(f"or, and: {command}" for command in made[1:])]
        return "\n".join(
            lines + ([f"or, of the metadata alone: {training_command(store)}"] if store.modalities else [])
        )
    if RETRIEVAL not in has:
        source = "" if (folder / CAPTIONS).exists() else " --source features"
        lines = [f"next: {encoding_command(RETRIEVAL, folder)}{source}"]
    else:
        lines = [f"next: {retriever_command(folder)}"]
    lines += [f"before it, for {name} features too: {encoding_command(name, folder)}{videos(name)}" for name in could]
    return "\n".join(lines)


def videos(name: str) -> str:
    return " --videos <folder>" if name in ("visual", AUDIO) else ""


def training_command(store) -> str:
    """For a method that can take what the data set has."""
    known = {"visual", "textual"} & set(store.modalities)
    other = "Hyfea" if store.metadata is not None else "SVR"
    return f"python train.py {place(store.folder)}{'' if known else f' --model_id {other}'}"


def tuned_comparison(folder: Path, method: str, fixed: str, row: str) -> str:
    """For a method beside itself with other flags; fixed: flags that both have."""
    flags = f" --flags {shlex.quote(f'{method}: {fixed}')}" if fixed else ""
    name = row.partition("=")[0]
    return (
        f"python baselines/compare.py {place(folder)} --methods {method}{flags} --row {shlex.quote(row)} "
        f"--reference {shlex.quote(name)}"
    )
