"""A data set's place on the command line, and what is missing there."""

from __future__ import annotations

import argparse
import contextlib
import functools
import os
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from common.console import InputError
from common.lock import locked
from dataloader.description import FILE

AGAIN = " --overwrite and the settings that dataset.json has of it"  # flags of the command for damaged features


@dataclass(frozen=True)
class Lacks:
    """What is missing: "data set", "features" (of that name), "neighbours" or "run"; flags: of its command, besides."""

    what: str
    folder: Path  # of the data set or the run
    name: str = ""
    flags: str = ""


def add_dataset_flags(parser: argparse.ArgumentParser, default_id: str | None = "MicroLens-100k") -> None:
    """`--dataset_path` and `--dataset_id`, the published names; `default_id` None makes the id required."""
    parser.add_argument("--dataset_path", default="data", help="folder that holds the data sets")
    required = {"required": True} if default_id is None else {"default": default_id}
    parser.add_argument("--dataset_id", help="name of the data set: a folder in --dataset_path", **required)


def folder_of(dataset_path: str, dataset_id: str) -> Path:
    """`--dataset_path` and `--dataset_id` -> the data set's folder."""
    if dataset_id in ("", ".", "..") or Path(dataset_id).name != dataset_id:
        raise InputError(
            f"--dataset_id {dataset_id!r}: the name of a folder in --dataset_path is expected, without slashes"
        )
    return Path(dataset_path) / dataset_id


def one_writer(main: Callable[[argparse.Namespace], None]) -> Callable[[argparse.Namespace], None]:
    """The `main` of a command line that writes into the data set of its flags, alone while it runs."""

    @functools.wraps(main)
    def alone(args: argparse.Namespace) -> None:
        folder = folder_of(args.dataset_path, args.dataset_id)
        there = (folder / FILE).is_file() and os.access(folder, os.W_OK)  # else `main` says what is wrong
        with locked(folder) if there else contextlib.nullcontext():
            main(args)

    return alone


def place(folder: Path) -> str:
    """The two flags that name the data set in `folder`."""
    return f"--dataset_path {shlex.quote(str(folder.parent))} --dataset_id {shlex.quote(folder.name)}"
