"""captions.jsonl of a data set: an item a line, with the captions of its frames."""

from __future__ import annotations

import json
from pathlib import Path

from common import manifest
from common.console import InputError
from common.files import written_beside
from common.room import naming

CAPTIONS = "captions.jsonl"


def write_captions(path: Path, captions: dict[str, list[str]], encoder: dict) -> None:
    """item id -> its F captions; the first line says what made them."""
    with written_beside(path) as partial, partial.open("w", encoding="utf-8") as file:
        for line in (encoder, *({"item_id": item_id, "captions": texts} for item_id, texts in captions.items())):
            file.write(json.dumps(line, ensure_ascii=False) + "\n")


def captioned_by(path: Path) -> dict:
    """What made the captions, and how; InputError where the file does not say."""
    try:
        with naming(path), path.open("rb") as file:
            said = json.loads(file.readline().decode("utf-8"))["encoder"]
        if isinstance(said["name"], str):
            return said
    except (FileNotFoundError, ValueError, KeyError, TypeError, RecursionError):
        pass
    raise InputError(f"{path}: does not say what made the captions")


def read_captions(path: Path) -> dict[str, list[str]]:
    """Item id -> captions; empty where there is no such file."""
    captions: dict[str, list[str]] = {}
    if not path.exists():
        return captions
    with naming(path), path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            try:
                content = json.loads(line.decode("utf-8"))
                if "encoder" not in content:
                    captions[content["item_id"]] = [str(text) for text in content["captions"]]
            except (ValueError, KeyError, TypeError, RecursionError) as error:
                raise InputError(
                    f'{path} line {number}: expected {{"item_id": ..., "captions": [...]}} ({error}); make it anew '
                    "with feature_engineering/captioning.py --overwrite"
                ) from None
    manifest.require_whole(path, "make it anew with feature_engineering/captioning.py --overwrite")
    return captions
