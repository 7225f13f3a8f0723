"""A data set's place on the command line, and the command that makes what is missing there."""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path

from common.console import InputError

ARRAYS = {"visual": 3, "textual": 2, "retrieval": 2}  # name -> axes: (N, F, Dv), (N, Dt), (N, R)
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
    "retrieval": "retrieval_engineering.py",
}


def add_dataset_flags(parser: argparse.ArgumentParser, default_id: str | None = "MicroLens-100k") -> None:
    """`--dataset_path` and `--dataset_id`, the published names; `default_id` None makes the id required."""
    parser.add_argument("--dataset_path", default="data", help="folder that holds the data sets")
    required = {"required": True} if default_id is None else {"default": default_id}
    parser.add_argument("--dataset_id", help="name of the data set: a folder in --dataset_path", **required)


def dataset_folder(args: argparse.Namespace) -> Path:
    return folder_of(args.dataset_path, args.dataset_id)


def folder_of(dataset_path: str, dataset_id: str) -> Path:
    """`--dataset_path` and `--dataset_id` -> the data set's folder."""
    if dataset_id in ("", ".", "..") or Path(dataset_id).name != dataset_id:
        raise InputError(
            f"--dataset_id {dataset_id!r}: the name of a folder in --dataset_path is expected, without slashes"
        )
    return Path(dataset_path) / dataset_id


def place(folder: Path) -> str:
    """The two flags that name the data set in `folder`."""
    return f"--dataset_path {shlex.quote(str(folder.parent))} --dataset_id {shlex.quote(folder.name)}"


def maker_command(folder: Path) -> str:
    """What to type for a data set in `folder`."""
    return MAKERS.get(folder.name, DEFAULT_MAKER).format(place=place(folder))


def encoding_command(name: str, folder: Path) -> str:
    """What to type for the features `name` of the data set in `folder`."""
    return f"python feature_engineering/{ENCODERS[name]} {place(folder)}"


def next_steps(store) -> str:
    """What to type next: a line for each kind of features that `store` lacks, else the retriever."""
    commands = [encoding_command(name, store.folder) for name in ARRAYS if name not in store.arrays]
    return "\n".join(f"next: {command}" for command in commands or [f"python retriever.py {place(store.folder)}"])
