"""Pictures -> visual features with tiny random encoders, against transformers itself."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from bare import bare_store, call
from PIL import Image
from tiny_encoders import WIDTH

from common.console import InputError
from dataloader.skipped import read_skipped
from dataloader.store import FeatureStore
from feature_engineering import textual_engineering, visual_engineering


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
    suffix = ".png" if kind == "clip" else ".jpg"
    frames = draw_frames(tmp_path, store.items.item_id, 12, suffix)
    store = call(visual_engineering, tmp_path, "--encoder", encoder, "--batch_size", 4)
    for row, item_id in enumerate(store.items.item_id):
        for k in range(12):  # the tenth comes after the second
            path = frames / f"{item_id}_{k}{suffix}"
            np.testing.assert_allclose(
                store.features["visual"][row, k], expected_visual(kind, encoder, path), atol=5e-6
            )
    assert store.features["visual"].shape[:2] == (3, 12) and store.features["visual"].dtype == np.float32
    assert store.description.features["visual"].made["encoder"]["pooling"] == pooling


def test_one_picture_an_item_needs_no_folder(tmp_path, vit):
    bare_store(tmp_path, ids=("a", "b", "c"))
    (tmp_path / "covers").mkdir()
    for item_id in "abc":
        Image.new("L", (20, 30), 40 * ord(item_id) % 256).save(tmp_path / f"covers/{item_id}.jpg")
    flags = ("--encoder", vit, "--frames", tmp_path / "covers", "--dtype", "float16")
    store = call(visual_engineering, tmp_path, *flags)
    assert store.features["visual"].shape == (3, 1, WIDTH) and store.features["visual"].dtype == np.float16


def test_items_whose_pictures_cannot_be_used_are_left_out_and_listed(tmp_path, vit, capsys):
    store = bare_store(tmp_path, tuple("abcdefghijklmnopqrstuvwxyz"))
    frames = draw_frames(tmp_path, store.items.item_id[1:], 3)
    (frames / "b_2.jpg").unlink()
    (frames / "d_1.jpg").write_bytes((frames / "d_1.jpg").read_bytes()[:100])
    (frames / "e_0.jpg").write_bytes(b"not a picture")
    (frames / "f_3.jpg").write_bytes((frames / "f_0.jpg").read_bytes())
    for policy, lost in (("zero", []), ("skip", ["a", "d", "e", "f"])):
        store = call(visual_engineering, tmp_path, "--encoder", vit, "--on_error", policy, "--overwrite")
        reasons = {row["item_id"]: row["reason"] for row in read_skipped(tmp_path / "set")}
        assert reasons == {
            "a": "no picture of it",
            "d": "d_1.jpg cannot be read (OSError)",
            "e": "e_0.jpg cannot be read (UnidentifiedImageError)",
            "f": "4 pictures, not 3",
        }
        assert store.items.item_id.tolist() == [item for item in "abcdefghijklmnopqrstuvwxyz" if item not in lost]
        assert store.features["visual"][store.items.item_id == "g"].any()
        np.testing.assert_array_equal(
            *store.features["visual"][store.items.item_id == "b", 1:][0]
        )  # the last one repeats
        assert capsys.readouterr().err.splitlines()[-1].startswith("warning: 4 of 26 items (15%) could not be used")
    captured = [json.loads(line) for line in (tmp_path / "set/captured.jsonl").read_text().splitlines()]
    assert {"item_id": "b", "real": 2, "note": "2 of 3 frames"} in captured and len(captured) == 22


def test_fail_names_the_item_and_writes_nothing(tmp_path, vit):
    store = bare_store(tmp_path)
    frames = draw_frames(tmp_path, store.items.item_id, 2)
    (frames / "d_1.jpg").write_bytes(b"not a picture")
    with pytest.raises(InputError, match="item d: d_1.jpg cannot be read"):
        call(visual_engineering, tmp_path, "--encoder", vit, "--on_error", "fail")
    (frames / "c_0.jpg").unlink()
    (frames / "c_1.jpg").unlink()
    with pytest.raises(InputError, match="item c: no picture of it"):
        call(visual_engineering, tmp_path, "--encoder", vit, "--on_error", "fail", "--overwrite")
    assert "visual" not in FeatureStore.open(tmp_path / "set").features


@pytest.mark.slow
def test_bad_input_is_one_line_and_exit_code_2(tmp_path, bert, run):
    bare_store(tmp_path)
    draw_frames(tmp_path, "abcdef", 1)
    where = ("--dataset_path", tmp_path, "--dataset_id", "set")
    result = run("feature_engineering/visual_engineering.py", *where, "--encoder", bert)
    assert result.returncode == 2 and len(result.stderr.splitlines()) == 1, result.stderr
    assert f"--encoder {bert.name}: transformers cannot load it" in result.stderr
    assert list((tmp_path / "set").glob("*.npy")) == []


def test_what_is_missing_is_named_with_what_to_do(tmp_path):
    bare_store(tmp_path)
    with pytest.raises(InputError, match=r"python feature_engineering/video_frame_capture\.py .*--videos <folder>"):
        call(visual_engineering, tmp_path, "--encoder", "anything")
    with pytest.raises(InputError, match="nowhere: no such folder"):
        call(textual_engineering, tmp_path, "--encoder", tmp_path / "nowhere")


@pytest.mark.parametrize("script", ["visual_engineering", "textual_engineering", "retrieval_engineering"])
def test_a_mistyped_flag_is_told_of_without_torch(run, script):
    done = run("-X", "importtime", f"feature_engineering/{script}.py", "--no_such_flag")
    assert done.returncode == 2 and "unrecognized arguments: --no_such_flag" in done.stderr
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines() if line.startswith("import time:")}
    assert "feature_engineering.settings" in imported and not imported & {"torch", "transformers", "av"}
