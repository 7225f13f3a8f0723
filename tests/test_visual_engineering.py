"""Frames -> visual features, with tiny random encoders."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from bare import bare_store, call
from PIL import Image
from test_videos import write

from dataloader.console import InputError
from dataloader.store import FeatureStore
from feature_engineering import video_frame_capture, visual_engineering
from feature_engineering.captured import read_captured
from feature_engineering.skipped import read_skipped

WIDTH = 16


def draw_frames(tmp_path: Path, ids, frame_num: int, suffix=".jpg") -> Path:
    rng = np.random.default_rng(0)
    frames = tmp_path / "set/frames"
    frames.mkdir(parents=True)
    for item_id in ids:
        for k in range(frame_num):
            blocks = rng.integers(0, 256, (4, 5, 3), dtype=np.uint8)
            Image.fromarray(blocks).resize((50, 40)).save(frames / f"{item_id}_{k}{suffix}")
    return frames


@torch.inference_mode()
def expected_visual(kind: str, folder: Path, path: Path) -> np.ndarray:
    processor = transformers.AutoImageProcessor.from_pretrained(folder, backend="pil")
    pixels = processor(images=Image.open(path).convert("RGB"), return_tensors="pt")["pixel_values"]
    if kind == "clip":
        model = transformers.CLIPModel.from_pretrained(folder).eval()
        return model.visual_projection(model.vision_model(pixel_values=pixels).pooler_output)[0].numpy()
    if kind == "vit":
        return transformers.ViTModel.from_pretrained(folder).eval()(pixels).last_hidden_state[0, 0].numpy()
    model = transformers.ConvNextModel.from_pretrained(folder).eval()
    return model.layernorm(model(pixels).last_hidden_state.mean((2, 3)))[0].numpy()


@pytest.mark.parametrize(("kind", "pooling"), [("vit", "cls"), ("clip", "projected"), ("convnext", "pooler")])
def test_visual_features_are_those_of_each_picture_alone(tmp_path, request, kind, pooling):
    encoder = request.getfixturevalue(kind)
    store = bare_store(tmp_path, ids=("a", "b", "c"))
    frames = draw_frames(tmp_path, store.items.item_id, 2, suffix=".png" if kind == "clip" else ".jpg")
    store = call(visual_engineering, tmp_path, "--encoder", encoder, "--batch_size", 4)
    for row, item_id in enumerate(store.items.item_id):
        for k, path in enumerate(sorted(frames.glob(f"{item_id}_*"))):
            np.testing.assert_allclose(store.visual[row, k], expected_visual(kind, encoder, path), atol=5e-6)
    assert store.visual.shape[:2] == (3, 2) and store.visual.dtype == np.float32
    assert store.info["arrays"]["visual"]["encoder"]["pooling"] == pooling


def test_one_picture_an_item_needs_no_folder(tmp_path, vit):
    bare_store(tmp_path, ids=("a", "b", "c"))
    (tmp_path / "covers").mkdir()
    for item_id in "abc":
        Image.new("L", (20, 30), 40 * ord(item_id) % 256).save(tmp_path / f"covers/{item_id}.jpg")
    flags = ("--encoder", vit, "--frames", tmp_path / "covers", "--dtype", "float16")
    store = call(visual_engineering, tmp_path, *flags)
    assert store.visual.shape == (3, 1, WIDTH) and store.visual.dtype == np.float16


@pytest.fixture
def some_wrong(tmp_path) -> Path:
    """Frames of the items a .. f: none of a, two of three of b, broken ones of d and e, four of f."""
    frames = draw_frames(tmp_path, bare_store(tmp_path).items.item_id[1:], 3)
    (frames / "b_2.jpg").unlink()
    (frames / "d_1.jpg").write_bytes((frames / "d_1.jpg").read_bytes()[:100])
    (frames / "e_0.jpg").write_bytes(b"not a picture")
    shutil.copy(frames / "f_0.jpg", frames / "f_3.jpg")
    return frames


@pytest.mark.parametrize("policy", ["skip", "zero"])
def test_items_with_unusable_frames_are_left_out_or_zero_and_listed(tmp_path, vit, some_wrong, policy, capsys):
    store = call(visual_engineering, tmp_path, "--encoder", vit, "--on_error", policy)
    rows = read_skipped(tmp_path / "set")
    assert {row["item_id"]: row["reason"].partition(" (")[0] for row in rows} == {
        "a": "no picture of it",
        "d": "d_1.jpg cannot be read",
        "e": "e_0.jpg cannot be read",
        "f": "4 pictures, not 3",
    }
    assert {row["stage"] for row in rows} == {"visual"}
    kept = [row for row, item_id in enumerate(store.items.item_id) if item_id in "bc"]
    assert store.items.item_id.tolist() == (list("bc") if policy == "skip" else list("abcdef"))
    assert store.visual.shape == (len(store), 3, WIDTH)
    assert store.visual.any(axis=(1, 2)).nonzero()[0].tolist() == kept
    for row, item_id, numbers in zip(kept, "bc", [(0, 1, 1), (0, 1, 2)], strict=True):  # b's last one repeats
        for k, number in enumerate(numbers):
            expected = expected_visual("vit", vit, some_wrong / f"{item_id}_{number}.jpg")
            np.testing.assert_allclose(store.visual[row, k], expected, atol=5e-6)
    captured = read_captured(tmp_path / "set/captured.jsonl")
    assert captured == {"b": {"real": 2, "note": "2 of 3 frames"}, "c": {"real": 3}}
    assert "warning: 4 of 6 items (67%)" in capsys.readouterr().err.splitlines()[-1]


def test_fail_stops_at_what_is_unusable(tmp_path, vit, some_wrong):
    flags = ("--encoder", vit, "--on_error", "fail")
    with pytest.raises(InputError, match="item a: no picture of it; item f: 4 pictures, not 3; mend it"):
        call(visual_engineering, tmp_path, *flags)
    draw = Image.new("RGB", (8, 8))
    for k in range(3):
        draw.save(some_wrong / f"a_{k}.jpg")
    (some_wrong / "f_3.jpg").unlink()
    with pytest.raises(InputError, match="item d: d_1.jpg cannot be read"):
        call(visual_engineering, tmp_path, *flags)
    assert "visual" not in FeatureStore.open(tmp_path / "set").arrays


def test_frames_from_videos_are_those_from_their_pictures(tmp_path, vit):
    """But for JPEG's losses."""
    bare_store(tmp_path, ids=("a", "b", "c"))
    videos = tmp_path / "videos"
    videos.mkdir()
    colours = np.random.default_rng(0).integers(0, 256, (20, 2, 2, 3), np.uint8).repeat(24, axis=1).repeat(32, axis=2)
    for k, item_id in enumerate("abc"):
        write(videos / f"{item_id}.mp4", 2 + 9 * k, options={"g": "5"}, draw=colours.__getitem__)
    straight = call(visual_engineering, tmp_path, "--encoder", vit, "--videos", videos).visual.copy()
    captured = read_captured(tmp_path / "set/captured.jsonl")
    assert {item_id: facts["real"] for item_id, facts in captured.items()} == {"a": 2, "b": 10, "c": 10}
    assert np.array_equal(straight[0, 1:], straight[0, [1] * 9]) and straight.shape == (3, 10, WIDTH)
    call(video_frame_capture, tmp_path, "--videos", videos)
    pictures = call(visual_engineering, tmp_path, "--encoder", vit, "--overwrite").visual
    off, apart = np.abs(pictures - straight), np.abs(straight[1:] - straight[1:, ::-1])
    assert off.max() < 0.05 * apart.max() and off.mean() < 0.05 * apart.mean(), (off.max(), apart.max())


def test_bad_input_is_one_line_and_exit_code_2(tmp_path, bert, run):
    bare_store(tmp_path)
    draw_frames(tmp_path, "abcdef", 1)
    where = ("--dataset_path", tmp_path, "--dataset_id", "set")
    result = run("feature_engineering/visual_engineering.py", *where, "--encoder", bert)
    assert result.returncode == 2 and len(result.stderr.splitlines()) == 1, result.stderr
    assert f"--encoder {bert.name}: transformers cannot load it" in result.stderr
    assert list((tmp_path / "set").glob("*.npy")) == []


def test_missing_frames_are_named_with_what_to_do(tmp_path):
    bare_store(tmp_path)
    with pytest.raises(InputError, match=r"python feature_engineering/video_frame_capture\.py .*--videos <folder>"):
        call(visual_engineering, tmp_path, "--encoder", "anything")
