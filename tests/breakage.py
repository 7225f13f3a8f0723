"""Kills, power cuts and other processes: an end before each file that is put in place, what is on the disk at each
moment where only what was synced counts, and who holds a folder's lock."""

from __future__ import annotations

import contextlib
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from conftest import ROOT

import common.files

Files = dict[str, bytes]  # path within the recorded folder -> content


class Disk:
    """Content counts as it was at the last fsync of its file, and nothing of a file that was never synced.

    states: what the disk may hold after each fsync and each rename, without what repeats: with the names as they were
    at the last fsync of their folder, and with the names of the moment, as a system is free to write these earlier.
    """

    def __init__(self, root: Path):
        self.root = root
        self.content: dict[int, bytes] = {}  # inode -> what is synced of it
        self.names: dict[Path, dict[str, int]] = {}  # folder -> its names as they are synced, and their inodes
        self.states: list[Files] = []
        for folder in [root, *(path for path in root.rglob("*") if path.is_dir())]:  # what was there is on the disk
            self.names[folder] = inodes(folder)
            for name in self.names[folder]:
                if (folder / name).is_file():
                    self.content[self.names[folder][name]] = (folder / name).read_bytes()

    def synced(self, file: int) -> None:
        path, found = Path(f"/proc/self/fd/{file}").readlink(), os.fstat(file)
        if stat.S_ISDIR(found.st_mode):
            self.names[path] = inodes(path)
        else:
            self.content[found.st_ino] = path.read_bytes()
        self.look()

    def look(self) -> None:
        late = {folder: inodes(folder) for folder in [self.root, *self.root.rglob("*")] if folder.is_dir()}
        for names in (self.names, late):
            state: Files = {}
            self._collect(self.root, names, state)
            if state not in self.states:
                self.states.append(state)

    def _collect(self, folder: Path, names: dict[Path, dict[str, int]], state: Files) -> None:
        for name, inode in names.get(folder, {}).items():
            if folder / name in names:
                self._collect(folder / name, names, state)
            else:
                state[(folder / name).relative_to(self.root).as_posix()] = self.content.get(inode, b"")


def inodes(folder: Path) -> dict[str, int]:
    return {entry.name: entry.inode() for entry in os.scandir(folder)}


@contextlib.contextmanager
def recorded(root: Path, monkeypatch) -> Iterator[Disk]:
    """Record what the block syncs and renames in `root`."""
    disk, fsync, replace = Disk(root), os.fsync, Path.replace

    def watched_fsync(file) -> None:
        fsync(file)
        if Path(f"/proc/self/fd/{file}").readlink().is_relative_to(root):
            disk.synced(file)

    def watched_replace(self, target):
        done = replace(self, target)
        disk.look()
        return done

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", watched_fsync)
        patch.setattr(Path, "replace", watched_replace)
        yield disk


def restore(state: Files, folder: Path) -> Path:
    """The disk in this state, in a folder of its own."""
    for name, content in state.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


class Killed(BaseException):
    """In place of SIGKILL: nobody catches it."""


def stopped_at(monkeypatch, number: int, main) -> bool:
    """Whether `main` was ended when it was about to put its file number `number` in place."""
    count, put = [0], common.files.put_in_place

    def some(partial, path):
        count[0] += 1
        if count[0] == number:
            raise Killed
        put(partial, path)

    with monkeypatch.context() as patch:
        patch.setattr(common.files, "put_in_place", some)
        try:
            main()
        except Killed:
            return True
    return False


HOLD = """
import subprocess, sys, time
from pathlib import Path
from common.lock import handed_on, locked
with locked(Path(sys.argv[1])):
    child = subprocess.Popen(["sleep", "100"], stdout=subprocess.DEVNULL, **handed_on())
    print(child.pid, flush=True)
    time.sleep(100)
"""


@contextlib.contextmanager
def holding(folder: Path) -> Iterator[tuple[subprocess.Popen, int]]:
    """Another process that holds the lock of a folder, and the id of one that it has started."""
    words = [sys.executable, "-c", HOLD, str(folder)]
    holder = subprocess.Popen(words, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    child = int(holder.stdout.readline())
    try:
        yield holder, child
    finally:
        holder.kill()
        holder.wait()
        holder.stdout.close()
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
