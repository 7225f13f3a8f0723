"""Text with separators: which separator, and which quotes are part of a text."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

SEPARATORS = (",", ";", "\t", "|")
MOST_CHARACTERS = 2**31 - 1  # in one field; the csv module's own limit is 131072


@dataclass
class Delimited:
    """A text's header, and its rows as they are asked for."""

    header: list[str]
    separator: str
    lines: list[str]  # as they stand, with their ends
    first: int  # place of the first line behind the header
    stray: list[int] = field(default_factory=list)  # lines whose quotes were taken as characters

    def rows(self) -> Iterator[tuple[int, list[str] | str]]:
        """(line number, its fields, or why it has none that fit the header). Lines with nothing in them are passed."""
        place = self.first
        while place < len(self.lines):
            number, line = place + 1, self.lines[place]
            fields, used = self._record(place)
            place += used
            if not line.strip("\r\n"):
                continue
            if not isinstance(fields, str):
                while len(fields) > len(self.header) and not fields[-1]:
                    fields.pop()  # separators at the end of a line, with nothing behind them
                if len(fields) != len(self.header):
                    fields = (
                        f"{len(fields)} fields, but the header has {len(self.header)} "
                        f"({', '.join(self.header)}); text that holds separators or line ends needs quotes"
                    )
            yield number, fields

    def _record(self, place: int) -> tuple[list[str] | str, int]:
        """The fields that begin in a line, or what is wrong, and how many lines they are.

        A quote may open a field over several lines, or be a stray one: then the line alone has the header's fields,
        and so has each line that a field between the two quotes would swallow.
        """
        line, width = self.lines[place], len(self.header)
        plain = line.rstrip("\r\n").split(self.separator)
        if '"' not in line:
            return plain, 1
        quoted, used = quoted_fields(self.lines, place, self.separator)
        if used == 1 and not isinstance(quoted, str):
            return quoted, 1
        if len(plain) != width:
            return quoted, 1 if isinstance(quoted, str) else used
        if isinstance(quoted, str) or len(quoted) != width:
            self.stray.append(place + 1)
            return plain, 1
        if width == 1 or not all(self._fits(other) for other in range(place, place + used)):
            return quoted, used
        if width == 2:
            why = f"a quote opens here and closes in line {place + used}: one text, or {used} rows with stray quotes"
            return f"{why}; take the line ends out of the text, or the quotes away", used
        self.stray.append(place + 1)
        return plain, 1

    def _fits(self, place: int) -> bool:
        line = self.lines[place]
        if len(line.rstrip("\r\n").split(self.separator)) == len(self.header):
            return True
        fields, used = quoted_fields(self.lines[place : place + 1], 0, self.separator)
        return used == 1 and not isinstance(fields, str) and len(fields) == len(self.header)


def quoted_fields(lines: list[str], place: int, separator: str) -> tuple[list[str] | str, int]:
    """The record that begins in a line as the csv module defines it, or its complaint, and how many lines it is."""
    csv.field_size_limit(MOST_CHARACTERS)
    reader = csv.reader((lines[i] for i in range(place, len(lines))), delimiter=separator, strict=True)
    try:
        return next(reader), reader.line_num
    except csv.Error as error:
        return f"{error}; check the quotes", reader.line_num


def delimited(text: str, usual: str, score: Callable[[list[str]], int]) -> Delimited:
    """A text by the separator that its first line names (`sep=;`), or by which its header holds most.

    score: how many of the columns that are wanted a header has. usual: the separator where nothing speaks for another.
    """
    lines = list(io.StringIO(text, newline=""))
    first = next((place for place, line in enumerate(lines) if line.strip("\r\n")), len(lines))
    if first == len(lines):
        return Delimited([], usual, [], 0)
    if named := re.fullmatch(r'"?sep=(.)"?[\r\n]*', lines[first], re.IGNORECASE):
        first, tried = first + 1, [named[1]]
        if first == len(lines):
            return Delimited([], usual, [], 0)
    else:
        tried = list(dict.fromkeys([usual, *SEPARATORS]))
    best = None
    for separator in tried:
        header, used = quoted_fields(lines, first, separator)
        if isinstance(header, str):  # a quote that is no quote, in a name
            header, used = lines[first].rstrip("\r\n").split(separator), 1
        rank = score(header), len(header)
        if best is None or rank > best[0]:
            best = rank, Delimited(header, separator, lines, first + used)
    return best[1]
