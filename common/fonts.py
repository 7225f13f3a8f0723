"""Fonts of pictures: which of those installed have the characters of a text, in whatever script it is written."""

from __future__ import annotations

import functools
import unicodedata
from pathlib import Path

from matplotlib import font_manager, get_data_path
from matplotlib.figure import Figure
from matplotlib.ft2font import FT2Font
from matplotlib.text import Text

FIRST = "DejaVu Sans"  # comes with matplotlib
# Letters of these scripts change with their neighbours, or stand before the letter that they follow. matplotlib sets
# one letter after the other, from left to right, which nobody can read.
JOINED = ((0x0900, 0x0DFF), (0x0F00, 0x109F), (0x1780, 0x17FF), (0x1800, 0x18AF), (0xA840, 0xABFF))
RIGHT_TO_LEFT = ("R", "AL", "AN")
BLANK = ("LastResort", "Adobe Blank", "Tofu")  # have every character, as an empty box


def fonts_for(text: str) -> list[str] | None:
    """The families that draw `text` together, to be given to matplotlib; None where those installed cannot.

    A script from right to left (Arabic, Hebrew) or one whose letters join is None too, whatever is installed.
    """
    if any(_needs_shaping(character) for character in text):
        return None
    families = [FIRST]
    for character in dict.fromkeys(text):
        family = FIRST if character in "\n" else _family_of(character)
        if family is None:
            return None
        families += [family] * (family not in families)
    return families


def legible(figure: Figure) -> None:
    """Give each text of a figure fonts that have its characters, as far as any installed one has."""
    for text in figure.findobj(Text):
        if not text.get_text().isascii() and (families := fonts_for(text.get_text())):
            text.set_fontfamily(families)


def _needs_shaping(character: str) -> bool:
    if unicodedata.bidirectional(character) in RIGHT_TO_LEFT:
        return True
    return any(first <= ord(character) <= last for first, last in JOINED)


@functools.cache
def _family_of(character: str) -> str | None:
    return next((family for family, path in _installed() if ord(character) in _characters(path)), None)


@functools.cache
def _installed() -> tuple[tuple[str, str], ...]:
    """(family, file) of every upright font of ordinary weight, the one of matplotlib first, then Noto's."""
    manager = font_manager.fontManager
    known = {font.fname for font in manager.ttflist}
    for path in set(font_manager.findSystemFonts()) - known:  # installed after matplotlib made its list of fonts
        try:
            manager.addfont(path)
        except (RuntimeError, OSError, NotImplementedError, ValueError):  # damaged, or pictures in place of outlines
            continue
    own, found = Path(get_data_path()), {}
    for font in manager.ttflist:
        mathematical = Path(font.fname).is_relative_to(own) and font.name != FIRST  # with codes of their own
        plain = font.style == "normal" and font.weight in (400, "normal", "regular", "book")
        if plain and not mathematical and not font.name.startswith(BLANK):
            found.setdefault(font.name, font.fname)
    order = sorted(found, key=lambda name: (name != FIRST, "Noto Sans" not in name, "Noto" not in name, name))
    return tuple((name, found[name]) for name in order)


@functools.cache
def _characters(path: str) -> frozenset[int]:
    try:
        return frozenset(FT2Font(path).get_charmap())
    except (RuntimeError, OSError):
        return frozenset()
