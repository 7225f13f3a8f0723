"""dataloader/importing/video_files.py: which file is whose, and what is there in place of one that is missing."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest
from PIL import Image

from common.console import InputError
from dataloader.importing.video_files import Videos
from feature_engineering.decoding.videos import capture


@pytest.fixture
def folder(tmp_path) -> Path:
    for name in ("a.mp4", "b.MKV", "C.mp4", "d.gif", "e.jpg", "sub/f.mp4", "sub/deep/g.mp4", "x\ny.mp4"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / f"{unicodedata.normalize('NFD', 'café')}.mp4").write_bytes(b"x")
    return tmp_path


def test_files_are_found_by_id(folder):
    videos = Videos(folder)
    assert videos.of("a") == (folder / "a.mp4", None) and videos.of("b") == (folder / "b.MKV", None)
    for form in ("NFC", "NFD"):  # macOS writes the second
        path, why = videos.of(unicodedata.normalize(form, "café"))
        assert path.is_file() and why is None


MISSING = {
    "c": "missing: 'C.mp4' is there, whose name differs in case or spaces",
    "d": "missing: d.gif is there, which is read as no video",
    "e": "missing: e.jpg is there, which is read as no video",
    "f": "missing: sub/f.mp4 is in a subfolder, where a column of the table can name it (--video_column)",
    "h": "missing: 5 videos of other names are there, such as C.mp4 and a.mp4",
}


@pytest.mark.parametrize("item_id", MISSING)
def test_missing_says_what_is_there(folder, item_id):
    assert Videos(folder).of(item_id) == (None, MISSING[item_id])


def test_an_empty_folder(tmp_path):
    assert Videos(tmp_path).of("a") == (None, "missing: no videos are there")
    with pytest.raises(InputError, match="no such folder"):
        Videos(tmp_path / "nothing")


def test_files_that_a_table_names(folder):
    (folder / "sub" / unicodedata.normalize("NFD", "é.mp4")).write_bytes(b"x")
    named = {"1": "sub/f.mp4", "2": "./sub/deep/g.mp4", "3": "sub/é.mp4", "4": "f.mp4", "5": "", "7": "d.gif"}
    videos = Videos(folder, named)
    assert [videos.of(item)[0].is_file() for item in "1237"] == [True] * 4
    assert videos.of("4") == (None, "missing: f.mp4 is not there, but sub/f.mp4 is")
    assert videos.of("5") == videos.of("6") == (None, "missing: the table names no file of it")
    assert videos.of("a")[0] is None


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WebP"])
def test_a_picture_under_a_videos_name(tmp_path, form):
    Image.new("RGB", (32, 32)).save(tmp_path / "a.mp4", form)
    with pytest.raises(ValueError, match=f"a picture \\({form}\\) under a video's name"):
        capture(tmp_path / "a.mp4", 2)
