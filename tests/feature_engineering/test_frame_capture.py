"""Videos -> frames: which ones, from which files, and what a second run does."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest
from bare import bare_store, call
from PIL import Image

from common.console import InputError
from dataloader.skipped import read_skipped
from feature_engineering import video_frame_capture as frame_capture
from feature_engineering import visual_engineering
from feature_engineering.decoding.captured import read_captured
from feature_engineering.decoding.videos import capture


def write_grey(path: Path, count: int, options: dict | None = None) -> None:
    """A clip of key frames; frame k is grey of level 20 + 5k."""
    with av.open(str(path), "w", options=options or {}) as container:
        stream = container.add_stream("libx264", rate=10, options={"g": "1", "crf": "10", "bf": "0"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for k in range(count):
            grey = np.full((48, 64, 3), 20 + 5 * k, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(grey, format="rgb24")))
        container.mux(stream.encode())


def index_of(picture) -> int:
    """Which frame of a grey clip a picture is."""
    return round((float(np.asarray(picture).mean()) - 20) / 5)


def protocol(count: int, frame_num: int) -> list[int]:
    """Published: the positions that a reader meets, each once; the last one it met repeats."""
    found = [k for k in range(count) if k in [int(position) for position in np.linspace(0, count - 1, frame_num)]]
    return found + [found[-1]] * (frame_num - len(found))


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])  # Matroska declares no frame count
@pytest.mark.parametrize(("count", "frame_num"), [(37, 10), (37, 4), (3, 10), (1, 4), (12, 1), (10, 10)])
def test_frames_are_those_of_the_protocol(tmp_path, suffix, count, frame_num):
    bare_store(tmp_path, ids=("a", "b", "c"))
    for item_id in "abc":
        write_grey(tmp_path / f"{item_id}{suffix}", count)
    call(frame_capture, tmp_path, "--videos", tmp_path, "--frame_num", frame_num)
    frames = tmp_path / "set/frames"
    found = [index_of(Image.open(frames / f"a_{k}.jpg")) for k in range(frame_num)]
    assert found == protocol(count, frame_num)
    assert len(list(frames.iterdir())) == 3 * frame_num + 1
    assert read_captured(frames / "captured.jsonl")["b"] == {"frames": frame_num, "real": len(set(found))}


def test_a_stream_that_breaks_off_gives_what_is_there_and_says_so(tmp_path):
    whole = tmp_path / "whole.mp4"
    write_grey(whole, 37, options={"movflags": "faststart"})  # the index in front outlives the cut
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(whole.read_bytes()[: int(whole.stat().st_size * 0.7)])
    captured = capture(cut, 10)
    found = [index_of(image) for image in captured.images]
    assert 8 < found[-1] < 36
    assert found == protocol(found[-1] + 1, 10)  # spread over what is there
    assert f"{found[-1] + 1} of 37 frames are there" in captured.note


@pytest.mark.parametrize(("family", "frame_num"), [("MicroLens", 10), ("NUS", 4)])
def test_the_family_says_how_many_frames(tmp_path, family, frame_num):
    bare_store(tmp_path, ids=("a",), family=family)
    write_grey(tmp_path / "a.mp4", 12)
    call(frame_capture, tmp_path, "--videos", tmp_path, "--frames", tmp_path / "elsewhere")
    assert len(list((tmp_path / "elsewhere").glob("a_*.jpg"))) == frame_num


def test_missing_and_broken_videos_are_listed_and_a_rerun_goes_on(tmp_path, run):
    bare_store(tmp_path)
    videos = tmp_path / "videos"
    videos.mkdir()
    for name in ("a.mp4", "b.mp4", "c.mp4", "c.mkv"):
        write_grey(videos / name, 5)
    (videos / "d.mp4").write_bytes(b"not a video")
    (videos / "e.json").write_text("{}")
    command = ("feature_engineering/video_frame_capture.py", "--dataset_path", tmp_path, "--dataset_id", "set")
    result = run(*command, "--videos", videos, "--frame_num", 4)
    assert result.returncode == 0 and len(result.stderr.splitlines()) == 1, result.stderr
    assert result.stderr.startswith("warning: 4 of 6 items (67%) could not be used")
    reasons = {row["item_id"]: row["reason"] for row in read_skipped(tmp_path / "set")}
    assert reasons.pop("d")
    assert reasons.pop("c") == "ambiguous: c.mkv and c.mp4" and list(reasons) == ["e", "f"]
    assert all(why.startswith("missing: ") for why in reasons.values())
    frames = tmp_path / "set/frames"
    assert {path.name[0] for path in frames.glob("*.jpg")} == {"a", "b"}
    result = run(*command, "--videos", videos, "--frame_num", 4, "--on_error", "fail")
    assert result.returncode == 2 and "item c: ambiguous" in result.stderr and len(result.stderr.splitlines()) == 1

    (frames / "a_0.jpg").write_bytes(b"mark")
    (videos / "c.mkv").unlink()
    for name in ("d.mp4", "e.mp4", "f.webm"):
        write_grey(videos / "c2.mp4", 5)
        (videos / "c2.mp4").rename(videos / name)
    call(frame_capture, tmp_path, "--videos", videos, "--frame_num", 4)
    assert sorted({path.name[0] for path in frames.glob("*.jpg")}) == list("abcdef")
    assert (frames / "a_0.jpg").read_bytes() == b"mark"  # what was there was not captured again
    assert read_skipped(tmp_path / "set") == []

    with pytest.raises(InputError, match="another number of frames"):
        call(frame_capture, tmp_path, "--videos", videos, "--frame_num", 3)
    call(frame_capture, tmp_path, "--videos", videos, "--frame_num", 3, "--overwrite")
    assert len(list(frames.glob("*.jpg"))) == 6 * 3


@pytest.mark.parametrize("item_id", ["../x", "a/b", "/etc/x", "..", ".partial", "a\\b", "x" * 250])
def test_an_item_id_that_is_a_path_is_refused(tmp_path, item_id):
    bare_store(tmp_path, ids=("a", item_id, "c"))
    (tmp_path / "set/frames").mkdir()
    for script, flags in ((frame_capture, ("--videos", tmp_path)), (visual_engineering, ("--encoder", "any"))):
        with pytest.raises(InputError, match="1 item ids cannot name a file"):
            call(script, tmp_path, *flags)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["set"]
