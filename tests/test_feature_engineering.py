"""Frames -> visual features, texts -> textual features, with tiny random encoders."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from bare import TEXTS, bare_store, call
from PIL import Image

from dataloader.console import InputError
from dataloader.store import FeatureStore
from feature_engineering import textual_engineering, visual_engineering

WIDTH, IMAGE = 16, 32
SMALL = {"hidden_size": WIDTH, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
PIXELS = {"size": {"height": IMAGE, "width": IMAGE}}


# ---- encoders --------------------------------------------------------------------


@pytest.fixture(scope="session")
def bert(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("bert")
    words = sorted({word for text in (*TEXTS, "query :") for word in text.split()})
    vocabulary = {token: i for i, token in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words])}
    torch.manual_seed(0)
    config = transformers.BertConfig(vocab_size=len(vocabulary), max_position_embeddings=12, **SMALL)
    transformers.BertModel(config).save_pretrained(folder)
    transformers.BertTokenizer(vocab=vocabulary).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def clip(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("clip")
    letters = sorted(set("".join(TEXTS)) - {" "})
    tokens = ["<|startoftext|>", *letters, *(f"{letter}</w>" for letter in letters), "<|endoftext|>"]
    vocabulary = {token: i for i, token in enumerate(tokens)}
    ends = {"bos_token_id": 0, "eos_token_id": len(tokens) - 1, "pad_token_id": len(tokens) - 1}
    text = {"vocab_size": len(tokens), "max_position_embeddings": 32, **ends, **SMALL}
    torch.manual_seed(0)
    config = transformers.CLIPConfig(
        text_config=text, vision_config={"image_size": IMAGE, "patch_size": 8, **SMALL}, projection_dim=10
    )
    transformers.CLIPModel(config).save_pretrained(folder)
    transformers.CLIPTokenizer(vocab=vocabulary, merges=[]).save_pretrained(folder)
    size = {"size": {"shortest_edge": IMAGE}, "crop_size": {"height": IMAGE, "width": IMAGE}}
    transformers.CLIPImageProcessorPil(**size).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def convnext(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("convnext")
    torch.manual_seed(0)
    config = transformers.ConvNextConfig(hidden_sizes=[4, 6, 8, 12], depths=[1, 1, 1, 1])
    transformers.ConvNextModel(config).save_pretrained(folder)
    transformers.ConvNextImageProcessorPil(size={"shortest_edge": IMAGE}, crop_pct=1.0).save_pretrained(folder)
    return folder


# ---- texts -------------------------------------------------------------------------------------


@torch.inference_mode()
def expected_text(folder: Path, text: str, pooling: str) -> np.ndarray:
    """One text at a time, so without padding."""
    tokens = transformers.AutoTokenizer.from_pretrained(folder)(text, return_tensors="pt")
    states = transformers.BertModel.from_pretrained(folder).eval()(**tokens).last_hidden_state[0].numpy()
    return {"mean": states.mean(0), "cls": states[0], "cls_avg": 0.5 * states[0] + 0.5 * states.mean(0)}[pooling]


@pytest.mark.parametrize("pooling", ["mean", "cls", "cls_avg"])
def test_text_poolings(tmp_path, bert, pooling):
    bare_store(tmp_path)
    store = call(textual_engineering, tmp_path, "--encoder", bert, "--pooling", pooling, "--batch_size", 4)
    expected = np.stack([expected_text(bert, text, pooling) for text in TEXTS])
    np.testing.assert_allclose(store.textual, expected, atol=2e-6)
    assert store.info["arrays"]["textual"]["encoder"]["pooling"] == pooling
    assert "retrieval" not in store.arrays


def test_equal_texts_get_equal_vectors_and_both_outputs_are_the_same(tmp_path, bert):
    bare_store(tmp_path)
    store = call(textual_engineering, tmp_path, "--encoder", bert, "--output", "both", "--batch_size", 2)
    assert np.array_equal(store.textual[0], store.textual[1])
    assert np.array_equal(store.textual, store.retrieval)


def test_prompt_is_what_is_encoded(tmp_path, bert):
    bare_store(tmp_path)
    flags = ("--encoder", bert, "--prompt", "query : {text}", "--output", "retrieval")
    store = call(textual_engineering, tmp_path, *flags)
    np.testing.assert_allclose(store.retrieval[3], expected_text(bert, "query : dog", "mean"), atol=2e-6)
    with pytest.raises(InputError, match="no {text}"):
        call(textual_engineering, tmp_path, "--encoder", bert, "--prompt", "query:", "--overwrite")


def test_long_texts_are_cut_to_what_the_encoder_takes(tmp_path, bert):
    bare_store(tmp_path)
    prompt = " ".join(["dog"] * 30) + " {text}"
    store = call(textual_engineering, tmp_path, "--encoder", bert, "--prompt", prompt)
    np.testing.assert_allclose(store.textual, np.repeat(store.textual[:1], len(store), axis=0), atol=1e-6)


def test_existing_features_are_not_replaced_unasked(tmp_path, bert):
    bare_store(tmp_path)
    call(textual_engineering, tmp_path, "--encoder", bert)
    with pytest.raises(InputError, match="--overwrite"):
        call(textual_engineering, tmp_path, "--encoder", bert)
    store = call(textual_engineering, tmp_path, "--encoder", bert, "--overwrite", "--normalise", "l2")
    np.testing.assert_allclose(np.linalg.norm(store.textual, axis=1), 1, atol=1e-6)


@torch.inference_mode()
def test_clip_gives_its_projected_text_embedding(tmp_path, clip):
    bare_store(tmp_path)
    store = call(textual_engineering, tmp_path, "--encoder", clip)
    model = transformers.CLIPModel.from_pretrained(clip).eval()
    tokens = transformers.AutoTokenizer.from_pretrained(clip)(TEXTS[2], return_tensors="pt")
    states = model.text_model(**tokens).last_hidden_state[0]  # the last token is the end of the text
    expected = model.text_projection(states[-1])
    np.testing.assert_allclose(store.textual[2], expected, atol=2e-6)
    assert store.info["arrays"]["textual"]["encoder"]["pooling"] == "projected"


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
