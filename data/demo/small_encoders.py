"""Two small encoders for the demo, of the kinds that the paper uses (ViT and BERT): random weights, nothing trained."""

from __future__ import annotations

import re
from pathlib import Path

import torch
import transformers
from transformers import BertConfig, BertModel, BertTokenizer, ViTConfig, ViTImageProcessorPil, ViTModel

WIDTH, LAYERS, HEADS = 96, 2, 4
IMAGE, PATCH = 64, 16  # pixels
LONGEST = 32  # tokens of a title
# The standard deviation of the ViT's random weights. With the usual 0.02 its CLS token would take up too little of the
# patches.
SPREAD = 0.15
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
SHAPE = {
    "hidden_size": WIDTH,
    "intermediate_size": 2 * WIDTH,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS,
}


def write_image_encoder(folder: Path, seed: int) -> None:
    transformers.utils.logging.disable_progress_bar()
    torch.manual_seed(seed)
    ViTModel(ViTConfig(image_size=IMAGE, patch_size=PATCH, initializer_range=SPREAD, **SHAPE)).save_pretrained(folder)
    ViTImageProcessorPil(size={"height": IMAGE, "width": IMAGE}).save_pretrained(folder)


def write_text_encoder(folder: Path, titles: list[str], seed: int) -> None:
    """A BERT with a WordPiece vocabulary of the titles' words, and of their characters for words it has not seen."""
    words = sorted({word for title in titles for word in re.findall(r"\w+|[^\w\s]", title.lower())})
    letters = sorted(set("".join(words)))
    tokens = dict.fromkeys([*SPECIAL, *words, *letters, *(f"##{letter}" for letter in letters)])
    vocabulary = {token: number for number, token in enumerate(tokens)}
    torch.manual_seed(seed)
    config = BertConfig(vocab_size=len(vocabulary), max_position_embeddings=LONGEST, **SHAPE)
    BertModel(config).save_pretrained(folder)
    BertTokenizer(vocab=vocabulary, model_max_length=LONGEST).save_pretrained(folder)
