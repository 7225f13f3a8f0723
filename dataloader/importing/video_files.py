"""Which file in the folder of the videos is whose: by its name, or as the table said; and why an item has none."""

from __future__ import annotations

import functools
import itertools
import json
import unicodedata
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from common import manifest
from common.console import InputError, listed
from common.files import read_json, written_beside

# Files with other suffixes are passed over, as a folder of videos often holds .json, .jpg and .vtt files too.
VIDEO_SUFFIXES = (
    *(".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".flv"),
    *(".wmv", ".mpg", ".mpeg", ".ts", ".3gp", ".ogv"),
)
LONGEST_NAME = 240  # bytes; file systems take names of 255 bytes, of which a suffix needs some
NAMED = "video_files.json"  # in a data set's folder: item id -> its file, relative to the folder of the videos


def write_named(folder: Path, files: dict[str, str] | None, name: str = NAMED) -> None:
    """Item id -> file, into the data set's folder; None: the names of the files are the ids."""
    if files is None:
        (folder / NAMED).unlink(missing_ok=True)
        return
    with written_beside(folder / name) as partial:
        partial.write_text(json.dumps(files, ensure_ascii=False, indent=0), encoding="utf-8")


def read_named(folder: Path) -> dict[str, str] | None:
    path = folder / NAMED
    if not path.exists():
        return None
    manifest.require_whole(path, "import the table anew")
    try:
        return {str(item): str(file) for item, file in read_json(path).items()}
    except InputError as error:
        raise InputError(f"{error}; import the table anew") from None


def composed(name: str) -> str:
    """A name in one Unicode form (NFC): macOS writes é as e and an accent, and elsewhere it is one character."""
    return unicodedata.normalize("NFC", name)


class Videos:
    """The files in the folder of the videos. InputError where there is no such folder."""

    def __init__(self, folder: Path, named: dict[str, str] | None = None):
        """named: item id -> its file in the folder; None: files are named by the ids."""
        if not folder.is_dir():
            raise InputError(f"--videos {folder}: no such folder; it should hold one video an item, <item id>.mp4")
        self.folder, self.named = folder, named
        self._of_stem: dict[str, list[Path]] = {}
        self._others: dict[str, list[Path]] = {}
        for path in sorted(folder.iterdir()) if named is None else ():
            of = self._of_stem if path.suffix.lower() in VIDEO_SUFFIXES else self._others
            of.setdefault(composed(path.stem), []).append(path)

    def of(self, item_id: str) -> tuple[Path | None, str | None]:
        """An item's file, or None and why there is none that could be opened."""
        if self.named is None:
            paths = self._of_stem.get(composed(item_id), [])
            if len(paths) > 1:
                return None, "ambiguous: " + " and ".join(path.name for path in paths)
            path, why = (paths[0], None) if paths else (None, self._instead(item_id))
        elif file := self.named.get(item_id):
            path = self.folder / file
            if not (path.exists() or path.is_symlink()):
                path = self._tree.get(composed(Path(file).as_posix()))
            why = None if path else f"missing: {file}{self._same_name(Path(file).name)}"
        else:
            return None, "missing: the table names no file of it"
        why = why or unusable(path)
        return (None, " ".join(why.split())) if why else (path, None)  # names of files may hold line ends

    def _instead(self, item_id: str) -> str:
        """Why there is no file of an item: what is there in its place."""
        if others := self._others.get(composed(item_id)):
            return f"missing: {listed(path.name for path in others)} is there, which is read as no video"
        if near := self._by_letters.get(composed(item_id).strip().casefold()):
            return f"missing: {near.name!r} is there, whose name differs in case or spaces"
        if below := self._below.get(composed(item_id)):
            return f"missing: {below} is in a subfolder, where a column of the table can name it (--video_column)"
        names = [paths[0].name for paths in itertools.islice(self._of_stem.values(), 2)]
        if not names:
            return "missing: no videos are there"
        return f"missing: {len(self._of_stem)} videos of other names are there, such as {' and '.join(names)}"

    def _same_name(self, name: str) -> str:
        found = self._below.get(composed(Path(name).stem))
        return f" is not there, but {found} is" if found else " is not there"

    @functools.cached_property
    def _by_letters(self) -> dict[str, Path]:
        paths = (path for paths in self._of_stem.values() for path in paths)
        return {composed(path.stem).strip().casefold(): path for path in paths}

    @functools.cached_property
    def _tree(self) -> dict[str, Path]:
        """Files in the folder and below it, by their place in one Unicode form; looked at where one is missing."""
        return {composed(path.relative_to(self.folder).as_posix()): path for path in self._walk()}

    @functools.cached_property
    def _below(self) -> dict[str, str]:
        """Name without its suffix -> place, of the files of `_tree`."""
        return {Path(file).stem: file for file in reversed(self._tree)}

    def _walk(self) -> Iterator[Path]:
        yield from (path for path in sorted(self.folder.rglob("*")) if path.suffix.lower() in VIDEO_SUFFIXES)


def unusable(path: Path) -> str | None:
    """Why a file could not be opened, None where it can."""
    if path.is_symlink() and not path.exists():
        return "a link to nothing"
    if not path.is_file():
        return "a folder, not a file" if path.is_dir() else "not a regular file"
    return None if path.stat().st_size else "empty, 0 bytes"


def hostile_ids(item_ids: Iterable[str]) -> str | None:
    """What is wrong with those of the ids that cannot name a file, None where all can."""
    hostile = [
        item_id
        for item_id in item_ids
        if item_id.startswith(".") or set(item_id) & set("/\\\0") or len(item_id.encode()) > LONGEST_NAME
    ]
    if not hostile:
        return None
    return (
        f"{len(hostile)} item ids cannot name a file: they start with a dot, hold a slash or exceed {LONGEST_NAME} "
        f"bytes ({listed(repr(item_id[:80]) for item_id in hostile)})"
    )


def check_videos(
    folder: Path, files: dict[str, str] | None, item_ids: np.ndarray, table: Path, *, keep_frames: bool
) -> None:
    """InputError where ids are to name files and cannot, or no file is there that the table names."""
    if (files is None or keep_frames) and (problem := hostile_ids(item_ids)):
        raise InputError(f"--table {table}: {problem}; --video_column names files of other names")
    if files is not None:
        found = Videos(folder, files)
        reasons = {item: found.of(item)[1] for item in item_ids}
        if all(reasons.values()):
            shown = listed(f"{item}: {why}" for item, why in reasons.items())
            raise InputError(
                f"--table {table}, --videos {folder}: nothing for any of the {len(item_ids)} items ({shown})"
            )


def leads_away(file: str) -> bool:
    """Whether it is a whole path, of whatever system, or an address."""
    return file.startswith("/") or ":/" in file or "\0" in file
