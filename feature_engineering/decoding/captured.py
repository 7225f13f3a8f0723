"""What decoding says of each video: captured.jsonl, how many of its F frames are real and what was wrong with the file;
and its thumbnail, which the progress of a job keeps beside that."""

from __future__ import annotations

import base64
import json
from pathlib import Path

from common.console import InputError
from common.files import whole_lines, written_beside
from dataloader.store import FeatureStore
from dataloader.thumbnails import FILE, write_thumbnails

CAPTURED = "captured.jsonl"
JPEG = "jpeg"  # among the facts of a video, as text, until write_pictures takes it from them


def write_captured(path: Path, captured: dict[str, dict]) -> None:
    with written_beside(path) as partial:
        partial.write_text("".join(captured_line(item_id, facts) for item_id, facts in captured.items()), "utf-8")


def captured_line(item_id: str, facts: dict) -> str:
    return json.dumps({"item_id": item_id, **facts}, ensure_ascii=False) + "\n"


def read_captured(path: Path) -> dict[str, dict]:
    """Item id -> facts; a line cut short by a kill does not count."""
    captured = {}
    try:
        for line in whole_lines(path):
            facts = json.loads(line)
            captured[facts.pop("item_id")] = facts
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise InputError(f"{path}: not the list of captured videos (edited?); --overwrite begins anew") from None
    return captured


def in_text(jpeg: bytes) -> str:
    return base64.b64encode(jpeg).decode()


def write_pictures(store: FeatureStore, captured: dict[str, dict]) -> dict[str, dict]:
    """Write the thumbnails of a job that is done into the data set's folder; the facts without them.

    Those of items that are not in the data set, as their features failed later, are left out.
    """
    items = set(store.items.item_id)
    pictures = {one: facts[JPEG] for one, facts in captured.items() if one in items and JPEG in facts}
    if pictures:  # none: a progress that a version without thumbnails began
        try:
            decoded = {one: base64.b64decode(text) for one, text in pictures.items()}
        except (ValueError, TypeError):
            raise InputError(f"{store.folder}: a thumbnail in its progress is none; --overwrite begins anew") from None
        write_thumbnails(store.folder / FILE, decoded)
    return {one: {name: fact for name, fact in facts.items() if name != JPEG} for one, facts in captured.items()}
