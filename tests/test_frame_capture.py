"""Videos -> frames: which ones, from which files, and what a second run does."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from bare import bare_store, call
from PIL import Image
from test_videos import write

from dataloader.console import InputError
from feature_engineering import video_frame_capture, visual_engineering
from feature_engineering.captured import read_captured
from feature_engineering.naming import find_images
from feature_engineering.skipped import read_skipped


def write_grey(path: Path, count: int) -> None:
    """A clip of key frames; frame k is grey of level 20 + 5k."""
    grey = {"draw": lambda k: np.full((48, 64, 3), 20 + 5 * k, np.uint8), "options": {"g": "1", "crf": "10", "bf": "0"}}
    write(path, count, **grey)


def indices_in(folder: Path, item_id: str) -> list[int]:
    """Which frame each picture of a grey clip is."""
    pictures = find_images(folder, [item_id])[item_id]
    return [round((float(np.asarray(Image.open(path)).mean()) - 20) / 5) for path in pictures]


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])  # Matroska declares no frame count
@pytest.mark.parametrize(("count", "frame_num"), [(37, 10), (37, 4), (3, 10), (1, 4), (12, 1), (10, 10)])
def test_frames_are_those_of_the_protocol(tmp_path, suffix, count, frame_num):
    bare_store(tmp_path, ids=("a", "b", "c"))
    for item_id in "abc":
        write_grey(tmp_path / f"{item_id}{suffix}", count)
    call(video_frame_capture, tmp_path, "--videos", tmp_path, "--frame_num", frame_num)
    frames, real = tmp_path / "set/frames", min(count, frame_num)
    expected = np.unique(np.linspace(0, count - 1, frame_num).astype(int)).tolist()
    expected += expected[-1:] * (frame_num - len(expected))
    assert all(indices_in(frames, item_id) == expected for item_id in "abc")
    names = {f"{item_id}_{k}.jpg" for item_id in "abc" for k in range(frame_num)}
    assert {path.name for path in frames.iterdir()} == names | {"captured.jsonl"}
    assert read_captured(frames / "captured.jsonl") == {k: {"frames": frame_num, "real": real} for k in "abc"}
    assert not (tmp_path / "set/skipped.csv").exists()


@pytest.mark.parametrize(("family", "frame_num"), [("MicroLens", 10), ("NUS", 4)])
def test_the_family_says_how_many_frames(tmp_path, family, frame_num):
    bare_store(tmp_path, ids=("a",), family=family)
    write_grey(tmp_path / "a.mp4", 12)
    call(video_frame_capture, tmp_path, "--videos", tmp_path, "--frames", tmp_path / "elsewhere")
    assert len(list((tmp_path / "elsewhere").glob("a_*.jpg"))) == frame_num


@pytest.fixture
def some_broken(tmp_path) -> Path:
    """The videos of a data set of a .. f: a and b are sound."""
    bare_store(tmp_path)
    videos = tmp_path / "videos"
    videos.mkdir()
    for name in ("a.mp4", "b.mp4", "c.mp4", "c.mkv"):
        write_grey(videos / name, 5)
    (videos / "d.mp4").write_bytes(b"not a video")
    (videos / "e.json").write_text("{}")
    return videos


def test_missing_and_broken_videos_are_listed_and_a_rerun_goes_on(tmp_path, some_broken, run):
    command = ("feature_engineering/video_frame_capture.py", "--dataset_path", tmp_path, "--dataset_id", "set")
    result = run(*command, "--videos", some_broken, "--frame_num", 4)
    assert result.returncode == 0 and len(result.stderr.splitlines()) == 1
    assert "warning: 4 of 6 items (67%) could not be used" in result.stderr
    assert "4 frames of 2 videos captured, 0 were there already" in result.stdout
    frames, skipped = tmp_path / "set/frames", read_skipped(tmp_path / "set")
    assert {path.name for path in frames.glob("*.jpg")} == {f"{item}_{k}.jpg" for item in "ab" for k in range(4)}
    assert {(row["item_id"], row["stage"]) for row in skipped} == {(item_id, "frames") for item_id in "cdef"}
    reasons = {row["item_id"]: row["reason"] for row in skipped}
    assert reasons["c"] == "ambiguous: c.mkv and c.mp4" and reasons["e"] == reasons["f"] == "missing" and reasons["d"]

    (frames / "a_0.jpg").write_bytes(b"mark")
    (frames / "b_2.jpg").unlink()
    (some_broken / "c.mkv").unlink()
    for name in ("d.mp4", "e.mp4", "f.webm"):
        write_grey(some_broken / "c2.mp4", 5)
        (some_broken / "c2.mp4").rename(some_broken / name)
    call(video_frame_capture, tmp_path, "--videos", some_broken, "--frame_num", 4)
    assert {path.name for path in frames.glob("*.jpg")} == {f"{item}_{k}.jpg" for item in "abcdef" for k in range(4)}
    assert (frames / "a_0.jpg").read_bytes() == b"mark"  # what was there was not captured again
    assert read_skipped(tmp_path / "set") == []


def test_fail_stops_at_the_first_in_one_line(tmp_path, some_broken, run):
    command = ("feature_engineering/video_frame_capture.py", "--dataset_path", tmp_path, "--dataset_id", "set")
    command += ("--videos", some_broken, "--on_error", "fail")
    for reason in ("item c: ambiguous: c.mkv and c.mp4; item e: missing", "item d: "):
        result = run(*command)
        assert result.returncode == 2 and len(result.stderr.splitlines()) == 1, result.stderr
        assert reason in result.stderr and "--on_error skip" in result.stderr
        (some_broken / "c.mkv").unlink(missing_ok=True)
        for name in ("e.mp4", "f.mp4"):
            write_grey(some_broken / name, 5)


def test_where_not_one_video_can_be_used_it_is_an_error(tmp_path, run):
    bare_store(tmp_path)
    with pytest.raises(InputError, match="no frames of any of the 6 items"):
        call(video_frame_capture, tmp_path, "--videos", tmp_path)
    with pytest.raises(InputError, match="nowhere: no such folder"):
        call(video_frame_capture, tmp_path, "--videos", tmp_path / "nowhere")


def test_another_number_of_frames_is_not_mixed_in(tmp_path, some_broken):
    frames, flags = tmp_path / "set/frames", ("--videos", some_broken, "--frame_num")
    call(video_frame_capture, tmp_path, *flags, 4)
    with pytest.raises(InputError, match="another number of frames than 3"):
        call(video_frame_capture, tmp_path, *flags, 3)
    (some_broken / "b.mp4").write_bytes(b"not a video any more")
    call(video_frame_capture, tmp_path, *flags, 3, "--overwrite")
    assert sorted(path.name for path in frames.iterdir()) == ["a_0.jpg", "a_1.jpg", "a_2.jpg", "captured.jsonl"]


@pytest.mark.parametrize("item_id", ["../x", "a/b", "/etc/x", "..", ".partial", "a\\b", "x" * 250])
def test_an_item_id_that_is_a_path_is_refused(tmp_path, item_id):
    bare_store(tmp_path, ids=("a", item_id, "c"))
    (tmp_path / "set/frames").mkdir()
    for script, flags in ((video_frame_capture, ("--videos", tmp_path)), (visual_engineering, ("--encoder", "any"))):
        with pytest.raises(InputError, match="1 item ids cannot name a file"):
            call(script, tmp_path, *flags)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["set"]
