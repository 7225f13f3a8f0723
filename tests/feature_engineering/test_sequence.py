"""A table and a folder of videos -> a data set with all features in one command; the picture of what is retrieved."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from bare import bare_store, write_clip
from PIL import Image
from tiny import make_store

import retriever
from common.console import InputError
from common.settings import made
from dataloader.importing.scaling import modes_by_array
from dataloader.neighbours import Neighbours
from dataloader.skipped import read_skipped
from dataloader.store import FeatureStore
from feature_engineering import captioning, visual_engineering
from feature_engineering.jobs import sequence
from feature_engineering.settings import SequenceSettings
from feature_engineering.showcase import show_neighbours

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


def command(raw, tmp_path, vit, bert, blip, *more):
    encoders = ("--visual_encoder", vit, "--textual_encoder", bert, "--retrieval_encoder", bert)
    table = ("--table", raw / "items.csv", "--text_column", "title", "--count_column", "comments")
    where = ("--dataset_path", tmp_path, "--dataset_id", "set")
    videos = ("--videos", raw / "videos", "--frame_num", 2, "--caption_encoder", blip)
    return ("data/import_features.py", *table, *where, *videos, *encoders, *more)


@pytest.mark.slow
def test_one_command_makes_all_features_and_goes_on_where_it_stopped(raw, tmp_path, vit, bert, blip, run, capsys):
    broken = command(raw, tmp_path, vit, tmp_path / "no-such-encoder", blip)
    result = run(*broken)
    assert result.returncode == 2
    assert "no such folder" in result.stderr and "the same command goes on from here" in result.stderr
    captions = (tmp_path / "set/captions.jsonl").read_bytes()

    result = run(*command(raw, tmp_path, vit, bert, blip, "--normalise", "l2"))
    assert result.returncode == 2 and "normalise none, now l2" in result.stderr  # as the frames are here already
    result = run(*command(raw, tmp_path, vit, bert, blip))
    assert result.returncode == 0, result.stderr
    assert "the data set is there already, going on with it" in result.stdout
    assert result.stdout.count("made already, nothing is to be done") == 2  # frames and captions
    assert result.stderr.splitlines()[-1].startswith("warning: 2 of 12 items (17%) could not be used")
    store = FeatureStore.open(tmp_path / "set", need=("visual", "textual", "retrieval"))
    assert store.features["visual"].shape == (10, 2, 16)
    assert store.items.item_id.tolist() == [item for item in IDS if item not in ("v3", "v7")]
    assert (tmp_path / "set/captions.jsonl").read_bytes() == captions
    rows = {row["item_id"]: (row["stage"], row["reason"]) for row in read_skipped(tmp_path / "set")}
    assert rows["v3"][0] == rows["v7"][0] == "visual" and len(rows) == 2
    assert rows["v3"][1].startswith("missing: ")

    where = ["--dataset_path", str(tmp_path), "--dataset_id", "set", "--num_of_retrieved_items", "3"]
    retriever.main(retriever.build_parser().parse_args(where))
    capsys.readouterr()
    retriever.main(retriever.build_parser().parse_args([*where, "--show", "2", "--videos", str(raw / "videos")]))
    assert "neighbours for" not in capsys.readouterr().out  # not searched anew
    with Image.open(tmp_path / "set/neighbours.png") as picture:
        colours = np.asarray(picture.convert("RGB")).reshape(-1, 3)
    assert len(np.unique(colours, axis=0)) > 1000  # frames of noise are in it


def test_frames_can_be_kept_as_pictures(raw, tmp_path, load_script):
    """What is run then; the scripts read the same pictures in tests of their own."""
    script = load_script("data/import_features.py")
    words = [str(word) for word in command(raw, tmp_path, "vit", "bert", "none", "--keep_frames", "--timeout", 9)[1:]]
    args = script.build_parser().parse_args(words)
    store = bare_store(tmp_path, IDS)
    ran = list(
        sequence.steps(store, made(SequenceSettings, vars(args)), args.typed, modes_by_array(["visual=standard"]))
    )
    assert [Path(step[0]).stem for step in ran] == [
        "video_frame_capture",
        "visual_engineering",
        "textual_engineering",
        "retrieval_engineering",
    ]
    assert ran[0][-6:] == ["--videos", str(raw / "videos"), "--frame_num", "2", "--timeout", "9.0"]
    assert "--videos" not in ran[1] and ran[1][-6:] == [
        "--normalise",
        "standard",
        "--frame_num",
        "2",
        "--timeout",
        "9.0",
    ]
    assert ran[2][-2:] == ["--encoder", "bert"] and ran[3][-2:] == ["--source", "text"]


def test_the_picture_of_neighbours_reads_pictures_too(tmp_path):
    store = make_store(tmp_path / "set")
    with pytest.raises(InputError, match="no frames of the items to show; give --videos"):
        show_neighbours(store, Neighbours.read(store), 3, None, None)
    (tmp_path / "set/frames").mkdir()
    for row, item_id in enumerate(store.items.item_id[:60]):
        Image.new("RGB", (40, 30), (row, 200, 100)).save(tmp_path / f"set/frames/{item_id}_0.png")
    with Image.open(show_neighbours(store, Neighbours.read(store), 3, None, None)) as picture:
        colours = np.unique(np.asarray(picture.convert("RGB")).reshape(-1, 3), axis=0)
    shown = {int(red) for red, green, blue in colours if (green, blue) == (200, 100)}
    test = [int(row) for row in store.items.rows("test")]
    first, last = test[0], test[-1]
    neighbours = set(Neighbours.read(store).ids[first, :4].tolist())
    assert shown & (neighbours | {first}) == (neighbours | {first}) & set(range(60))
    assert last >= 60 or last in shown


@pytest.mark.slow
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


def test_a_data_set_made_anew_keeps_nothing_of_the_old_one(tmp_path):
    folder = bare_store(tmp_path, IDS).folder
    (folder / "visual.progress").mkdir()
    for name in ("visual.progress/done.jsonl", "captions.jsonl", "captured.jsonl", "skipped.csv"):
        (folder / name).write_text("old")
    bare_store(tmp_path, IDS)
    assert sorted(path.name for path in folder.iterdir()) == ["dataset.json", "items.parquet", "manifest.jsonl"]


def test_features_and_captions_of_another_source_are_not_taken_for_those_asked_for(raw, tmp_path, blip, load_script):
    script = load_script("data/import_features.py")
    words = [str(word) for word in command(raw, tmp_path, "vit", "bert", "owner/blip")[1:]]
    args, store = script.build_parser().parse_args(words), bare_store(tmp_path, IDS)
    settings = made(SequenceSettings, vars(args)), args.typed
    (store.folder / "captions.jsonl").write_text('{"encoder": {"name": "owner/other"}}\n')
    with store.add_array("visual", (12, 1, 4), "float32", source="histogram.npz") as out:
        out[:] = 1
    visual, captions, *_ = sequence.steps(store, *settings, modes_by_array([]))
    with pytest.raises(
        InputError, match="other visual features .*encoder none, now vit; source histogram.npz, now none"
    ):
        visual_engineering.main(visual_engineering.build_parser().parse_args(visual[1:]))
    captions[captions.index("owner/blip")] = str(blip)
    with pytest.raises(InputError, match="other captions are here already .encoder owner/other, now blip"):
        captioning.main(captioning.build_parser().parse_args(captions[1:]))
    stems = [
        Path(step[0]).stem for step in sequence.steps(store, *settings, modes_by_array(["standard"]), given=["visual"])
    ]
    assert stems == ["captioning", "textual_engineering", "retrieval_engineering"]
    steps = list(sequence.steps(store, *settings, modes_by_array(["standard"])))  # one mode is that of all arrays
    scaled = [Path(step[0]).stem.partition("_")[0] for step in steps if "standard" in step]
    assert scaled == ["visual", "textual", "retrieval"]
