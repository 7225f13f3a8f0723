"""A job killed at any moment, and the same command again: the bits of a run that nothing disturbed."""

from __future__ import annotations

import csv
import itertools
import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from bare import bare_store, call
from PIL import Image
from test_hostile_videos import ENCODE, finish, gone, start, wait_for
from test_videos import write
from tiny import make_store

from common.console import InputError
from dataloader.store import FeatureStore
from dataloader.thumbnails import FILE as THUMBNAILS
from dataloader.thumbnails import write_thumbnails
from feature_engineering import visual_engineering
from feature_engineering.decoding import frames
from feature_engineering.decoding.naming import find_images
from feature_engineering.decoding.workers import attempt
from feature_engineering.encoding import images
from feature_engineering.jobs.progress import Progress

RESULT = (
    "visual.npy",
    "textual.npy",
    "items.parquet",
    "dataset.json",
    "skipped.csv",
    "captured.jsonl",
    "thumbnails.parquet",
)
IDS = tuple(f"v{k}" for k in range(11))
BROKEN = {"v0": "no picture of it", "v4": "v4_1.jpg cannot be read", "v5": "3 pictures, not 2"}


def content(folder: Path, names=RESULT) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in names}


class Killed(BaseException):
    """As SIGKILL: nothing catches it, and the disk stays as it was at that moment."""


@pytest.fixture
def kill_at(monkeypatch) -> Callable[[int | None], None]:
    """kill_at(n): at the n-th moment before or after a rename, a sync or a removal; kill_at(None): never."""
    real = {"replace": Path.replace, "unlink": Path.unlink, "fsync": os.fsync, "rmtree": shutil.rmtree}
    moments, dead = itertools.repeat(1), False

    def between(act: Callable) -> Callable:
        def guarded(*args, **kwargs):
            nonlocal dead
            for step in ("before", "after"):
                dead = dead or next(moments) == 0
                if dead:
                    raise Killed
                if step == "before":
                    result = act(*args, **kwargs)
            return result

        return guarded

    def unlink(path, missing_ok=False):  # stands in `finally`
        if not dead:
            real["unlink"](path, missing_ok=missing_ok)

    def arm(moment: int | None) -> None:
        nonlocal moments, dead
        moments, dead = itertools.repeat(1) if moment is None else itertools.count(moment, -1), False

    monkeypatch.setattr(Path, "replace", between(real["replace"]))
    monkeypatch.setattr(Path, "unlink", unlink)
    monkeypatch.setattr(os, "fsync", between(real["fsync"]))
    monkeypatch.setattr(shutil, "rmtree", between(real["rmtree"]))
    return arm


@pytest.fixture
def pictures(tmp_path) -> Path:
    """A data set with texts' features, and two pictures of each item, three items aside."""
    rng, folder = np.random.default_rng(0), tmp_path / "set/frames"
    store = bare_store(tmp_path, ids=IDS)
    with store.add_array("textual", (len(IDS), 4), "float32") as out:
        out[:] = rng.standard_normal(out.shape)
    folder.mkdir()
    for item_id in IDS[1:]:
        for k in range(3 if item_id == "v5" else 2):
            Image.fromarray(rng.integers(0, 256, (8, 8, 3), np.uint8)).save(folder / f"{item_id}_{k}.jpg")
    (folder / "v4_1.jpg").write_bytes(b"no picture")
    return tmp_path


def in_this_process(function, tasks, *_):
    """In place of in_workers, as hundreds of jobs follow each other."""
    yield from (attempt(function, task) for task in tasks)


@pytest.mark.slow
@pytest.mark.parametrize("policy", ["skip", "zero"])
def test_killed_at_every_moment_of_writing_and_continued(pictures, tmp_path_factory, vit, monkeypatch, kill_at, policy):
    monkeypatch.setattr(images, "SHARD_ITEMS", 4)
    monkeypatch.setattr(frames, "in_workers", in_this_process)
    flags = ("--frames", pictures / "set/frames", "--encoder", vit, "--on_error", policy)
    undisturbed, place = (tmp_path_factory.mktemp(name) for name in ("undisturbed", "killed"))
    shutil.copytree(pictures / "set", undisturbed / "set")
    store = call(visual_engineering, undisturbed, *flags)
    expected = content(undisturbed / "set")
    assert len(store) == (8 if policy == "skip" else 11) and store.features["textual"].shape == (len(store), 4)
    assert [row["item_id"] for row in read(undisturbed / "set/skipped.csv")] == list(BROKEN)

    survived, moment = 0, 0
    while not survived:
        shutil.copytree(pictures / "set", place / "set")
        kill_at(moment)
        try:
            call(visual_engineering, place, *flags)
            survived = moment
        except Killed:
            kill_at(None)
            try:
                call(visual_engineering, place, *flags)
            except InputError as error:  # only the progress was still to be removed
                assert "features are here already" in str(error)
        kill_at(None)
        assert content(place / "set") == expected, moment
        assert FeatureStore.open(place / "set", need=("visual",)).fingerprint == store.fingerprint
        assert not list((place / "set").glob("*.next"))
        shutil.rmtree(place / "set")
        moment += 1
    print(f"--on_error {policy}: killed at {survived} moments")
    assert survived > (50 if policy == "skip" else 30)


def read(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.slow
def test_the_command_killed_in_the_middle_and_continued(tmp_path, vit):
    videos, ids = tmp_path / "videos", [f"v{k}" for k in range(40)]
    videos.mkdir()
    clips = [write(tmp_path / f"{k}.mp4", 30 + k, options={"g": "10"}) for k in range(3)]
    for k, item_id in enumerate(ids):
        if k % 30 != 7:
            (videos / f"{item_id}.mp4").symlink_to(clips[k % 3])
    (videos / "v20.mp4").unlink()
    (videos / "v20.mp4").write_bytes(b"no video" * 100)
    flags = ("--videos", videos, "--encoder", vit, "--frame_num", 4, "--batch_size", 7)
    names = [name for name in RESULT if name != "textual.npy"]
    for name in ("undisturbed", "killed"):
        bare_store(tmp_path / name, ids=ids)
    call(visual_engineering, tmp_path / "undisturbed", *flags, "--workers", 2)
    process = start(ENCODE, tmp_path / "killed", *flags, "--workers", 2)
    wait_for(process, tmp_path / "killed/set/visual.progress/done.jsonl", 1)
    process.kill()
    process.communicate()
    assert gone(process)
    with pytest.raises(InputError, match="another command"):
        call(visual_engineering, tmp_path / "killed", *flags[:-1], 9)
    out = finish(ENCODE, tmp_path / "killed", *flags, "--workers", 1)  # their number changes nothing
    assert re.search(r"going on, (32|40) of 40 videos are encoded", out)
    assert content(tmp_path / "killed/set", names) == content(tmp_path / "undisturbed/set", names)
    assert len(read(tmp_path / "killed/set/skipped.csv")) == 3
    assert not (tmp_path / "killed/set/visual.progress").exists()


# ---- progress that cannot be gone on with ----------------------------------------------------------


@pytest.fixture
def begun(pictures, vit, monkeypatch, kill_at) -> tuple[Path, tuple]:
    """A data set whose encoding was killed after two shards of three, and the flags of the command."""
    monkeypatch.setattr(images, "SHARD_ITEMS", 4)
    monkeypatch.setattr(frames, "in_workers", in_this_process)
    commit = Progress.commit

    def commit_two(self, number, *args, **notes):
        if number == 2:
            raise Killed
        commit(self, number, *args, **notes)

    flags = ("--encoder", vit, "--workers", 1)
    with monkeypatch.context() as patched, pytest.raises(Killed):
        patched.setattr(Progress, "commit", commit_two)
        call(visual_engineering, pictures, *flags)
    return pictures, flags


@pytest.mark.parametrize("name", ["settings.json", "units.json", "done.jsonl", "features.npy"])
@pytest.mark.parametrize("damage", ["garbage", "truncated", "empty", "another"])
def test_damaged_progress_is_refused_in_one_line_and_dropped_when_asked(begun, name, damage):
    place, flags = begun
    path = place / "set/visual.progress" / name
    data, another = path.read_bytes(), {"done.jsonl": b"[1, 2]\n", "features.npy": b""}.get(name, b"[1, 2]")
    made = {"garbage": b"\x80\x00garbage\n", "truncated": data[: len(data) // 2], "empty": b"", "another": another}
    path.write_bytes(made[damage])
    if name == "done.jsonl" and damage in ("truncated", "empty"):  # as a kill leaves it: fewer shards are done
        assert len(call(visual_engineering, place, *flags)) == 8
        return
    with pytest.raises((InputError, OSError)) as error:
        call(visual_engineering, place, *flags)
    assert str(path.parent) in str(error.value) and "\n" not in str(error.value)
    assert len(call(visual_engineering, place, *flags, "--overwrite")) == 8


@pytest.mark.parametrize(
    "shard", ['{"shard": 0, "failed": [1]}', '{"shard": 0, "captured": "x"}', '{"shard": "x"}', "7", "{}"]
)
def test_a_shard_that_says_nonsense_is_refused(begun, shard):
    place, flags = begun
    (place / "set/visual.progress/done.jsonl").write_text(shard + "\n")
    with pytest.raises(InputError, match="not the file of a job's progress; --overwrite"):
        call(visual_engineering, place, *flags)


@pytest.mark.parametrize("content", ['{"keys": 5}', "{}", '{"keys": []}'])
def test_units_that_are_not_the_items_are_refused(begun, content):
    place, flags = begun
    (place / "set/visual.progress/units.json").write_text(content)
    (place / "set/visual.progress/manifest.jsonl").unlink()  # with it, what was changed by hand is refused as such
    with pytest.raises(InputError, match="other items"):
        call(visual_engineering, place, *flags)


@pytest.mark.parametrize("change", ["frame_num", "precision", "items", "encoder"])
def test_the_progress_of_another_command_is_refused(begun, vit, tmp_path, change):
    place, flags = begun
    if change == "items":
        (place / "set/visual.progress").rename(place / "aside")  # making a data set anew removes it
        bare_store(place, ids=IDS[::-1])
        (place / "aside").rename(place / "set/visual.progress")
    if change == "encoder":
        shutil.copytree(vit, tmp_path / "other")
        flags = ("--encoder", tmp_path / "other", *flags[2:])
    more = {"frame_num": ("--frame_num", 3), "precision": ("--precision", "bf16")}.get(change, ())
    with pytest.raises(InputError, match="the unfinished work of another command .*--overwrite drops it"):
        call(visual_engineering, place, *flags, *more)


def test_another_policy_may_go_on_but_fails_on_what_failed(begun):
    place, flags = begun
    with pytest.raises(InputError, match="item v0: no picture of it"):
        call(visual_engineering, place, *flags, "--on_error", "fail")
    (place / "set/frames/v0_0.jpg").write_bytes((place / "set/frames/v1_0.jpg").read_bytes())
    (place / "set/frames/v5_2.jpg").unlink()
    with pytest.raises(InputError, match="item v0: no picture of it"):  # found by the run before
        call(visual_engineering, place, *flags, "--on_error", "fail")
    store = call(visual_engineering, place, *flags, "--on_error", "zero")
    assert store.features["visual"].shape[:2] == (11, 2)
    assert [i for i, row in zip(IDS, store.features["visual"], strict=True) if not row.any()] == list(BROKEN)


# ---- leaving items out of a data set ---------------------------------------------------------------


def test_keep_killed_at_any_moment_leaves_the_old_or_the_new_data_set(tmp_path, kill_at):
    original = make_store(tmp_path / "original")
    kept = np.arange(len(original)) % 3 != 0
    write_thumbnails(original.folder / THUMBNAILS, dict.fromkeys(original.items.item_id, b"\xff\xd8\xff"))
    shutil.copytree(tmp_path / "original", tmp_path / "new")
    expected = FeatureStore.open(tmp_path / "new").keep(kept)
    assert expected.items.item_id.tolist() == original.items.item_id[kept].tolist()
    for name in ("visual", "textual", "retrieval"):
        assert np.array_equal(expected.features[name], original.features[name][kept])
    assert not (tmp_path / "new/neighbours.npz").exists()
    assert (
        expected.fingerprint != original.fingerprint and expected.description.imported == original.description.imported
    )

    outcomes, survived = [], False
    while not survived:
        folder = tmp_path / f"killed{len(outcomes)}"
        shutil.copytree(tmp_path / "original", folder)
        store = FeatureStore.open(folder)
        kill_at(len(outcomes))
        try:
            store.keep(kept)
            survived = True
        except Killed:
            pass
        kill_at(None)
        found = FeatureStore.open(folder, need=("visual", "textual", "retrieval"))
        assert found.check_features("visual", "textual", "retrieval") == []
        outcomes.append(found.fingerprint)
        if found.fingerprint == original.fingerprint:
            assert found.keep(kept).fingerprint == expected.fingerprint
        names = ("items.parquet", "visual.npy", THUMBNAILS)
        assert content(folder, names) == content(tmp_path / "new", names)
        assert not (folder / "neighbours.npz").exists() and not list(folder.glob("*.next"))
    new = outcomes.index(expected.fingerprint)
    assert outcomes == [original.fingerprint] * new + [expected.fingerprint] * (len(outcomes) - new)
    assert new > 15 and len(outcomes) - new > 8


def test_pictures_of_items_whose_names_continue_each_other(tmp_path):
    """a_1.jpg is the second picture of a, or the only one of a_1."""
    for name in ("a_0", "a_1", "b", "b_1", "c_1_0", "c_1_1", "c_0", "c_1"):
        Image.new("RGB", (8, 8)).save(tmp_path / f"{name}.jpg")
    found = find_images(tmp_path, ["a", "a_1", "b", "b_1", "c", "c_1"])
    assert {item_id: [path.stem for path in paths] for item_id, paths in found.items()} == {
        "a": ["a_0", "a_1"],
        "b": ["b"],
        "b_1": ["b_1"],
        "c": ["c_0", "c_1"],
        "c_1": ["c_1_0", "c_1_1"],
    }


def test_lines_of_progress_may_hold_what_python_takes_for_a_line_end(tmp_path):
    keys = ["a\u2028b", "c\x85", "d\x1c\n"]
    progress = Progress.open(tmp_path / "p", {}, keys, 2, restart=False)
    progress.commit(0, np.ones((2, 3)), failed={keys[0]: "broken\u2028"})
    again = Progress.open(tmp_path / "p", {}, keys, 2, restart=False)
    assert again.failed == {keys[0]: "broken\u2028"} and list(again.pending()) == [(1, range(2, 3))]
    assert json.loads((tmp_path / "p/units.json").read_text("utf-8"))["keys"] == keys
