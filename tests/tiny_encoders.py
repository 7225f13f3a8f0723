"""Small encoders with random weights, one of each kind, as fixtures."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import transformers
from bare import TEXTS

WIDTH, IMAGE = 16, 32
SMALL = {"hidden_size": WIDTH, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
PIXELS = {"size": {"height": IMAGE, "width": IMAGE}}


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
def vit(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("vit")
    torch.manual_seed(0)
    config = transformers.ViTConfig(image_size=IMAGE, patch_size=8, **SMALL)
    transformers.ViTModel(config).save_pretrained(folder)
    transformers.ViTImageProcessorPil(**PIXELS).save_pretrained(folder)
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


@pytest.fixture(scope="session")
def blip(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("blip")
    words = ["a", "the", "man", "dog", "runs", "plays", "in", "of", "on", "red", "ball", "blue"]
    vocabulary = {token: i for i, token in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words])}
    special = {"bos_token_id": 2, "sep_token_id": 3, "eos_token_id": 3, "pad_token_id": 0}
    text = {"vocab_size": len(vocabulary), "encoder_hidden_size": WIDTH, **special, **SMALL, "initializer_range": 0.5}
    torch.manual_seed(3)
    config = transformers.BlipConfig(
        text_config=text, vision_config={"image_size": IMAGE, "patch_size": 8, "initializer_range": 1.0, **SMALL}
    )
    transformers.BlipForConditionalGeneration(config).save_pretrained(folder)
    transformers.BertTokenizer(vocab=vocabulary).save_pretrained(folder)
    transformers.BlipImageProcessorPil(**PIXELS).save_pretrained(folder)
    return folder
