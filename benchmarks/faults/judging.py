"""What a folder holds, leaf by leaf, and what came of a trial."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

from benchmarks.faults.running import Ended

# A trial that ends in one of these is a fault of the project.
FORBIDDEN = ("traceback", "hang", "odd end", "silently different", "overwritten", "code run")
OWN = re.compile(r"_\d{8}-\d{6}(-\d+)?")  # a run's folder has its time in its name
SKIPPED = (".lock", ".partial", ".png", ".pdf", ".txt", ".md", ".tex")  # nothing is read from them
EVENTS = "events.out.tfevents"

Content = dict[str, str]


def content(folder: Path) -> Content:
    """Leaf -> value: of a JSON file each value, of another file its digest."""
    found: Content = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        name = named(path.relative_to(folder))
        if path.name.endswith(SKIPPED) or path.name.startswith(EVENTS) or path.name == "manifest.jsonl":
            continue
        raw = path.read_bytes()
        leaves = _leaves(path, raw)
        if leaves is None:
            found[name] = hashlib.sha256(raw).hexdigest()
        else:
            found |= {f"{name}: {leaf}": value for leaf, value in leaves.items()}
    return found


def named(path: Path) -> str:
    """A file in what `content` says: without the time at which its run began."""
    return OWN.sub("", path.as_posix())


def _leaves(path: Path, raw: bytes) -> Content | None:
    if path.suffix not in (".json", ".jsonl"):
        return None
    try:
        text = OWN.sub("", raw.decode())
        lines = text.splitlines() if path.suffix == ".jsonl" else [text]
        return dict(_flat([json.loads(line) for line in lines], ""))
    except (ValueError, RecursionError):
        return None


def _flat(value, place: str):
    if isinstance(value, dict):
        for key, one in value.items():
            if key != "seconds":  # that were taken: two runs may share them by chance
                yield from _flat(one, f"{place}/{key}")
    elif isinstance(value, list):
        for number, one in enumerate(value):
            yield from _flat(one, f"{place}/{number}")
    else:
        yield place, repr(value)


def differences(found: Content, expected: Content, free: set[str]) -> list[str]:
    """Leaves that are not as expected; free: those that differ between two undisturbed runs."""
    return sorted(leaf for leaf in (found.keys() | expected.keys()) - free if found.get(leaf) != expected.get(leaf))


def misses_cells(ended: Ended) -> bool:
    """Whether it is the end of a table that has rows without a figure, of which it says why."""
    return ended.code == 1 and bool(re.search(r"^compare\.py: \d+ cells? failed: ", ended.stderr, re.MULTILINE))


def of_ended(ended: Ended) -> str | None:
    """The forbidden outcome that a command's end shows by itself."""
    if ended.code is None and not ended.killed:
        return "hang"
    if "Traceback (most recent call last)" in ended.stderr:
        return "traceback"
    if ended.code not in (0, 2, None) and not misses_cells(ended):
        return "odd end"
    errors = [line for line in ended.stderr.splitlines() if ": error: " in line]
    return "odd end" if ended.code == 2 and len(errors) != 1 else None
