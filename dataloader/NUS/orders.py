"""Which video stands in which line of the release's files: they are not all in one order.

An id holds its time: id >> 22 are milliseconds since a fixed moment. So the created times of ground_truth.txt tell
which list of ids its lines belong to. For the other files nothing does, and they follow what was found of the one
release that is known: texts and sentence vectors stand as the counts do, visual features as video_id.txt does.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from common.console import InputError

LISTS = {"video_id": "video_id.txt", "video_user": "video_user.txt"}  # a name for --order -> where its ids stand
TRUTH, TEXT = "ground_truth.txt", "video_text.txt"
TIME_BITS = 22  # of an id, below its time
TOLERANCE = 1000  # ms between a created time, in whole seconds, and the time in the id


@dataclass(frozen=True)
class Order:
    """The ids of a file's lines (N,), and why they are these, in words."""

    ids: np.ndarray
    reason: str


def parse_orders(settings: list[str], files: tuple[str, ...]) -> dict[str, str]:
    """`["ground_truth.txt=video_id"]` -> file -> name of a list; `files` are those that it may be said of."""
    orders: dict[str, str] = {}
    for setting in settings:
        file, _, name = setting.rpartition("=")
        if file not in files or name not in LISTS:
            raise InputError(
                f"--order {setting}: expected FILE=video_user or FILE=video_id, where FILE is one of {', '.join(files)}"
            )
        if orders.setdefault(file, name) != name:
            raise InputError(f"--order: {file} is given two orders; name one")
    return orders


def typed_order(file: str, orders: Mapping[str, str], lists: Mapping[str, np.ndarray]) -> Order | None:
    """What --order says of `file`; None where it says nothing."""
    if file not in orders:
        return None
    if orders[file] not in lists:
        raise InputError(
            f"--order {file}={orders[file]}: {LISTS[orders[file]]} does not hold the ids of {LISTS['video_id']}, so "
            "it gives no order of these videos"
        )
    return Order(lists[orders[file]], f"the order of {LISTS[orders[file]]}, as --order says")


def order_of_truth(path: Path, created: np.ndarray, lists: Mapping[str, np.ndarray]) -> Order:
    """Whose line each created time (N,) is, by the times in the ids; InputError where they tell nothing, or two things.

    lists: name -> ids (N,): one list, or two of the same ids. One list is taken without evidence, if nothing speaks
    against it.
    """
    n, how = len(created), f"say which is right: {' or '.join(f'--order {path.name}={name}' for name in lists)}"
    agreeing = {name: agreement(ids, created) for name, ids in lists.items()}  # (N,) bool each
    telling = any(agrees.mean() >= 0.5 for agrees in agreeing.values())  # else the ids hold no times, or these are none
    if len(lists) == 1 or (lists["video_id"] == lists["video_user"]).all():
        agrees = agreeing["video_id"]
        if telling and n - agrees.sum() > _tolerated(n):
            missing = "" if len(lists) == 2 else f" (no {LISTS['video_user']} with the same videos, for another order)"
            raise InputError(
                f"{path}: the created times of {n - agrees.sum()} of {n} lines contradict the times in the ids of "
                f"{LISTS['video_id']}, so its lines seem to be in another order{missing}; if not, {how}"
            )
        checked = f"{agrees.sum()} of {n} created times agree with the ids" if telling else "its times tell nothing"
        return Order(lists["video_id"], f"the order of {LISTS['video_id']}, the only one there is ({checked})")
    differ = lists["video_id"] != lists["video_user"]  # (N,)
    votes = {name: int((agrees & differ).sum()) for name, agrees in agreeing.items()}
    only = {  # lines that speak for one list alone
        name: int((agreeing[name] & ~agreeing[other] & differ).sum())
        for name, other in (("video_id", "video_user"), ("video_user", "video_id"))
    }
    best, other = sorted(only, key=only.get, reverse=True)
    said = (
        f"of the {differ.sum()} lines where {LISTS['video_id']} and {LISTS['video_user']} differ, the created times of "
        f"{votes['video_user']} agree with the ids of {LISTS['video_user']}, of {votes['video_id']} with those of "
        f"{LISTS['video_id']}"
    )
    if not telling or not only[best]:
        raise InputError(f"{path}: its created times do not tell whose lines they are ({said}); {how}")
    if only[other] > only[best] // 100 or n - agreeing[best].sum() > _tolerated(n):
        raise InputError(f"{path}: its created times contradict one another ({said}); {how}")
    return Order(lists[best], f"the order of {LISTS[best]} ({said})")


def agreement(ids: np.ndarray, created: np.ndarray) -> np.ndarray:
    """(N,) bool: the created time lies within TOLERANCE of the time in the id; False where an id is no such number.

    The fixed moment that ids count from is the median of what it would be by each line.
    """
    known = np.array([len(video_id) <= 18 or video_id < "9" * 19 for video_id in ids])  # fits int64
    known &= np.array([video_id.isascii() and video_id.isdigit() and len(video_id) <= 19 for video_id in ids])
    held = np.array([int(video_id) >> TIME_BITS for video_id in ids[known]], np.int64)  # ms
    if not len(held) or np.ptp(held) <= TOLERANCE:  # no numbers, or of one moment: they hold nothing to compare
        return np.zeros(len(ids), bool)
    moment = created[known].astype("M8[ms]").astype(np.int64) - held
    agrees = np.zeros(len(ids), bool)
    agrees[known] = np.abs(moment - np.median(moment)) <= TOLERANCE
    return agrees


def _tolerated(n: int) -> int:
    """How many lines may contradict the rest."""
    return max(1, n // 100)
