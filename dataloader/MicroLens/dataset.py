"""MicroLens-100k as it is distributed: what differs from the other data sets, and the reader of the raw release.

The title file says which items there are, and in which order; popularity is the number of comments an item has.
All ids are text. Files are read as bytes, a line at a time: only \\n ends a line, as titles and comments hold other
separators.
"""

from __future__ import annotations

import re
from array import array
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from common.console import MAX_LISTED, InputError, listed
from common.room import naming
from dataloader.importing.splits import FEWEST, SplitSettings, random_split
from dataloader.items import Items

FRAME_NUM = 10  # frames captured of each video
LABELS = ("comments", "likes", "views")
TITLES = "MicroLens-100k_title_en.csv"
LIKES = "MicroLens-100k_likes_and_views.txt"
VIDEOS = "MicroLens-100k_videos"
# Where the number of comments comes from, the best first: the pairs are one comment a record, whatever was written.
COUNT_FILES = {
    "pairs": ("MicroLens-100k_pairs.csv", "MicroLens-100k_pairs.tsv"),
    "comments": ("MicroLens-100k_comment_en.txt",),
}

USER, ITEM = {"user", "userid"}, {"item", "items", "itemid", "video", "videos", "videoid"}
LIKE, VIEW = {"like", "likes"}, {"view", "views"}
HEADER_WORDS = USER | ITEM | LIKE | VIEW | {"title", "titles", "comment", "comments", "timestamp"}

QUOTED = re.compile(r'"([^"]*(?:""[^"]*)*)"')  # a whole field as CSV quotes it
NUMBER = rb"\d+(?:\.\d*)?(?:[eE]\+?\d+)?"
PAIRS = {
    "user,item,timestamp": re.compile(rb" *[^\s,]+ *, *([^\s,]+) *, *" + NUMBER + rb" *"),
    "user<TAB>item<TAB>timestamp": re.compile(rb" *[^\s,]+ *\t *([^\s,]+) *\t *" + NUMBER + rb" *"),
    "user<TAB>item item item": re.compile(rb" *[^\s,]+ *\t *([^\s,]+(?: +[^\s,]+)*) *"),
}
# What a comment's line starts with; the words come second, for releases whose ids are no numbers.
COMMENT_STARTS = (re.compile(rb"\d+\t(\d+)(?:\t|$)"), re.compile(rb"\S+\t(\S+)(?:\t|$)"))


@dataclass(frozen=True)
class RawRelease:
    """Row i of every array is item i of the title file."""

    item_id: np.ndarray  # (N,) str
    title: np.ndarray  # (N,) str
    counts: dict[str, np.ndarray]  # those of LABELS that are there: (N,) float64, NaN where unknown
    notes: list[str]  # what is to be known of the files, a line each


def read_raw(folder: Path, label: str = "comments", counts: str | None = None) -> RawRelease:
    """Read the release; InputError with all that is wrong, by file and line.

    label: the count that must be there. counts: "pairs" or "comments", where the number of comments is to come from;
    the first file there is, in the order of COUNT_FILES, where it is None.
    """
    if not folder.is_dir():
        raise InputError(f"--raw {folder}: no such folder; it should hold {TITLES}, {COUNT_FILES['pairs'][0]} ...")
    problems, notes, found = [], [], {}
    titles = _titles(folder / TITLES, problems)
    if path := _count_file(folder, label, counts, problems, notes):
        found["comments"] = _comments(path, list(titles), problems, notes)
    if (folder / LIKES).is_file():
        found |= _likes_and_views(folder / LIKES, list(titles), problems, notes)
    elif label != "comments":
        problems.append(f"{folder / LIKES}: no such file; --label {label} needs it")
    if problems:
        raise InputError("; ".join(problems))
    return RawRelease(np.array(list(titles), object), np.array(list(titles.values()), object), found, notes)


def make_items(
    raw: RawRelease, label: str, log_offset: float, splitting: SplitSettings
) -> tuple[Items, dict[str, str]]:
    """The items with the label log2(count + offset), split at random; and why the others have none, by id."""
    values = raw.counts[label]
    with np.errstate(divide="ignore"):
        target = np.log2(values + log_offset)
    kept = np.isfinite(target)
    skipped = {
        item: f"no {label} known" if np.isnan(value) else f"{value:g} {label}, and --log_offset 0: no logarithm"
        for item, value in zip(raw.item_id[~kept], values[~kept], strict=True)
    }
    if kept.sum() < FEWEST:
        why = f" ({listed(f'{item}: {reason}' for item, reason in skipped.items())})" if skipped else ""
        raise InputError(f"{kept.sum()} of {len(kept)} items have a label; three splits need at least {FEWEST}{why}")
    items = Items(
        raw.item_id[kept],
        raw.title[kept],
        values[kept, None],  # (N, 1)
        target[kept, None],  # (N, 1)
        random_split(int(kept.sum()), splitting.of, splitting.seeds),
        {name: counts[kept] for name, counts in raw.counts.items()},
    )
    return items, skipped


# ---- its files -----------------------------------------------------------------------------------


def _titles(path: Path, problems: list[str]) -> dict[str, str]:
    """`item,title`, where all behind the first comma is the title: item -> title."""
    titles, malformed, shape = {}, Malformed(path, "item,title"), None
    for number, line in _lines(path, (ITEM, None), problems):
        item, comma, title = line.partition(b",")
        item, title = item.strip(), title.strip()
        # Ids are numbers where the first one is: else the second line of a broken title could pass for an item.
        shape = shape or re.compile(rb"\d+" if item.isdigit() else rb'[^\s"]+')
        try:
            item, title = item.decode(), title.decode().strip()
        except UnicodeDecodeError:
            malformed.add(number, line, "not UTF-8")
            continue
        if not comma or not shape.fullmatch(item.encode()):
            malformed.add(number, line)
        elif item in titles:
            malformed.add(number, line, "this item a second time")
        else:
            quoted = QUOTED.fullmatch(title)
            titles[item] = quoted[1].replace('""', '"') if quoted else title
    malformed.report(problems, empty=not titles)
    return titles


def _count_file(folder: Path, label: str, counts: str | None, problems: list[str], notes: list[str]) -> Path | None:
    """The file that gives the number of comments; None where there is none."""
    names = [name for kind in ([counts] if counts else COUNT_FILES) for name in COUNT_FILES[kind]]
    others = [name for kind in COUNT_FILES for name in COUNT_FILES[kind] if (folder / name).is_file()]
    there = [name for name in names if name in others]
    if there:
        others.remove(there[0])
        notes.append(f"comments counted in {there[0]}" + (f" (also there: {', '.join(others)})" if others else ""))
        return folder / there[0]
    if counts or label == "comments":
        flag = f"--counts {counts}: " if counts else ""
        remedy = f"; there is {', '.join(others)}" if others else ""
        problems.append(f"{flag}no {' or '.join(names)} in {folder}, to count the comments in{remedy}")
    return None


def _comments(path: Path, items: list[str], problems: list[str], notes: list[str]) -> np.ndarray:
    """(N,) the number of comments of each item; those of other items are counted and said."""
    before = len(problems)
    read = _commented if path.name in COUNT_FILES["comments"] else _paired
    counted = read(path, problems, notes)
    total, example = sum(counted.values()), next(iter(counted), b"")
    counts = np.array([counted.pop(item.encode(), 0) for item in items], dtype=np.float64)
    if len(problems) == before and items and not counts.any():
        problems.append(
            f"{path}: none of its {total} comments is of an item of {TITLES} (ids like {_shown(example)} here, "
            f"like {items[0]!r} there)"
        )
    if counted:
        what = f"{sum(counted.values())} of {total} comments are of {len(counted)} items that {TITLES} does not have"
        notes.append(f"{what} ({listed(map(_text, counted))}): not counted")
    return counts


def _paired(path: Path, problems: list[str], notes: list[str]) -> Counter[bytes]:
    """Item -> its number of pairs, in whichever of the forms PAIRS the file is."""
    counted, malformed, pattern = Counter(), Malformed(path, " or ".join(PAIRS)), None
    seen = array("q")  # a hash a line: 6 MB for MicroLens-100k
    for number, line in _lines(path, (USER, ITEM), problems):
        if pattern is None:  # the first line that has one of the forms says which one the file has
            form = next((form for form in PAIRS if PAIRS[form].fullmatch(line)), None)
            if form:
                pattern, malformed.expected = PAIRS[form], form
        if pattern is None or not (match := pattern.fullmatch(line)):
            malformed.add(number, line)
            continue
        seen.append(hash(line))
        for item in match[1].split():
            counted[item] += 1
    malformed.report(problems, empty=not counted)
    if repeated := len(seen) - len(np.unique(np.frombuffer(seen, np.int64))):
        notes.append(f"{repeated} lines of {path.name} repeat another one; each is counted, as published")
    return counted


def _commented(path: Path, problems: list[str], notes: list[str]) -> Counter[bytes]:
    """Item -> its number of comments, of `user<TAB>item<TAB>comment`.

    A comment may hold anything, line ends too: a line that does not start with the two ids goes on with the comment
    above it, so it adds none and takes none, and is said. One that starts with two ids is a comment.
    """
    counted, start, further = Counter(), None, []
    malformed = Malformed(path, "user<TAB>item<TAB>comment")
    for number, line in _lines(path, (USER, ITEM), problems):
        if start is None:
            start = next((pattern for pattern in COMMENT_STARTS if pattern.match(line)), None)
            if start is None:  # there is no comment above that it could go on with
                malformed.add(number, line)
                continue
        if match := start.match(line):
            counted[match[1]] += 1
        else:
            further.append(number)
    malformed.report(problems, empty=not counted)
    if further:
        notes.append(
            f"{len(further)} lines of {path.name} do not start with user<TAB>item: taken for further lines of the "
            f"comment above, not counted (lines {listed(further)})"
        )
    return counted


def _likes_and_views(path: Path, items: list[str], problems: list[str], notes: list[str]) -> dict[str, np.ndarray]:
    """item, likes, views between tabs, commas or blanks -> the two, (N,) each, NaN for items that are not in it."""
    row_of, rows = {item.encode(): row for row, item in enumerate(items)}, set()
    values, unknown = np.full((2, len(items)), np.nan), {}
    malformed = Malformed(path, "item, likes, views")
    for number, line in _lines(path, (ITEM, LIKE, VIEW), problems):
        separator = next((separator for separator in (b"\t", b",") if separator in line), None)
        item, *counts = (field.strip() for field in line.split(separator))
        if len(counts) != 2 or not item or not all(re.fullmatch(rb"\d{1,15}(?:\.0*)?", count) for count in counts):
            malformed.add(number, line)
        elif item in rows or item in unknown:
            malformed.add(number, line, "this item a second time")
        elif item not in row_of:
            unknown[item] = number
        else:
            rows.add(item)
            values[:, row_of[item]] = [float(count) for count in counts]
    malformed.report(problems, empty=not rows and not unknown)
    if unknown:
        notes.append(f"{path.name}: {len(unknown)} items that {TITLES} does not have ({listed(map(_text, unknown))})")
    if missing := [item for item in items if item.encode() not in rows]:
        notes.append(f"{path.name}: nothing on {len(missing)} items ({listed(missing)})")
    return dict(zip(("likes", "views"), values, strict=True))


# ---- lines ---------------------------------------------------------------------------------------


def _lines(path: Path, header: tuple[set[str] | None, ...], problems: list[str]) -> Iterator[tuple[int, bytes]]:
    """The numbered lines with something in them, without line ends, byte order mark and header.

    header: what its columns may be called (None: anything); a header of other columns is a problem.
    """
    try:
        file = path.open("rb")
    except FileNotFoundError:
        problems.append(f"{path}: no such file")
        return
    with naming(path), file:
        for number, line in enumerate(file, start=1):
            line = line.removesuffix(b"\n").removesuffix(b"\r")
            if number == 1:
                line = line.removeprefix(b"\xef\xbb\xbf")
                words = [re.sub(r"[\s_\"]", "", word).lower() for word in re.split("[\t,]| +", _text(line.strip()))]
                words = [word for word in words if word]
                if len(words) > 1 and set(words[:2]) <= HEADER_WORDS:
                    if not all(known is None or word in known for word, known in zip(words, header, strict=False)):
                        problems.append(f"{path} line 1: a header of other columns or of another order: {_shown(line)}")
                        return
                    continue
            if line.strip():
                yield number, line


class Malformed:
    """The lines of a file that are not as expected: how many, and the first few."""

    def __init__(self, path: Path, expected: str):
        self.path, self.expected, self.number, self.first = path, expected, 0, []

    def add(self, number: int, line: bytes, why: str = "") -> None:
        self.number += 1
        if self.number <= MAX_LISTED:
            self.first.append(f"line {number}: {_shown(line)}" + (f", {why}" if why else ""))

    def report(self, problems: list[str], empty: bool) -> None:
        """Add to the problems; `empty`: whether nothing at all came out of the file."""
        if self.number:
            more = f" and {self.number - len(self.first)} more" if self.number > len(self.first) else ""
            problems.append(f"{self.path}: expected {self.expected}, found {'; '.join(self.first)}{more}")
        elif empty and not any(str(self.path) in problem for problem in problems):
            problems.append(f"{self.path}: empty; expected {self.expected}")


def _text(line: bytes) -> str:
    return line.decode("utf-8", "replace")


def _shown(line: bytes) -> str:
    return repr(_text(line[:60])) + ("..." if len(line) > 60 else "")
