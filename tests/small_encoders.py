"""Encoders of every kind with random weights, as folders: pictures of 32 x 32, vectors of 16."""

from __future__ import annotations

from pathlib import Path

import torch
import transformers
from bare import TEXTS

WIDTH, IMAGE = 16, 32
SMALL = {"hidden_size": WIDTH, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}


def vit(folder: Path) -> None:
    torch.manual_seed(0)
    config = transformers.ViTConfig(image_size=IMAGE, patch_size=8, **SMALL)
    transformers.ViTModel(config).save_pretrained(folder)
    transformers.ViTImageProcessorPil(size={"height": IMAGE, "width": IMAGE}).save_pretrained(folder)


def bert(folder: Path) -> None:
    words = sorted({word for text in (*TEXTS, "query :") for word in text.split()})
    vocabulary = {token: i for i, token in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words])}
    torch.manual_seed(0)
    config = transformers.BertConfig(vocab_size=len(vocabulary), max_position_embeddings=12, **SMALL)
    transformers.BertModel(config).save_pretrained(folder)
    transformers.BertTokenizer(vocab=vocabulary).save_pretrained(folder)


def clip(folder: Path) -> None:
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


def convnext(folder: Path) -> None:
    torch.manual_seed(0)
    config = transformers.ConvNextConfig(hidden_sizes=[4, 6, 8, 12], depths=[1, 1, 1, 1])
    transformers.ConvNextModel(config).save_pretrained(folder)
    transformers.ConvNextImageProcessorPil(size={"shortest_edge": IMAGE}, crop_pct=1.0).save_pretrained(folder)
