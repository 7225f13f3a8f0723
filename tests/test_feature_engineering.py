"""Frames -> visual features, texts -> textual features, with tiny random encoders."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from bare import bare_store, call
from PIL import Image

from dataloader.console import InputError
from dataloader.store import FeatureStore
from feature_engineering import textual_engineering, visual_engineering

WIDTH, IMAGE = 16, 32
SMALL = {"hidden_size": WIDTH, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
PIXELS = {"size": {"height": IMAGE, "width": IMAGE}}


# ---- pictures ----------------------------------------------------------------------------------


def draw_frames(tmp_path: Path, ids, frame_num: int, suffix=".jpg") -> Path:
    rng = np.random.default_rng(0)
    frames = tmp_path / "set/frames"
    for item_id in ids:
        (frames / item_id).mkdir(parents=True)
        for k in range(frame_num):
            blocks = rng.integers(0, 256, (4, 5, 3), dtype=np.uint8)
            Image.fromarray(blocks).resize((50, 40)).save(frames / item_id / f"{k:02d}{suffix}")
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
        for k, path in enumerate(sorted((frames / item_id).iterdir())):
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


def test_all_that_is_wrong_with_the_frames_is_said_at_once(tmp_path, vit):
    store = bare_store(tmp_path)
    frames = draw_frames(tmp_path, store.items.item_id[1:], 3)
    (frames / "b/02.jpg").unlink()
    (frames / "d/01.jpg").write_bytes((frames / "d/01.jpg").read_bytes()[:100])
    (frames / "e/00.jpg").write_bytes(b"not a picture")
    with pytest.raises(InputError) as error:
        call(visual_engineering, tmp_path, "--encoder", vit)
    for part in ("1 of 6 items have no frames (a)", "1 items do not have 3 frames", "b: 2", "d/01.jpg, e/00.jpg"):
        assert part in str(error.value)
    assert "visual" not in FeatureStore.open(tmp_path / "set").arrays


def test_bad_input_is_one_line_and_exit_code_2(tmp_path, bert, run):
    bare_store(tmp_path)
    draw_frames(tmp_path, "abcdef", 1)
    where = ("--dataset_path", tmp_path, "--dataset_id", "set")
    result = run("feature_engineering/visual_engineering.py", *where, "--encoder", bert)
    assert result.returncode == 2 and len(result.stderr.splitlines()) == 1, result.stderr
    assert f"--encoder {bert}: transformers cannot load it" in result.stderr
    assert list((tmp_path / "set").glob("*.npy")) == []


def test_what_is_missing_is_named_with_what_to_do(tmp_path):
    bare_store(tmp_path)
    with pytest.raises(InputError, match=r"python feature_engineering/frame_capture\.py .*--videos <folder>"):
        call(visual_engineering, tmp_path, "--encoder", "anything")
    with pytest.raises(InputError, match="nowhere: transformers cannot load it"):
        call(textual_engineering, tmp_path, "--encoder", tmp_path / "nowhere")
