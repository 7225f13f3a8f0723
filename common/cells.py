"""Texts in the cells of CSV files. A spreadsheet takes one that begins with = + - or @ for a formula and runs it.

So texts that begin so, or with a tab or a line end, are written with a ' in front, and so is one that begins with ' and
then so: taken away on reading, each is what it was. Numbers are written as they are.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from common.files import written_beside
from common.room import naming

if TYPE_CHECKING:
    import pandas as pd

RUN = re.compile(r"'*[=+\-@\t\r\n]")


def guarded(cell: Any) -> Any:
    """As it is written; what is no text stays."""
    return f"'{cell}" if isinstance(cell, str) and RUN.match(cell) else cell


def unguarded(cell: Any) -> Any:
    """As it was before `guarded`."""
    return cell[1:] if isinstance(cell, str) and cell[:1] == "'" and RUN.match(cell) else cell


def write_table(path: Path, table: pd.DataFrame, float_format: str | None = None) -> None:
    texts = {name: column.map(guarded) for name, column in table.items() if column.dtype.kind == "O"}
    with written_beside(path) as partial:
        table.assign(**texts).to_csv(partial, index=False, float_format=float_format)


def read_table(path: Path, texts: Sequence[str], others: Sequence[str] = ()) -> pd.DataFrame:
    """These columns of what write_table wrote; ValueError where they are not there, or it is no CSV file."""
    import pandas as pd

    with naming(path):
        types = dict.fromkeys(texts, str)
        table = pd.read_csv(path, dtype=types, keep_default_na=False, usecols=[*texts, *others])
    return table.assign(**{name: table[name].map(unguarded) for name in texts})
