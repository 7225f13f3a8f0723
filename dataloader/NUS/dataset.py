"""NUS (Vine) as it is distributed: what differs from the other data sets, and the reader of the raw release."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from common.console import InputError, listed
from common.room import naming
from dataloader.NUS.orders import LISTS, TEXT, TRUTH, Order, agreement, order_of_truth, typed_order

FRAME_NUM = 4  # frames captured of each video
LABELS = ("loops", "likes", "reposts", "comments")
SEPARATOR = "::::"
# Feature files of the release that are taken along where they are there: array of the store -> file
FEATURE_FILES = {"visual": "histogram_feature.npz", "textual": "text_sentence2vec_feature.npz"}


@dataclass(frozen=True)
class RawRelease:
    """Row i of every array is the video of line i of video_text.txt."""

    video_id: np.ndarray  # (N,) str
    text: np.ndarray  # (N,) str
    counts: np.ndarray  # (N, 4) float64, in the order of LABELS
    created: np.ndarray  # (N,) datetime64
    user: np.ndarray  # (N,) str, "" where unknown
    orders: dict[str, Order]  # file of features -> the ids of its rows, where it holds none itself
    notes: list[str]  # what was decided about the files, a line each


def read_raw(folder: Path, orders: Mapping[str, str] | None = None) -> RawRelease:
    """Read the text files of the release; InputError names the file, the line and what was expected there.

    orders: file -> "video_id" or "video_user", as --order says; what it does not name is decided by evidence.
    """
    orders = orders or {}
    if not folder.is_dir():
        raise InputError(
            f"--raw {folder}: no such folder; it should hold video_id.txt, ground_truth.txt, video_text.txt"
        )
    ids = [line.strip() for line in _lines(folder / "video_id.txt")]
    if not ids:
        raise InputError(f"{folder / 'video_id.txt'}: empty; a video id a line was expected")
    if repeated := pd.Series(ids)[pd.Series(ids).duplicated()].tolist():
        raise InputError(f"{folder / 'video_id.txt'}: {len(repeated)} duplicate ids ({listed(repeated)})")
    user_of = _users(folder / "video_user.txt")
    lists = {"video_id": np.array(ids, object)}
    if set(ids) <= set(user_of):
        known = set(ids)
        lists["video_user"] = np.array([video_id for video_id in user_of if video_id in known], object)
    text = _lines(folder / TEXT)
    if len(text) != len(ids):
        raise InputError(f"{folder / TEXT}: {len(text)} lines, but video_id.txt has {len(ids)}")
    own, counts, created = _ground_truth(folder / TRUTH, set(ids), len(ids))
    if own is not None and TRUTH in orders:
        raise InputError(f"--order {TRUTH}={orders[TRUTH]}: its lines name their ids themselves; leave it out")
    if own is not None:
        truth = Order(np.array(own, object), "each line names its id")
    elif (truth := typed_order(TRUTH, orders, lists)) is None:
        truth = order_of_truth(folder / TRUTH, created, lists)
    else:
        agreeing = int(agreement(truth.ids, created).sum())
        truth = Order(truth.ids, f"{truth.reason}; {agreeing} of {len(ids)} created times agree with these ids")
    as_truth = Order(truth.ids, f"line by line as {TRUTH}; nothing in the file says so")
    as_ids = Order(lists["video_id"], f"the order of {LISTS['video_id']}; nothing in the file says so")
    found = {TRUTH: truth, TEXT: typed_order(TEXT, orders, lists) or as_truth}
    for name, file in FEATURE_FILES.items():
        found[file] = typed_order(file, orders, lists) or (as_ids if name == "visual" else as_truth)
    notes = [f"{file}: {found[file].reason}" for file in (TRUTH, TEXT)]
    row_of = {video_id: row for row, video_id in enumerate(truth.ids)}
    rows = [row_of[video_id] for video_id in found[TEXT].ids]
    user = np.array([user_of.get(video_id, "") for video_id in found[TEXT].ids], object)
    if user_of and (unknown := int((user == "").sum())):
        notes.append(f"video_user.txt: no user for {unknown} of {len(ids)} videos")
    return RawRelease(
        found[TEXT].ids,
        np.array(text, object),
        counts[rows],
        created[rows],
        user,
        {file: found[file] for file in FEATURE_FILES.values()},
        notes,
    )


def _lines(path: Path) -> list[str]:
    try:
        with naming(path):
            content = path.read_bytes().decode("utf-8")
    except FileNotFoundError:
        raise InputError(f"{path}: no such file in the raw folder") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 ({error})") from None
    # Captions hold carriage returns and exotic separators: only \n ends a line here, not what splitlines takes for one.
    lines = content.removeprefix("\ufeff").split("\n")
    if lines[-1] == "":
        lines.pop()
    return [line.removesuffix("\r") for line in lines]


def _ground_truth(path: Path, ids: set[str], n: int) -> tuple[list[str] | None, np.ndarray, np.ndarray]:
    """loops::::likes::::reposts::::comments::::created a line, or each with its id in front.

    The ids of the lines (None where they have none), counts (N, 4) and created times (N,).
    """
    lines = _lines(path)
    if len(lines) != n:
        raise InputError(f"{path}: {len(lines)} lines, but video_id.txt has {n}")
    counts, created = np.empty((n, len(LABELS))), np.empty(n, dtype="datetime64[us]")
    width, seen = len(LABELS) + 1, {}
    for row, line in enumerate(lines):
        fields, number = line.split(SEPARATOR), row + 1
        if len(fields) == width + 1:
            video_id = fields.pop(0).strip()
            if video_id not in ids or video_id in seen:
                why = "a second time" if video_id in seen else "which is not in video_id.txt"
                raise InputError(f"{path} line {number}: video {video_id}, {why}")
            seen[video_id] = row
        if len(fields) != width or (seen and len(seen) != number):
            expected = SEPARATOR.join([*LABELS, "created time"])
            raise InputError(f"{path} line {number}: found {line[:80]!r}, expected {expected} (id in front or not)")
        try:
            counts[row] = [float(field) for field in fields[:-1]]
            created[row] = _time(fields[-1].strip())
        except ValueError as error:
            raise InputError(f"{path} line {number}: {error} (found {line[:80]!r})") from None
        if not (np.isfinite(counts[row]) & (counts[row] >= 0)).all() or np.isnat(created[row]):
            raise InputError(f"{path} line {number}: counts must be numbers >= 0 with a time (found {line[:80]!r})")
    return list(seen) or None, counts, created


def _time(text: str) -> np.datetime64:
    """ValueError for what is no time of this age; numpy itself would take "now", and wrap the year 999999 round."""
    time = np.datetime64(text, "s") if text[:1].isdigit() else np.datetime64("NaT", "s")
    if not np.isnat(time) and not 1970 <= time.astype("M8[Y]").astype(int) + 1970 < 2100:
        raise ValueError(f"{text} is no year of this age")
    return np.datetime64(text, "us") if not np.isnat(time) else np.datetime64("NaT", "us")


def _users(path: Path) -> dict[str, str]:
    """<video id>::::<user id> a line -> video -> user, in the order of the lines; empty where there is no file."""
    users: dict[str, str] = {}
    for number, line in enumerate(_lines(path) if path.exists() else [], start=1):
        if not line.strip():
            continue
        video_id, separator, user = (part.strip() for part in line.partition(SEPARATOR))
        if not separator or not video_id or not user:
            raise InputError(f"{path} line {number}: found {line[:80]!r}, expected <video id>{SEPARATOR}<user id>")
        if users.setdefault(video_id, user) != user:
            raise InputError(
                f"{path} line {number}: video {video_id} has user {users[video_id]} further up, here {user}"
            )
    return users
