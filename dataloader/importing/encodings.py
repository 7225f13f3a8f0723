"""The characters of a text file: by its byte order mark, as UTF-8, or by what charset-normalizer finds."""

from __future__ import annotations

import codecs

BYTE_ORDER_MARKS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF32_LE: "utf-32",  # before UTF-16, whose mark is the beginning of this one
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
# What a file that is not UTF-8 may be. Of single bytes every encoding finds some letters, so there are few of these.
LIKELY = ["gb18030", "big5", "shift_jis", "euc_jp", "euc_kr", "cp1252", "cp1250", "cp1251"]
FEWEST_BYTES = 3  # beyond ASCII, of which an encoding may be guessed
MOST_BYTES = 1 << 20  # that are looked at


def decoded(data: bytes, encoding: str | None = None) -> tuple[str, str]:
    """The text without its byte order mark, and what is to be said of it.

    encoding: as the user names it. ValueError, with a sentence, where it cannot be read.
    """
    if encoding:
        try:
            return data.decode(encoding).removeprefix("\ufeff"), ""
        except UnicodeError as error:
            raise ValueError(f"not {encoding} ({error}); --encoding names another") from None
    for mark, name in BYTE_ORDER_MARKS.items():
        if data.startswith(mark):
            try:
                return data.decode(name), ""
            except UnicodeError as error:
                raise ValueError(f"begins as {name}, but is not ({error}); --encoding names another") from None
    if wide := _without_mark(data):
        try:
            return data.decode(wide), f"read as {wide}, as every other byte is 0; --encoding names another"
        except UnicodeError:
            pass
    try:
        return data.decode("utf-8"), ""
    except UnicodeDecodeError as error:
        return _guessed(data, error)


def _without_mark(data: bytes) -> str | None:
    """UTF-16 of mostly Western characters, by where its zeros are."""
    start = data[:4096]
    even, odd = (start[first::2].count(0) / max(1, len(start) // 2) for first in (0, 1))
    if max(even, odd) > 0.4 and min(even, odd) < 0.05:
        return "utf-16-le" if odd > even else "utf-16-be"
    return None


def _guessed(data: bytes, error: UnicodeDecodeError) -> tuple[str, str]:
    beyond = sum(byte > 127 for byte in data[:MOST_BYTES])
    if beyond < FEWEST_BYTES:
        raise ValueError(f"not UTF-8 ({error}), and too little of it to find its encoding; name that with --encoding")
    from charset_normalizer import from_bytes

    start = data[:MOST_BYTES]
    if len(start) < len(data):
        start = start[: start.rfind(b"\n") + 1] or start
    best = from_bytes(start, cp_isolation=LIKELY, enable_fallback=False).best()
    if best is None:
        raise ValueError(f"not UTF-8 ({error}), and no other encoding was found; name it with --encoding")
    name = best.encoding
    try:
        text = data.decode(name)
        # Many Western texts are the same in both; Western is the likelier one.
        if name == "cp1250" and text == data.decode("cp1252", "replace"):
            name = "cp1252"
    except UnicodeError as other:
        raise ValueError(f"neither UTF-8 ({error}) nor {name} ({other}); name its encoding with --encoding") from None
    line = next((line for line in text.splitlines() if not line.isascii()), "")
    return text, f"not UTF-8; read as {name}, by its characters ({line[:60]!r}); --encoding names another"
