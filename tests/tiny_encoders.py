"""Small encoders with random weights, one of each kind, as fixtures."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import tokenizers
import torch
import transformers
from bare import TEXTS
from safetensors.torch import save_file

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


def write_words(folder: Path, first=(), **special) -> int:
    """A tokenizer of whole words without special tokens around a text; the size of its vocabulary. first: tokens."""
    words = [*first, "<unk>", *sorted({word for text in (*TEXTS, "query :") for word in text.split()})]
    tokenizer = tokenizers.Tokenizer(
        tokenizers.models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>")
    )
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>", **special).save_pretrained(
        folder
    )
    return len(words)


def write_gpt(folder: Path, embedded: int | None = None, **special) -> Path:
    """A model like GPT-2; special: of its tokenizer. embedded: tokens that the model knows, if not all."""
    size = write_words(folder, **special)
    torch.manual_seed(0)
    config = transformers.GPT2Config(
        vocab_size=embedded or size, n_embd=WIDTH, n_layer=2, n_head=2, n_positions=16, initializer_range=0.5
    )
    transformers.GPT2Model(config).save_pretrained(folder)
    return folder


def write_t5(folder: Path) -> Path:
    size = write_words(folder, ("<pad>", "</s>"), pad_token="<pad>", eos_token="</s>")
    torch.manual_seed(0)
    config = transformers.T5Config(vocab_size=size, d_model=WIDTH, d_kv=8, d_ff=32, num_layers=2, num_heads=2)
    transformers.T5Model(config).save_pretrained(folder)
    return folder


def write_roberta(folder: Path) -> Path:
    """12 rows of positions, of which 10 can be used."""
    size = write_words(folder, ("<s>", "<pad>", "</s>"), pad_token="<pad>", cls_token="<s>", eos_token="</s>")
    torch.manual_seed(0)
    config = transformers.RobertaConfig(vocab_size=size, max_position_embeddings=12, pad_token_id=1, **SMALL)
    transformers.RobertaModel(config).save_pretrained(folder)
    return folder


def write_sentences(
    folder: Path,
    of: Path,
    pooling: str = "mean_tokens",
    dense: int | None = None,
    normalise: bool = False,
    max_length: int | None = None,
    **said,
) -> Path:
    """A folder of sentence-transformers, by hand: the model and tokenizer `of`, and what it is to go through.

    pooling: as 1_Pooling/config.json has it, after pooling_mode_. dense: values of the layer behind it. said: what
    config_sentence_transformers.json has.
    """
    shutil.copytree(of, folder)
    kinds = ["Transformer", "Pooling", *["Dense"] * bool(dense), *["Normalize"] * normalise]
    modules = [
        {"idx": i, "name": str(i), "path": f"{i}_{kind}" * bool(i), "type": f"sentence_transformers.models.{kind}"}
        for i, kind in enumerate(kinds)
    ]
    for module in modules:
        (folder / module["path"]).mkdir(exist_ok=True)
    write(folder / "modules.json", modules)
    write(folder / "1_Pooling/config.json", {"word_embedding_dimension": WIDTH, f"pooling_mode_{pooling}": True})
    write(folder / "config_sentence_transformers.json", said)
    if max_length:
        write(folder / "sentence_bert_config.json", {"max_seq_length": max_length, "do_lower_case": False})
    if dense:
        activation = "torch.nn.modules.activation.Tanh"
        size = {"in_features": WIDTH, "out_features": dense, "bias": True, "activation_function": activation}
        write(folder / "2_Dense/config.json", size)
        torch.manual_seed(1)
        layer = torch.nn.Linear(WIDTH, dense)
        weights = {f"linear.{name}": tensor.detach() for name, tensor in layer.named_parameters()}
        save_file(weights, folder / "2_Dense/model.safetensors")
    return folder


def write(path: Path, content) -> None:
    path.write_text(json.dumps(content))
