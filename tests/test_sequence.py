"""A table and a folder of videos -> a data set with all features in one command; the picture of what is retrieved."""

from __future__ import annotations

import csv
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from dataloader.console import InputError
from dataloader.store import FeatureStore
from feature_engineering.skipped import read_skipped

IDS = [f"v{i}" for i in range(12)]


@pytest.fixture(scope="module")
def raw(tmp_path_factory) -> Path:
    """items.csv and videos/ of small clips; v3 has no video, v7 is broken."""
    folder = tmp_path_factory.mktemp("raw")
    (folder / "videos").mkdir()
    rng = np.random.default_rng(0)
    with (folder / "items.csv").open("w", newline="") as file:
        rows = [[item, f"ball {i}", i + 1] for i, item in enumerate(IDS)]
        csv.writer(file).writerows([["item_id", "title", "comments"], *rows])
    for item in IDS:
        path = folder / "videos" / f"{item}.mp4"
        if item == "v7":
            path.write_bytes(b"not a video")
        elif item != "v3":
            write_clip(path, rng.integers(0, 256, (6, 32, 32, 3), dtype=np.uint8))
    return folder


def write_clip(path: Path, frames: np.ndarray) -> None:
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=5)
        stream.width, stream.height, stream.pix_fmt = frames.shape[2], frames.shape[1], "yuv420p"
        for frame in frames:
            out.mux(stream.encode(av.VideoFrame.from_ndarray(frame, "rgb24")))
        out.mux(stream.encode())


def command(raw, tmp_path, vit, bert, blip, *more):
    encoders = ("--visual_encoder", vit, "--textual_encoder", bert, "--retrieval_encoder", bert)
    table = ("--table", raw / "items.csv", "--text_column", "title", "--count_column", "comments")
    where = ("--dataset_path", tmp_path, "--dataset_id", "set")
    videos = ("--videos", raw / "videos", "--frame_num", 2, "--caption_encoder", blip)
    return ("data/import_features.py", *table, *where, *videos, *encoders, *more)


def test_one_command_makes_all_features_and_goes_on_where_it_stopped(raw, tmp_path, vit, bert, blip, run):
    broken = command(raw, tmp_path, vit, tmp_path / "no-such-encoder", blip)
    result = run(*broken)
    assert result.returncode == 2
    assert "no such folder" in result.stderr and "the same command goes on from here" in result.stderr
    captions = (tmp_path / "set/captions.jsonl").read_bytes()

    result = run(*command(raw, tmp_path, vit, bert, blip))
    assert result.returncode == 0, result.stderr
    assert "the data set is there already, going on with it" in result.stdout
    assert "visual_engineering.py" not in result.stdout.split("$", 1)[1]  # what was done is not done again
    assert result.stderr.splitlines()[-1].startswith("warning: 2 of 12 items (17%) could not be used")
    store = FeatureStore.open(tmp_path / "set", need=("visual", "textual", "retrieval"))
    assert store.visual.shape == (10, 2, 16)
    assert store.items.item_id.tolist() == [item for item in IDS if item not in ("v3", "v7")]
    assert (tmp_path / "set/captions.jsonl").read_bytes() == captions
    rows = {row["item_id"]: (row["stage"], row["reason"]) for row in read_skipped(tmp_path / "set")}
    assert rows["v3"] == ("visual", "missing") and rows["v7"][0] == "visual" and len(rows) == 2

    result = run("retriever.py", "--dataset_path", tmp_path, "--dataset_id", "set", "--num_of_retrieved_items", 3)
    assert result.returncode == 0, result.stderr
    show = ("--show", 2, "--videos", raw / "videos", "--num_of_retrieved_items", 3)
    result = run("retriever.py", "--dataset_path", tmp_path, "--dataset_id", "set", *show)
    assert result.returncode == 0, result.stderr
    assert "retrieving" not in result.stderr and "neighbours for" not in result.stdout  # not searched anew
    with Image.open(tmp_path / "set/neighbours.png") as picture:
        colours = np.asarray(picture.convert("RGB")).reshape(-1, 3)
    assert len(np.unique(colours, axis=0)) > 1000  # frames of noise are in it


def test_frames_can_be_kept_as_pictures(raw, tmp_path, vit, bert, run):
    flags = ("--keep_frames", "--retrieval_encoder", bert)
    result = run(*command(raw, tmp_path, vit, bert, "none", *flags))
    assert result.returncode == 0, result.stderr
    frames = sorted(path.name for path in (tmp_path / "set/frames").glob("*.jpg"))
    assert frames == sorted(f"{item}_{k}.jpg" for item in IDS for k in range(2) if item not in ("v3", "v7"))
    store = FeatureStore.open(tmp_path / "set")
    assert len(store) == 10 and not (tmp_path / "set/captions.jsonl").exists()
    assert store.info["arrays"]["retrieval"]["source"] == "text"
    reasons = {row["item_id"]: row["stage"] for row in read_skipped(tmp_path / "set")}
    assert reasons == {"v3": "frames", "v7": "frames"}  # the first stage that failed is the one that is told
    result = run(
        "retriever.py", "--dataset_path", tmp_path, "--dataset_id", "set", "--num_of_retrieved_items", 3, "--show", 2
    )
    assert result.returncode == 0 and (tmp_path / "set/neighbours.png").exists(), result.stderr


def test_what_makes_no_sense_is_refused_before_anything_is_written(raw, tmp_path, vit, bert, run):
    table = ("data/import_features.py", "--table", raw / "items.csv", "--text_column", "title")
    where = ("--dataset_path", tmp_path, "--dataset_id", "set")
    for flags, message in (
        (("--frame_num", 3), "--frame_num does nothing without --videos"),
        (("--videos", tmp_path / "none"), "no such folder"),
    ):
        result = run(*table, *where, *flags)
        assert result.returncode == 2 and message in result.stderr and len(result.stderr.splitlines()) == 1
        assert not (tmp_path / "set").exists()
    result = run("retriever.py", *where, "--videos", raw / "videos")
    assert result.returncode == 2 and "--videos is for --show" in result.stderr


def test_the_data_set_of_another_table_is_not_gone_on_with(raw, tmp_path, load_script):
    script = load_script("data/import_features.py")
    where = ["--dataset_path", str(tmp_path), "--dataset_id", "set", "--text_column", "title"]
    script.main(script.build_parser().parse_args(["--table", str(raw / "items.csv"), *where]))
    other = tmp_path / "other.csv"
    other.write_text("item_id,title\nx,y\nz,y\n" + "".join(f"w{i},t\n" for i in range(10)))
    videos = ["--videos", str(raw / "videos")]
    with pytest.raises(InputError, match="other items or labels is here already; --overwrite"):
        script.main(script.build_parser().parse_args(["--table", str(other), *where, *videos]))
