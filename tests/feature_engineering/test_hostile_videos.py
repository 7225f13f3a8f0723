"""Files as they are found: cut, overwritten, empty, of another kind, named anyhow. Frames or a reason, and no more."""

from __future__ import annotations

import collections
import contextlib
import csv
import errno
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import av
import numpy as np
import pytest
from bare import bare_store
from conftest import ROOT
from PIL import Image
from test_videos import write

from dataloader.store import FeatureStore
from feature_engineering.decoding.videos import capture
from feature_engineering.decoding.workers import Failure, in_workers

pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="processes are looked up in /proc")
FRAME_NUM = 2
CAPTURE, ENCODE = "feature_engineering/video_frame_capture.py", "feature_engineering/visual_engineering.py"


# ---- the files -----------------------------------------------------------------------------------


def damaged(data: bytes) -> dict[str, bytes]:
    """Kind of damage -> the file's bytes."""
    middle, noise = len(data) // 2, np.random.default_rng(0).bytes(1000)
    cuts = {f"cut at {percent} %": data[: len(data) * percent // 100] for percent in (10, 50, 99)}
    written = {"zeros": bytes(1000), "noise": noise}
    return cuts | {kind: data[:middle] + new + data[middle + 1000 :] for kind, new in written.items()}


def write_audio(path: Path) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=44100)
        for k in range(20):
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
            frame.sample_rate, frame.pts = 44100, 1024 * k
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def write_odd_files(folder: Path, sound: Path) -> dict[str, str]:
    """Item id -> kind: what is no video at all, and sound videos with odd names."""
    secret = folder / "secret.bin"
    secret.write_bytes(sound.read_bytes())
    texts = {
        "text": "A cat plays the piano.\n" * 50,
        "html": "<!DOCTYPE html><html><body>429 Too Many Requests</body></html>",
        "playlist": f"#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\n{secret}\n#EXT-X-ENDLIST\n",
        "ffconcat": f"ffconcat version 1.0\nfile '{secret.name}'\n",
        "sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\nc=IN IP4 127.0.0.1\nm=video 5004 RTP/AVP 96\na=rtpmap:96 H264/90000\n",
        "empty": "",
    }
    for kind, text in texts.items():
        (folder / f"{kind}.mp4").write_text(text)
    write_audio(folder / "audio.mp4")
    Image.new("RGB", (64, 48)).save(folder / "picture.mp4", "png")
    (folder / "folder.mp4").mkdir()
    (folder / "link.mp4").symlink_to(folder / "nothing.mp4")
    (folder / "device.mp4").symlink_to("/dev/zero")
    os.mkfifo(folder / "fifo.mp4")
    (folder / "two.mp4").write_bytes(sound.read_bytes())
    (folder / "two.mkv").write_bytes(sound.read_bytes())
    kinds = dict.fromkeys(
        [*texts, "audio", "picture", "folder", "link", "device", "fifo", "two", "missing"], "no video"
    )
    names = [
        "a  b",
        'it\'s "so"',
        "🎬 é ünï",
        "x" * 200,
        "-i",
        "concat:a|b",
        "50%d",
        "a\nb",
        "a\u2028b\x85",
        "[*?]",
        "a.b.mp4",
        "$HOME;ls",
    ]
    for name in names:
        (folder / f"{name}.mp4").write_bytes(sound.read_bytes())
    return kinds | dict.fromkeys(names, "odd name")


@pytest.fixture(scope="module")
def files(tmp_path_factory, shared) -> tuple[Path, dict[str, str]]:
    """A folder of videos, and what kind of file each item has; the clips with five kinds of damage each."""
    folder, kinds = tmp_path_factory.mktemp("hostile") / "videos", {}
    folder.mkdir()
    clips = sorted(path for path in shared.glob("clips/*") if path.suffix != ".md")
    for clip in clips:
        for kind, data in ({"whole": clip.read_bytes()} | damaged(clip.read_bytes())).items():
            item_id = f"{clip.name} {kind}"
            (folder / f"{item_id}{clip.suffix}").write_bytes(data)
            kinds[item_id] = kind
    return folder, kinds | write_odd_files(folder, clips[1])


# ---- running and looking at processes --------------------------------------------------------------


def processes_of(session: int) -> list[str]:
    """The command lines of a session's processes that live."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
            if int(fields[3]) == session and fields[0] != "Z":
                found.append((stat.parent / "cmdline").read_text().replace("\0", " "))
        except (OSError, ValueError, IndexError):  # it ended meanwhile
            continue
    return found


def start(script: str, tmp_path: Path, *flags) -> subprocess.Popen:
    """A script on the data set of `bare_store`, in a session of its own, so that what it leaves behind is found."""
    where = ["--dataset_path", tmp_path, "--dataset_id", "set"]
    command = [sys.executable, *map(str, (script, *where, *flags))]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "encoding": "utf-8"}
    return subprocess.Popen(command, cwd=ROOT, start_new_session=True, **pipes)


def gone(process: subprocess.Popen, seconds: float = 30) -> bool:
    """Whether nothing of its session is left, at the latest after `seconds`."""
    end = time.monotonic() + seconds
    while (left := processes_of(process.pid)) and time.monotonic() < end:
        time.sleep(0.05)
    print(*left, sep="\n")
    return not left


def finish(script: str, tmp_path: Path, *flags) -> str:
    process = start(script, tmp_path, *flags)
    out, err = process.communicate(timeout=580)
    assert process.returncode == 0, err
    assert "Traceback" not in err and gone(process)
    return out + err


def skipped(tmp_path: Path) -> dict[str, str]:
    with (tmp_path / "set/skipped.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len({row["item_id"] for row in rows}) == len(rows)
    return {row["item_id"]: row["reason"] for row in rows}


def show_counts(kinds: dict[str, str], reasons: dict[str, str], notes: dict[str, str]) -> None:
    for kind in dict.fromkeys(kinds.values()):
        items = [item_id for item_id in kinds if kinds[item_id] == kind]
        lost = collections.Counter(reasons[item_id] for item_id in items if item_id in reasons)
        noted = sum(item_id in notes for item_id in items)
        print(f"{kind}: {len(items)} files, {len(items) - lost.total()} gave frames ({noted} noted), {dict(lost)}")


# ---- every file ----------------------------------------------------------------------------------


@pytest.mark.slow
def test_every_file_gives_frames_or_a_reason(tmp_path, files):
    videos, kinds = files
    bare_store(tmp_path, ids=list(kinds))
    out = finish(CAPTURE, tmp_path, "--videos", videos, "--frame_num", FRAME_NUM, "--workers", 2)
    frames, reasons = tmp_path / "set/frames", skipped(tmp_path)
    lines = (frames / "captured.jsonl").read_text("utf-8").split("\n")
    captured = {facts["item_id"]: facts for facts in map(json.loads, filter(None, lines))}
    show_counts(kinds, reasons, {item_id: facts["note"] for item_id, facts in captured.items() if "note" in facts})

    assert captured.keys() | reasons.keys() == kinds.keys() and not captured.keys() & reasons.keys()
    names = {f"{item_id}_{k}.jpg" for item_id in captured for k in range(FRAME_NUM)} | {"captured.jsonl"}
    assert {path.name for path in frames.iterdir()} == names  # nothing half-written either
    for item_id in captured:
        with Image.open(frames / f"{item_id}_{FRAME_NUM - 1}.jpg") as image:
            image.load()
    for item_id, kind in kinds.items():
        assert kind not in ("whole", "odd name") or item_id in captured, (item_id, reasons.get(item_id))
        assert kind != "no video" or item_id in reasons, item_id
    assert all(reason and "\n" not in reason and str(videos) not in reason for reason in reasons.values())
    assert f"{len(reasons)} of {len(kinds)} videos gave no frames" in out
    assert out.splitlines()[-1].startswith(f"warning: {len(reasons)} of {len(kinds)} items")
    for item_id, reason in {
        "empty": "empty, 0 bytes",
        "folder": "a folder, not a file",
        "link": "a link to nothing",
        "fifo": "not a regular file",
        "device": "not a regular file",
        "two": "ambiguous: two.mkv and two.mp4",
        "audio": "no video stream in it",
    }.items():
        assert reasons[item_id] == reason
    assert reasons["missing"].startswith("missing: ")
    assert reasons["picture"] == "a picture (PNG) under a video's name" and "a web page" in reasons["html"]


@pytest.mark.slow
def test_every_file_goes_into_the_encoder_or_has_a_reason(tmp_path, files, vit):
    """The small files, by their way without pictures; frames by both ways are the same."""
    videos, kinds = files
    sizes = {path.stem: path.stat().st_size for path in videos.iterdir() if path.is_file() and not path.is_fifo()}
    few = [item_id for item_id in kinds if sizes.get(item_id, 0) < 60_000]
    bare_store(tmp_path, ids=few)
    out = finish(ENCODE, tmp_path, "--videos", videos, "--encoder", vit, "--frame_num", FRAME_NUM, "--workers", 2)
    store, reasons = FeatureStore.open(tmp_path / "set", need=("visual",)), skipped(tmp_path)
    assert len(few) > 150 and store.features["visual"].shape == (len(few) - len(reasons), FRAME_NUM, 16)
    assert store.items.item_id.tolist() == [item_id for item_id in few if item_id not in reasons]
    assert np.isfinite(store.features["visual"]).all() and store.features["visual"].any(axis=(1, 2)).all()
    assert {item_id for item_id in few if kinds[item_id] == "no video"} <= reasons.keys()
    assert not {item_id for item_id in few if kinds[item_id] in ("whole", "odd name")} & reasons.keys()
    names = [item_id for item_id in few if kinds[item_id] == "odd name"]
    rows = [store.items.item_id.tolist().index(item_id) for item_id in names]
    for row in rows:  # copies of one clip, in other places of their batches
        np.testing.assert_allclose(store.features["visual"][row], store.features["visual"][rows[0]], atol=1e-5)
    assert re.search(f"{len(reasons)} of {len(few)} items left out", out)


def test_what_decodes_before_a_break_is_used_and_said(tmp_path):
    whole = write(tmp_path / "v.mp4", 60, options={"g": "1"}, container_options={"movflags": "faststart"})
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size * 6 // 10])
    captured, all_of_it = capture(cut, 5), capture(whole, 60).images
    found = re.fullmatch(r"(\d+) of 60 frames are there(; broken: .*)?", captured.note)
    count = int(found[1])
    assert 20 < count < 50 and captured.real == 5
    for position, image in zip(np.linspace(0, count - 1, 5).astype(int)[:-1], captured.images, strict=False):
        assert np.array_equal(image, all_of_it[position])


def test_what_declares_a_duration_alone_is_said_to_end_early(tmp_path):
    whole = write(tmp_path / "v.mkv", 60, options={"g": "1"})
    cut = tmp_path / "cut.mkv"
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    assert capture(whole, 5).note == ""
    assert re.fullmatch(r"it ends after [23]\.\d of 6\.0 s(; broken: .*)?", capture(cut, 5).note)


# ---- workers -------------------------------------------------------------------------------------


def behave(how: str) -> str:
    """What a decoder may do; in a worker."""
    if how == "crash":
        os.kill(os.getpid(), signal.SIGSEGV)
    if how == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if how == "exit":
        os._exit(3)
    if how == "hang":
        time.sleep(1000)
    if how == "raise":
        raise ValueError("broken\n  in two lines")
    if how == "memory":
        raise MemoryError
    if how == "full":
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    return how


@pytest.mark.slow
def test_a_long_path_for_temporary_files_does_not_end_it(tmp_path, monkeypatch):
    """A forkserver listens on a socket there, whose address holds 107 bytes."""
    place = tmp_path / ("long" * 20)
    place.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(place))
    assert list(in_workers(behave, [("a",)], workers=1, timeout=60)) == list(map(behave, ["a"]))


def test_a_full_disk_is_no_failure_of_a_file():
    with pytest.raises(OSError, match="No space left"):
        list(in_workers(behave, [("a",), ("full",), ("b",)], workers=1, timeout=60))


@pytest.mark.slow
def test_a_decoder_that_crashes_or_hangs_costs_its_file_alone():
    tasks = ["a", "crash", "b", "hang", "killed", "c", "exit", "raise", "memory", "d", "hang", "e"]
    results = dict(enumerate(in_workers(behave, [(how,) for how in tasks], workers=2, timeout=3, ahead=1)))
    reasons = {tasks[k]: result.reason for k, result in results.items() if isinstance(result, Failure)}
    assert [result for result in results.values() if not isinstance(result, Failure)] == ["a", "b", "c", "d", "e"]
    assert reasons == {
        "crash": "the decoder crashed (exit code -11)",
        "killed": "the decoder crashed (exit code -9)",
        "exit": "the decoder crashed (exit code 3)",
        "hang": "gave nothing within 3 s",
        "raise": "broken in two lines",
        "memory": "MemoryError",
    }


def resident(path: Path) -> float:
    """Decode a file if it can be; the MB that this process has afterwards. In a worker."""
    with contextlib.suppress(ValueError, av.FFmpegError):
        capture(path, FRAME_NUM, threads=1)
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def test_memory_does_not_grow_with_the_files(files):
    videos, kinds = files
    some = [path for path in videos.iterdir() if path.stem in kinds and path.is_file() and not path.is_fifo()]
    some = sorted(path for path in some if 0 < path.stat().st_size < 30_000)
    sizes = list(in_workers(resident, [(path,) for path in some * 4], workers=1, timeout=60))
    after = [max(sizes[k * len(some) : (k + 1) * len(some)]) for k in range(4)]
    print(f"{len(some)} files four times over, MB at most in each round:", [round(size) for size in after])
    assert after[3] - after[1] < 15


# ---- ending early --------------------------------------------------------------------------------


@pytest.fixture
def long_job(tmp_path) -> tuple[Path, Path]:
    """The data set's place and a folder of 200 links to a clip that takes a moment."""
    videos = tmp_path / "videos"
    videos.mkdir()
    clip = write(tmp_path / "clip.mp4", 60, size=(160, 120), options={"g": "60", "preset": "ultrafast"})
    ids = [f"v{k}" for k in range(200)]
    for item_id in ids:
        (videos / f"{item_id}.mp4").symlink_to(clip)
    bare_store(tmp_path, ids=ids)
    return tmp_path, videos


def wait_for(process: subprocess.Popen, path: Path, lines: int) -> None:
    """Until `path` has so many lines, while the process lives."""
    while not (path.exists() and path.read_bytes().count(b"\n") >= lines):
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_workers_end_with_the_job(long_job, how):
    tmp_path, videos = long_job
    process = start(CAPTURE, tmp_path, "--videos", videos, "--frame_num", 20, "--workers", 2)
    wait_for(process, tmp_path / "set/frames/captured.jsonl", 3)
    assert len(processes_of(process.pid)) >= 3
    if how == signal.SIGINT:
        os.killpg(process.pid, how)  # as a terminal does: every process of the job gets it
    else:
        process.send_signal(how)
    _, err = process.communicate(timeout=60)
    assert process.returncode == (130 if how == signal.SIGINT else -how), err
    assert gone(process)
    if how == signal.SIGINT:
        assert [line for line in err.splitlines() if line] == ["video_frame_capture.py: interrupted"]


@pytest.mark.slow
def test_captured_frames_of_a_killed_job_are_kept_and_the_rest_follows(long_job, run):
    tmp_path, videos = long_job
    flags = ("--videos", videos, "--frame_num", 3, "--workers", 2)
    process = start(CAPTURE, tmp_path, *flags)
    wait_for(process, tmp_path / "set/frames/captured.jsonl", 20)
    process.kill()
    process.communicate()
    assert gone(process)
    there = (tmp_path / "set/frames/captured.jsonl").read_bytes().count(b"\n")
    out = finish(CAPTURE, tmp_path, *flags)
    assert 20 <= there < 200 and f"3 frames of {200 - there} videos captured, {there} were there already" in out
    pictures = sorted((tmp_path / "set/frames").glob("*.jpg"))
    assert len(pictures) == 600 and len({path.read_bytes() for path in pictures}) == 3
    assert not list((tmp_path / "set/frames").glob("*.partial"))
