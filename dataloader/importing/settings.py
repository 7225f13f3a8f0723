"""What an import is told beside the columns of its table: how the table is read, and which files bring features."""

from __future__ import annotations

import argparse
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from common.console import InputError
from common.settings import setting
from dataloader.importing.columns import ColumnSettings
from dataloader.importing.metadata import name_of
from dataloader.importing.scaling import modes_by_array
from dataloader.importing.snapshots import KEEP
from dataloader.importing.splits import SplitSettings
from dataloader.importing.tables import alike
from dataloader.modalities import RETRIEVAL, in_order, modality


def encoding_name(name: str) -> str:
    """An argparse type: an encoding that Python knows."""
    try:
        "".encode(name)
    except (LookupError, ValueError):
        raise argparse.ArgumentTypeError(f"{name!r} is no encoding; utf-8, gb18030 and latin-1 are some") from None
    return name


@dataclass(frozen=True)
class TableSettings:
    """How the table is read, and what becomes of rows that cannot be used."""

    sheet: str | None = setting(None, "of an Excel file, which needs it where several are filled", kind=str)
    encoding: str | None = setting(
        None, "of a text file; UTF-8, UTF-16 or what its characters show, without it", encoding_name, kind=str
    )
    keep: str | None = setting(
        None,
        "which of several snapshots of one video, which are rows of the same id, becomes the item: the first or last "
        "by --label_time_column, or without it by their order, or the one with the largest count or label; the others "
        "are listed in skipped.csv; without it they are refused",
        str,
        KEEP,
        kind=str,
    )
    same_video: list[str] | None = setting(
        None,
        "beside --keep: rows that are alike in all of these columns are snapshots of one video too",
        kind=list,
        nargs="+",
        metavar="C",
    )
    on_error: str | None = setting(
        None,
        "a row with a cell that cannot be read, and with --videos an item whose video cannot be: fail: name the rows "
        "and write nothing, stop at the video; skip: leave it out of the data set and list it in skipped.csv; zero, "
        "for videos alone: keep it with zeros as its features, and list it too; without this flag rows fail and videos "
        "are skipped",
        str,
        ("skip", "fail", "zero"),
        kind=str,
    )

    @property
    def policy(self) -> str:
        """What becomes of a row that cannot be read."""
        return "skip" if self.on_error == "skip" else "fail"


@dataclass(frozen=True)
class FileSettings:
    """Which files bring features, how these are stored, and what makes others of them."""

    visual: str | None = setting(None, "(items, frames, dimension) or (items, dimension)", kind=str, metavar="FILE")
    textual: str | None = setting(None, "(items, dimension)", kind=str, metavar="FILE")
    retrieval: str | None = setting(
        None,
        "(items, dimension): what the retriever compares; the textual features if not given, else the others",
        kind=str,
        metavar="FILE",
    )
    features: list[str] = field(default_factory=list)  # NAME=FILE; their flag may stand on a command line several times
    normalise: list[str] = field(default_factory=lambda: ["none"])  # the flag is that of scaling.py
    dtype: str = "float32"
    videos: Path | None = None  # the flag is that of the scripts that make features of them

    def __post_init__(self):
        """InputError for --features and --normalise that cannot be read, whatever else is given."""
        _ = self.modes, self.named

    @property
    def named(self) -> dict[str, str]:
        """Name of the features -> the file they come from."""
        files = {"visual": self.visual, "textual": self.textual, RETRIEVAL: self.retrieval}
        files = {name: file for name, file in files.items() if file}
        for text in self.features:
            name, mark, file = text.partition("=")
            try:
                modality(name)
            except argparse.ArgumentTypeError as error:
                raise InputError(f"--features {text}: {error}") from None
            if not mark or not file:
                raise InputError(f"--features {text}: NAME=FILE is expected, as in audio=a.npy")
            if name in files:
                raise InputError(f"--features {text}: {name} features are given twice")
            files[name] = file
        return {name: files[name] for name in in_order(files)}

    @property
    def compared(self) -> str | None:
        """The features that serve as retrieval vectors too, where no file brings these and no script makes them."""
        files = self.named
        if self.videos or RETRIEVAL in files:
            return None
        return "textual" if "textual" in files else next(iter(files), None)

    @property
    def modes(self) -> dict[str, str]:
        """Array -> how it is normalised."""
        return modes_by_array(self.normalise)


def refuse_split(splitting: SplitSettings, named: ColumnSettings) -> None:
    by = splitting.kind(named.split_column)
    if by == "time" and not named.time_column:
        raise InputError("--split_by time: --time_column says when an item was published, and is not given")
    if by == "user" and not named.user_column:
        raise InputError("--split_by user: --user_column says who made an item, and is not given")


def refuse_idle_flags(
    typed: Mapping[str, Any], named: ColumnSettings, given: Collection[str], *, with_videos: bool
) -> None:
    """InputError for a flag of `typed` that does nothing beside the others; given: the features that files bring."""
    if len(set(named.targets)) < len(named.targets):
        raise InputError(f"the columns {', '.join(named.targets)} name a target twice; name each once")
    if "log_offset" in typed and not named.count_column:
        raise InputError("--log_offset belongs to --count_column, which is not given")
    if named.anonymise and not named.user_column:
        raise InputError("--anonymise is for creators' names, and --user_column is not given")
    if "decimal" in typed and not named.targets and not named.metadata_columns:
        raise InputError("--decimal belongs to numbers: --count_column or --label_column, which are not given")
    targets = set(map(alike, named.targets))
    if leaks := [name for name in map(name_of, named.metadata_columns or []) if alike(name) in targets]:
        raise InputError(f"--metadata_columns {leaks[0]}: that is what is predicted")
    if "horizon" in typed and not named.metadata_columns:
        raise InputError("--horizon is for the age among the metadata, and --metadata_columns is not given")
    if "same_video" in typed and "keep" not in typed:
        raise InputError("--same_video needs --keep, which says which of the rows of a video becomes the item")
    if typed.get("keep") == "max" and not named.targets:
        raise InputError("--keep max needs the counts or labels that it compares: --count_column or --label_column")
    if with_videos:
        given = {*given, "visual", "textual", RETRIEVAL}
    elif "video_column" in typed:
        raise InputError("--video_column does nothing without --videos")
    elif typed.get("on_error") == "zero":
        raise InputError("--on_error zero is for videos, and does nothing without --videos")
    arrays = [mode.partition("=")[0] for mode in typed.get("normalise", []) if "=" in mode]
    if idle := [name for name in arrays if name not in given]:
        raise InputError(f"--normalise {idle[0]}=...: no {idle[0]} features are given")
    if idle := [flag for flag in ("normalise", "dtype") if flag in typed and not given]:
        raise InputError(
            f"--{idle[0]}: no features are given; --visual, --textual, --features, --retrieval or --videos bring them"
        )
