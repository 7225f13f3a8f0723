"""NUS (Vine) as it is distributed: what differs from the other data sets, and the reader of the raw release."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from dataloader.console import InputError, listed

FRAME_NUM = 4  # frames captured of each video
LABELS = ("loops", "likes", "reposts", "comments")
SEPARATOR = "::::"
# Feature files of the release that are taken along where they are there: array of the store -> file
FEATURE_FILES = {"visual": "histogram_feature.npz", "textual": "text_sentence2vec_feature.npz"}


@dataclass(frozen=True)
class RawRelease:
    """Row i of every array is video i of `video_id.txt`."""

    video_id: np.ndarray  # (N,) str
    text: np.ndarray  # (N,) str
    counts: np.ndarray  # (N, 4) float64, in the order of LABELS
    created: np.ndarray  # (N,) datetime64
    user: np.ndarray | None  # (N,) str, where video_user.txt is there


def read_raw(folder: Path, with_users: bool) -> RawRelease:
    """Read the text files of the release; InputError names the file, the line and what was expected there."""
    if not folder.is_dir():
        raise InputError(
            f"--raw {folder}: no such folder; it should hold video_id.txt, ground_truth.txt, video_text.txt"
        )
    ids = [line.strip() for line in _lines(folder / "video_id.txt")]
    if not ids:
        raise InputError(f"{folder / 'video_id.txt'}: empty; a video id a line was expected")
    if repeated := pd.Series(ids)[pd.Series(ids).duplicated()].tolist():
        raise InputError(f"{folder / 'video_id.txt'}: {len(repeated)} duplicate ids ({listed(repeated)})")
    text = _lines(folder / "video_text.txt")
    if len(text) != len(ids):
        raise InputError(f"{folder / 'video_text.txt'}: {len(text)} lines, but video_id.txt has {len(ids)}")
    counts, created = _ground_truth(folder / "ground_truth.txt", ids)
    user = _users(folder / "video_user.txt", ids) if with_users else None
    return RawRelease(np.array(ids, object), np.array(text, object), counts, created, user)


def _lines(path: Path) -> list[str]:
    try:
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


def _ground_truth(path: Path, ids: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """loops::::likes::::reposts::::comments::::created, in the order of the ids or with the id in front."""
    lines = _lines(path)
    if len(lines) != len(ids):
        raise InputError(f"{path}: {len(lines)} lines, but video_id.txt has {len(ids)}")
    counts, created = np.empty((len(ids), len(LABELS))), np.empty(len(ids), dtype="datetime64[us]")
    position = {video_id: row for row, video_id in enumerate(ids)}
    width, seen = len(LABELS) + 1, set()
    for number, line in enumerate(lines, start=1):
        fields = line.split(SEPARATOR)
        row = number - 1
        if len(fields) == width + 1:
            video_id = fields.pop(0).strip()
            if video_id not in position or video_id in seen:
                why = "a second time" if video_id in seen else "which is not in video_id.txt"
                raise InputError(f"{path} line {number}: video {video_id}, {why}")
            seen.add(video_id)
            row = position[video_id]
        if len(fields) != width or (seen and len(seen) != number):
            expected = SEPARATOR.join([*LABELS, "created time"])
            raise InputError(f"{path} line {number}: found {line[:80]!r}, expected {expected} (id in front or not)")
        try:
            counts[row] = [float(field) for field in fields[:-1]]
            created[row] = np.datetime64(fields[-1].strip(), "us")
        except ValueError as error:
            raise InputError(f"{path} line {number}: {error} (found {line[:80]!r})") from None
        if not (np.isfinite(counts[row]) & (counts[row] >= 0)).all() or np.isnat(created[row]):
            raise InputError(f"{path} line {number}: counts must be numbers >= 0 with a time (found {line[:80]!r})")
    return counts, created


def _users(path: Path, ids: list[str]) -> np.ndarray:
    """<video id>::::<user id>, in any order."""
    users = {}
    for number, line in enumerate(_lines(path), start=1):
        video_id, separator, user = line.partition(SEPARATOR)
        if not separator or not user.strip():
            raise InputError(f"{path} line {number}: found {line[:80]!r}, expected <video id>{SEPARATOR}<user id>")
        users[video_id.strip()] = user.strip()
    if missing := [video_id for video_id in ids if video_id not in users]:
        raise InputError(f"{path}: no user for {len(missing)} videos ({listed(missing)})")
    return np.array([users[video_id] for video_id in ids], object)
