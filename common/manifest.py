"""A folder's manifest: the digest of each file that is put in place there, so that damage is told when a file is read.

A line is added, and is on the disk, before its file is put in place: a kill between the two leaves the file of before,
whose line is there too. So a file is whole where it has the digest of any line of its name. A folder without a
manifest, as earlier versions left them, is not checked. Arrays (.npy) are not in it: they are large and filled in
place, and dataset.json and the progress of a job hold digests of their values.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Collection
from pathlib import Path

from common.console import InputError
from common.room import naming

FILE = "manifest.jsonl"
BLOCK_BYTES = 1 << 20


def begin(folder: Path) -> None:
    """From now on what is put in place in this folder is noted."""
    (folder / FILE).touch()


def note(path: Path, content: Path) -> None:
    """`content`, which is complete, is about to become `path`; nothing is noted in a folder that has no manifest."""
    manifest = path.parent / FILE
    if path.suffix == ".npy" or not manifest.exists():
        return
    line = {"file": path.name, "bytes": content.stat().st_size, "sha256": sha256_of(content)}
    with naming(manifest), manifest.open("a+b", buffering=0) as file:
        torn = file.tell() and file.seek(-1, os.SEEK_END) is not None and file.read() != b"\n"  # by a kill
        file.write(b"\n" * bool(torn) + json.dumps(line).encode() + b"\n")
        os.fsync(file.fileno())


def sha256_of(path: Path) -> str:
    sha = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(BLOCK_BYTES):
            sha.update(block)
    return sha.hexdigest()


def damaged(folder: Path, passed_over: Collection[str] = ()) -> list[str]:
    """Names of the files that are not as they were put in place; those that are gone are not among them."""
    names = [name for name in noted(folder) if name not in passed_over and (folder / name).is_file()]
    return [name for name in names if not is_whole(folder / name)]


def is_whole(path: Path) -> bool:
    """Whether a file has the bytes that were put in place, as far as that was noted; also where there is none."""
    try:
        found = sha256_of(path)
    except FileNotFoundError:
        return True
    known = noted(path.parent).get(path.name)  # after the file: its line is there before it is
    return known is None or found in known


def require_whole(path: Path, remedy: str) -> None:
    """InputError where `path` is damaged; remedy: what can still be done, as the end of a sentence."""
    if not is_whole(path):
        raise InputError(f"{path}: {said_of_damage(remedy)}")


def said_of_damage(remedy: str) -> str:
    return f"damaged or changed by hand: its bytes are not those that were written, by {FILE} beside it; {remedy}"


def noted(folder: Path) -> dict[str, set[str]]:
    """File name -> the digests that it was put in place with; lines that are damaged themselves do not count."""
    found: dict[str, set[str]] = {}
    try:
        lines = (folder / FILE).read_bytes().split(b"\n")
    except FileNotFoundError:
        return found
    for line in lines:
        try:
            one = json.loads(line)
            found.setdefault(str(one["file"]), set()).add(str(one["sha256"]))
        except (ValueError, KeyError, TypeError, RecursionError):
            continue
    return found
