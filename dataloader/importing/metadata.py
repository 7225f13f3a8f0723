"""Which columns of a table are metadata, what each is taken for, and why others are left out."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, time, timedelta
from decimal import Decimal
from typing import Any

import numpy as np

from common.console import listed
from dataloader.importing.faults import Faults
from dataloader.importing.ids import KEPT_DIGITS
from dataloader.importing.numbers import as_numbers, cleaned, is_unknown, one_duration, parsed
from dataloader.importing.tables import Table, alike, as_text
from dataloader.importing.times import as_times, one_time
from dataloader.metadata import AGE, Metadata, as_category, known
from dataloader.names import KINDS

ALL = "all"
SAMPLE = 2000  # cells of a column that are looked at to tell what it is
ENOUGH = 0.95  # of a column's known cells that are numbers, or times: the others are then bad cells
NEARLY_ALL = 0.5  # so many of the values that are texts are different: ids or texts
FEW = 20  # values of which nothing is said by how many are different
YES = {"true", "yes", "y", "是"}
NO = {"false", "no", "n", "否"}
# Words in the names of counts that grow after a video is published, in English, Chinese, Japanese and Korean.
AFTER = re.compile(
    r"(?:(?:dis)?liked?|digg|heart|comment|repl(?:y|ie)|danmaku|barrage|bullet|shared?|repost(?:ed)?|retweet|forward|view"
    r"(?:ed)?|play(?:ed)?|loop|favou?rited?|fav|bookmark|saved?|collect(?:ed|ion)?|download|coin|gift|impression|reach|"
    r"engagement|reaction|(?:up|down)?vote|popularity|click|watche?)s?(?:counts?|num|cnt)?"
)
AFTER_PARTS = ("播放", "点赞", "评论", "分享", "收藏", "投币", "硬币", "弹幕", "转发", "观看", "浏览", "点击", "喜欢")
AFTER_PARTS += ("人气", "热度", "再生", "いいね", "コメント", "조회", "좋아요", "댓글", "공유")
# What counts all that a creator has made until then is known before; what viewers wrote is not.
OF_CREATOR = {
    "author",
    "user",
    "creator",
    "channel",
    "uploader",
    "owner",
    "account",
    "profile",
    "follower",
    "followers",
}
OF_CREATOR |= {"following", "fans"}
OF_VIEWERS = re.compile(r"(?:comment|repl(?:y|ie)|engagement|reaction)s?")
OF_CREATOR_PARTS = ("粉丝", "作者", "用户", "关注")
TIME_NAMES = re.compile(r"time|date|created|upload|publish|posted|stamp|时间|日期|日時", re.IGNORECASE)
ID_NAMES = re.compile(r"(^|[\W_])(id|ids|uuid|guid|vid|aid|bvid|mid|uid)$|[a-z](Id|ID)$")


@dataclass
class Chosen:
    """What of a table is metadata. said: a line for each column that was asked about."""

    columns: dict[str, np.ndarray] = field(default_factory=dict)  # of all rows of the table
    consequences: list[str] = field(default_factory=list)  # those that were named though they come after publication
    said: list[str] = field(default_factory=list)

    def of(self, kept: np.ndarray) -> Metadata | None:
        """Of the rows that are items."""
        return Metadata(self.columns).take(kept) if self.columns else None


def choose_metadata(
    table: Table,
    asked: list[str],
    used: Mapping[str, str],
    ids: np.ndarray,
    age: np.ndarray,
    decimal: str | None,
    anonymous: np.ndarray | None = None,
    horizon: float | None = None,
) -> Chosen:
    """The columns that were `asked` for, or all that may be; bad cells join the table's faults.

    used: name of a column that is something else already -> what. ids: of the rows, for messages. age: (N,) days from
    publication to counting, NaN where unknown; horizon: what it is where no time of counting is known of any item.
    anonymous: (N,) creators' ids, where their names are not to be written.
    """
    chosen, faults = Chosen(), table.faults
    every = ALL in asked and ALL not in table.columns
    called = {alike(name): name for name in used if name}  # a column is one, however it is written
    named = dict(named_kind(text, table.columns) for text in asked if not every or text != ALL)
    named = {called.get(alike(name), name): kind for name, kind in named.items()}
    others = [called.get(alike(name), name) for name in table.found if every]
    names: dict[str, str] = {}
    for name in [*named, *(name for name in others if name in table.columns)]:
        names.setdefault(alike(name), name)
    for name in names.values():
        values = table.columns[name]
        kind, why_not = what_it_is(name, values)
        if name in used:
            why_not = used[name]
        elif anonymous is not None and kind == "category" and tells(values, anonymous):
            why_not = "it tells creators apart, who are to be anonymous"
            if name in named:
                faults.problems.append(f"--metadata_columns {name}: {why_not}; leave it or --anonymise out")
        elif kind not in ("yes/no", "time") and is_consequence(name):
            why_not = "a count made after publication"
            if name in named:
                chosen.consequences.append(name)
        if every and name not in named and why_not:
            chosen.said.append(f"{name}: left out: {why_not}")
            continue
        kind = named.get(name) or kind
        column = typed(values, name, kind, ids, faults, decimal)
        chosen.columns[name] = column
        unknown = int((~known(column)).sum())
        marks = [f"{unknown} unknown"] if unknown else []
        marks += [f"{len(set(column) - {None})} values"] if kind == "category" else []
        marks += [why_not] if why_not else []
        chosen.said.append(f"{name}: {kind}" + (f" ({', '.join(marks)})" if marks else ""))
    if every:
        taken = set(map(alike, table.columns))
        skipped = [name for name in table.found if alike(name) not in taken]
        chosen.said += [
            f"{name!r}: left out: its name is empty, or that of another column" for name in dict.fromkeys(skipped)
        ]
    if asked and not np.isnan(age).all():
        if AGE in chosen.columns:
            faults.problems.append(
                f"column {AGE}: the name is that of the age that is made of the times; call it otherwise"
            )
        chosen.columns[AGE] = age
        how = "from publication to counting" if horizon is None else f"the --horizon of {horizon:g} days"
        chosen.said.append(f"{AGE}: number, {how}")
    if asked and not chosen.columns:
        faults.problems.append(f"--metadata_columns: no column is left ({listed(chosen.said, 100)})")
    return chosen


def named_kind(text: str, columns: Mapping[str, Any]) -> tuple[str, str | None]:
    """NAME, or NAME=KIND where there is no column of the whole name."""
    name, mark, kind = text.rpartition("=")
    return (name, kind) if mark and kind in KINDS and text not in columns else (text, None)


def name_of(text: str) -> str:
    """Of a column that was asked for, before the table is read."""
    return named_kind(text, {})[0]


def tells(values: list, creators: np.ndarray) -> bool:
    """Whether each value belongs to one creator and each creator has one value, as a name has."""
    pairs = {(str(v), u) for v, u in zip(values, creators, strict=True) if not is_blank(v) and u}
    return len(pairs) > 1 and len(pairs) == len({v for v, _ in pairs}) == len({u for _, u in pairs})


def is_consequence(name: str) -> bool:
    """Whether a count of this name grows after the video is published, as likes do."""
    name = unicodedata.normalize("NFKC", name)
    words = re.findall(r"[a-z]+", re.sub(r"([a-z])([A-Z])", r"\1 \2", name).lower())
    if any(part in name for part in OF_CREATOR_PARTS):
        return False
    if OF_CREATOR & set(words) and not any(map(OF_VIEWERS.fullmatch, words)):
        return False
    return any(map(AFTER.fullmatch, words)) or any(part in name for part in AFTER_PARTS)


def what_it_is(name: str, values: list) -> tuple[str, str]:
    """The kind of a column, and why it had better be left out, if so."""
    there = [value for value in values if not is_blank(value)]
    if not there:
        return "category", "nothing in it"
    if any(isinstance(value, list | dict | tuple | bytes) for value in there):
        return "category", "lists or objects, not single values"
    if all(
        isinstance(value, bool) or (isinstance(value, str) and cleaned(value).lower() in YES | NO) for value in there
    ):
        kind = "yes/no"
    elif all(isinstance(value, date) for value in there):
        kind = "time"
    else:
        kind = kind_of_many(name, there)
    different = {cleaned(str(value)) for value in there}
    if len(different) == 1 and len(there) == len(values):
        return kind, "the same in every row"
    if kind == "category" and len(there) > FEW and len(different) > NEARLY_ALL * len(there):
        return kind, "nearly every value is another: ids or texts"
    return kind, ""


def kind_of_many(name: str, there: list) -> str:
    """Of values that are known: "number", "time" or "category", by what nearly all of a sample of them are."""
    there = there[:: max(1, len(there) // SAMPLE)]
    numbers = [value for value in there if not is_unknown(value)]
    texts = [cleaned(value) for value in numbers if isinstance(value, str)]
    long = [text for text in map(str, numbers) if len(text.lstrip("-")) > KEPT_DIGITS and text.lstrip("-").isdigit()]
    padded = [text for text in texts if re.fullmatch(r"0\d+", text)]
    if numbers and TIME_NAMES.search(name) and sum(map(is_time, numbers)) >= ENOUGH * len(numbers):
        return "time"
    if numbers and sum(map(is_number, numbers)) >= ENOUGH * len(numbers):
        return "category" if long or padded or ID_NAMES.search(name) else "number"
    if numbers and sum(isinstance(value, str | date) and is_time(value) for value in numbers) >= ENOUGH * len(numbers):
        return "time"
    return "category"


def is_blank(value: Any) -> bool:
    """Whether a cell of any column says nothing; None and N/A as texts are a category."""
    return (
        value is None or (isinstance(value, float) and value != value) or (isinstance(value, str) and not value.strip())
    )


def is_number(value: Any) -> bool:
    if isinstance(value, str):
        text = cleaned(value)
        return parsed(text) is not None or one_duration(text) is not None
    return isinstance(value, int | float | Decimal | timedelta | time) and not isinstance(value, bool)


def is_time(value: Any) -> bool:
    try:
        one_time(value)
    except (TypeError, ValueError, OverflowError):
        return False
    return True


def typed(values: list, name: str, kind: str, ids: np.ndarray, faults: Faults, decimal: str | None) -> np.ndarray:
    """(N,) of a column taken for `kind`; cells that are not are faults."""
    if kind == "number":
        values = [int(value) if isinstance(value, bool) else value for value in values]
        return as_numbers(values, name, ids, faults, decimal=decimal)
    if kind == "time":
        return as_times([None if is_unknown(value) else value for value in values], name, ids, faults)
    if kind == "yes/no":
        return as_yes_or_no(values, name, ids, faults)
    plain = [None if is_blank(v) else v if isinstance(v, str) else str(v) for v in values]
    return as_category(as_text(plain, name, faults.problems))


def as_yes_or_no(values: list, column: str, ids: np.ndarray, faults: Faults) -> np.ndarray:
    """(N,) int8: 1, 0, -1 where unknown, or where the cell is a fault."""
    out, bad = np.full(len(values), -1, np.int8), []
    for row, value in enumerate(values):
        word = cleaned(str(value)).lower()
        if word in {*YES, "1", "1.0"} or value is True:
            out[row] = 1
        elif word in {*NO, "0", "0.0"} or value is False:
            out[row] = 0
        elif not is_unknown(value):
            bad.append(row)
    faults.add_cells(column, "are neither yes nor no", bad, values, ids)
    return out
