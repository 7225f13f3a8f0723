"""File names of items: `<item id>_<i>.jpg`, and which ids can be file names at all."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from common.console import InputError
from dataloader.importing.video_files import hostile_ids
from dataloader.store import FeatureStore

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")


def frame_name(item_id: str, number: int) -> str:
    return f"{item_id}_{number}.jpg"


def item_and_number(stem: str) -> tuple[str, int] | None:
    """`<item id>_<i>` -> the two; None where it is no such name."""
    item_id, _, number = stem.rpartition("_")
    return (item_id, int(number)) if item_id and number.isascii() and number.isdecimal() else None


def find_images(folder: Path, item_ids: Iterable[str]) -> dict[str, list[Path]]:
    """Item id -> its pictures in order: `<item id>_<i>.jpg`, or the one picture `<item id>.jpg`.

    Where there are items a and a_1, a_1.jpg is of the first if that has other numbered pictures, else of the second.
    """
    known, numbered, alone = set(item_ids), {}, {}
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() not in IMAGE_SUFFIXES:
            continue
        if path.stem in known:
            alone[path.stem] = path
        if (named := item_and_number(path.stem)) and named[0] in known:
            numbered.setdefault(named[0], {})[named[1]] = path
    found, taken = {}, set()
    for item_id, paths in numbered.items():
        if any(path.stem not in alone for path in paths.values()):
            found[item_id] = [paths[number] for number in sorted(paths)]
            taken |= {path.stem for path in paths.values()}
    return {item_id: [path] for item_id, path in alone.items() if item_id not in taken} | found


def refuse_hostile_ids(store: FeatureStore) -> None:
    """Item ids become file names; one that is a path would be read or written outside its folder."""
    if problem := hostile_ids(store.items.item_id):
        raise InputError(f"{store.folder / 'items.parquet'}: {problem}")
