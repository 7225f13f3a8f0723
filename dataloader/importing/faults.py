"""What is found in a table on the way in: what is wrong with it, with which cells, and what was taken for what."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from common.console import listed

MOST_NAMED = 100  # bad rows that a message names; more are counted


@dataclass
class Faults:
    """Collected while a table is read, so that all of it can be told at once."""

    problems: list[str] = field(default_factory=list)  # of the table, or of a column as a whole
    cells: list[str] = field(default_factory=list)  # of single cells: a clause a column, which names all bad rows
    rows: dict[int, tuple[str, str]] = field(default_factory=dict)  # row with one -> (its id, the first thing wrong)
    notes: list[str] = field(default_factory=list)  # what was decided, to be said

    def add_cells(self, column: str, what: str, rows: Sequence[int], values: list, ids: Any, advice: str = "") -> None:
        """Cells of `column` that cannot be used; what: "are no finite number", say. None where `rows` is empty."""
        if not len(rows):
            return
        shown = listed((f"{ids[row]}: {brief(values[row])}" for row in rows), MOST_NAMED)
        self.cells.append(f"column {column}: {len(rows)} values {what} ({shown}){advice and f'; {advice}'}")
        for row in rows:
            self.rows.setdefault(int(row), (str(ids[row]), f"column {column}: values like {brief(values[row])} {what}"))

    def told(self, policy: str) -> list[str]:
        """What is to be refused: all of it, or, where the policy is to "skip" rows, what no row is to blame for."""
        return [*self.problems, *([] if policy == "skip" else self.cells)]

    def say(self, table: Any) -> None:
        for note in self.notes:
            print(f"{table}: {note}")


def brief(value: Any) -> str:
    return repr(str(value)[:40])
