"""Texts -> textual features, with tiny random encoders."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from bare import TEXTS, bare_store, call

from dataloader.console import InputError
from feature_engineering import textual_engineering

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


def test_an_encoder_that_is_nowhere_is_named(tmp_path):
    bare_store(tmp_path)
    with pytest.raises(InputError, match="nowhere: "):
        call(textual_engineering, tmp_path, "--encoder", tmp_path / "nowhere")
