"""Videos -> frames: which ones, from which files, and what a second run does."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest
from bare import bare_store, call
from PIL import Image

from dataloader.console import InputError
from feature_engineering import frame_capture, visual_engineering


def write_grey(path: Path, count: int, options: dict | None = None) -> None:
    """A clip of key frames; frame k is grey of level 20 + 5k."""
    with av.open(str(path), "w", options=options or {}) as container:
        stream = container.add_stream("libx264", rate=10, options={"g": "1", "crf": "10", "bf": "0"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for k in range(count):
            grey = np.full((48, 64, 3), 20 + 5 * k, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(grey, format="rgb24")))
        container.mux(stream.encode())


def indices_in(folder: Path) -> list[int]:
    """Which frame each picture of a grey clip is."""
    pictures = sorted(folder.glob("*.jpg"))
    return [round((float(np.asarray(Image.open(path)).mean()) - 20) / 5) for path in pictures]


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])  # Matroska declares no frame count
@pytest.mark.parametrize(("count", "frame_num"), [(37, 10), (37, 4), (3, 10), (1, 4), (12, 1), (10, 10)])
def test_frames_are_those_of_the_protocol(tmp_path, suffix, count, frame_num):
    bare_store(tmp_path, ids=("a", "b", "c"))
    for item_id in "abc":
        write_grey(tmp_path / f"{item_id}{suffix}", count)
    call(frame_capture, tmp_path, "--videos", tmp_path, "--frame_num", frame_num)
    expected = [int(position) for position in np.linspace(0, count - 1, frame_num)]
    assert indices_in(tmp_path / "set/frames/a") == expected
    names = [path.name for path in sorted((tmp_path / "set/frames/a").iterdir())]
    assert names == [f"{k:02d}.jpg" for k in range(frame_num)]
    assert not (tmp_path / "set/frames" / frame_capture.PARTIAL).exists()


def test_where_decoding_ends_early_the_last_frame_is_repeated(tmp_path):
    whole = tmp_path / "whole.mp4"
    write_grey(whole, 37, options={"movflags": "faststart"})  # the index in front outlives the cut
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(whole.read_bytes()[: int(whole.stat().st_size * 0.7)])
    (tmp_path / "out").mkdir()
    for k, image in enumerate(frame_capture.capture(cut, 10)):
        image.save(tmp_path / f"out/{k:02d}.jpg", quality=95)
    found, protocol = indices_in(tmp_path / "out"), [int(p) for p in np.linspace(0, 36, 10)]
    last = max(found)
    assert 8 < last < 36
    assert found == [min(index, last) for index in protocol]


@pytest.mark.parametrize(("family", "frame_num"), [("MicroLens", 10), ("NUS", 4)])
def test_the_family_says_how_many_frames(tmp_path, family, frame_num):
    bare_store(tmp_path, ids=("a",), family=family)
    write_grey(tmp_path / "a.mp4", 12)
    call(frame_capture, tmp_path, "--videos", tmp_path, "--frames", tmp_path / "elsewhere")
    assert len(list((tmp_path / "elsewhere/a").iterdir())) == frame_num


def test_missing_and_broken_videos_are_named_together_and_a_rerun_goes_on(tmp_path, run):
    bare_store(tmp_path)
    videos = tmp_path / "videos"
    videos.mkdir()
    for name in ("a.mp4", "b.mp4", "c.mp4", "c.mkv"):
        write_grey(videos / name, 5)
    (videos / "d.mp4").write_bytes(b"not a video")
    (videos / "e.json").write_text("{}")
    command = ("feature_engineering/frame_capture.py", "--dataset_path", tmp_path, "--dataset_id", "set")
    result = run(*command, "--videos", videos, "--frame_num", 4)
    assert result.returncode == 2 and len(result.stderr.splitlines()) == 1
    for part in ("2 of 6 videos are missing (e, f)", "2 of 6 cannot be read", "c.mkv and c.mp4", "d: undecodable"):
        assert part in result.stderr
    frames = tmp_path / "set/frames"
    assert sorted(path.name for path in frames.iterdir()) == ["a", "b"]

    (frames / "a/00.jpg").write_bytes(b"mark")
    (videos / "c.mkv").unlink()
    for name in ("d.mp4", "e.mp4", "f.webm"):
        write_grey(videos / "c2.mp4", 5)
        (videos / "c2.mp4").rename(videos / name)
    call(frame_capture, tmp_path, "--videos", videos, "--frame_num", 4)
    assert sorted(path.name for path in frames.iterdir()) == list("abcdef")
    assert (frames / "a/00.jpg").read_bytes() == b"mark"  # what was there was not captured again

    with pytest.raises(InputError, match="another number of frames"):
        call(frame_capture, tmp_path, "--videos", videos, "--frame_num", 3)
    call(frame_capture, tmp_path, "--videos", videos, "--frame_num", 3, "--overwrite")
    assert all(len(list(folder.iterdir())) == 3 for folder in frames.iterdir())


@pytest.mark.parametrize("item_id", ["../x", "a/b", "/etc/x", "..", ".partial", "a\\b", "x" * 250])
def test_an_item_id_that_is_a_path_is_refused(tmp_path, item_id):
    bare_store(tmp_path, ids=("a", item_id, "c"))
    (tmp_path / "set/frames").mkdir()
    for script, flags in ((frame_capture, ("--videos", tmp_path)), (visual_engineering, ("--encoder", "any"))):
        with pytest.raises(InputError, match="1 item ids cannot name a file"):
            call(script, tmp_path, *flags)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["set"]


def test_real_clips_are_all_decoded_and_upright(tmp_path, shared):
    clips = sorted(path for path in shared.glob("clips/*") if path.suffix != ".md")
    if not clips:
        pytest.skip(f"no clips in {shared}")
    (tmp_path / "videos").mkdir()
    for path in clips:  # two of them differ in the suffix alone: the id is the whole name
        (tmp_path / "videos" / (path.name + path.suffix)).symlink_to(path)
    bare_store(tmp_path, ids=[path.name for path in clips])
    call(frame_capture, tmp_path, "--videos", tmp_path / "videos", "--frame_num", 2)
    frames = tmp_path / "set/frames"
    assert len(list(frames.glob("*/01.jpg"))) == len(clips)
    sizes = {name: Image.open(frames / f"decord__video_{name}.mov/00.jpg").size for name in ("0", "90", "180")}
    assert sizes == {"0": (568, 320), "90": (320, 568), "180": (568, 320)}
