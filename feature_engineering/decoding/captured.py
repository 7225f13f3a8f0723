"""captured.jsonl: of each video, how many of its F frames are real, and what was wrong with the file."""

from __future__ import annotations

import json
from pathlib import Path

from common.console import InputError
from common.files import whole_lines, written_beside

CAPTURED = "captured.jsonl"


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
    except (ValueError, KeyError, TypeError, AttributeError):
        raise InputError(f"{path}: not the list of captured videos (edited?); --overwrite begins anew") from None
    return captured
