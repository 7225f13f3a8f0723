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


# ---- encoders of pictures and of clips ----------------------------------------------------------

FRAMES = 4  # of a clip
SQUARE = {"image_size": IMAGE, "patch_size": 8, **SMALL}
STEPS = {  # what the file of a processor on the hub says
    **{"do_resize": True, "do_rescale": True, "do_normalize": True, "resample": 2, "rescale_factor": 1 / 255},
    **{"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]},
}
CROPPED = {"do_center_crop": True, "crop_size": {"height": IMAGE, "width": IMAGE}}
TEXT = {"max_position_embeddings": 16, **SMALL}


def write_siglip(folder: Path) -> Path:
    """Its tokenizer gives no mask, as those of the hub."""
    special = {"pad_token": "<pad>", "eos_token": "</s>", "model_input_names": ["input_ids"]}
    size = write_words(folder, ("<pad>", "</s>"), **special)
    text = {"vocab_size": size, "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 0, **TEXT}
    config = transformers.SiglipConfig(text_config=text, vision_config=SQUARE)
    return saved(folder, transformers.SiglipModel, config, transformers.SiglipImageProcessorPil(**PIXELS))


def write_naflex(folder: Path) -> Path:
    text = {"vocab_size": 9, "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 0, **TEXT}
    config = transformers.Siglip2Config(text_config=text, vision_config={"num_patches": 16, "patch_size": 8, **SMALL})
    processor = transformers.Siglip2ImageProcessorPil(patch_size=8, max_num_patches=16)
    return saved(folder, transformers.Siglip2Model, config, processor)


def write_dinov2(folder: Path) -> Path:
    sizes = {name: size for name, size in SQUARE.items() if name != "intermediate_size"}
    processor = transformers.BitImageProcessorPil(size={"shortest_edge": 36}, crop_size=CROPPED["crop_size"])
    return saved(folder, transformers.Dinov2Model, transformers.Dinov2Config(**sizes), processor)


def write_dinov3(folder: Path) -> Path:
    config = transformers.DINOv3ViTConfig(num_register_tokens=2, **SQUARE)
    return saved(folder, transformers.DINOv3ViTModel, config, dinov3_processor())


def write_dinov3_convnext(folder: Path) -> Path:
    config = transformers.DINOv3ConvNextConfig(hidden_sizes=[4, 6, 8, 12], depths=[1, 1, 1, 1], image_size=IMAGE)
    return saved(folder, transformers.DINOv3ConvNextModel, config, dinov3_processor())


def dinov3_processor() -> dict:
    return {"image_processor_type": "DINOv3ViTImageProcessorFast", "do_center_crop": None, **STEPS, **PIXELS}


def write_mobilevit(folder: Path) -> Path:
    sizes = {"hidden_sizes": [8, 8, 8], "neck_hidden_sizes": [4, 4, 4, 8, 8, 8, 16], "num_attention_heads": 2}
    config = transformers.MobileViTConfig(image_size=IMAGE, initializer_range=0.5, **sizes)
    processor = transformers.MobileViTImageProcessorPil(size={"shortest_edge": 36}, crop_size=CROPPED["crop_size"])
    return saved(folder, transformers.MobileViTModel, config, processor)


def write_videomae(folder: Path) -> Path:
    config = transformers.VideoMAEConfig(num_frames=FRAMES, **SQUARE)
    return saved(folder, transformers.VideoMAEModel, config, videomae_processor())


def write_timesformer(folder: Path) -> Path:
    config = transformers.TimesformerConfig(num_frames=FRAMES, **SQUARE)
    return saved(folder, transformers.TimesformerModel, config, videomae_processor())


def write_xclip(folder: Path) -> Path:
    between = {"mit_hidden_size": 10, "mit_intermediate_size": 20, "mit_num_attention_heads": 2}
    text = {"vocab_size": 9, "bos_token_id": 0, "eos_token_id": 8, "pad_token_id": 1, **TEXT}
    vision = {"num_frames": FRAMES, **between, **SQUARE}
    config = transformers.XCLIPConfig(
        text_config=text, vision_config=vision, projection_dim=10, prompt_num_attention_heads=2
    )
    return saved(folder, transformers.XCLIPModel, config, videomae_processor())


def videomae_processor() -> dict:
    return {"feature_extractor_type": "VideoMAEFeatureExtractor", "size": {"shortest_edge": IMAGE}, **STEPS, **CROPPED}


def write_vjepa2(folder: Path) -> Path:
    sizes = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
    predictor = {"pred_hidden_size": 24, "pred_num_hidden_layers": 1, "pred_num_attention_heads": 2}
    config = transformers.VJEPA2Config(crop_size=IMAGE, patch_size=8, frames_per_clip=FRAMES, **sizes, **predictor)
    said = {"video_processor_type": "VJEPA2VideoProcessor", "size": {"shortest_edge": 36}, **STEPS, **CROPPED}
    return saved(folder, transformers.VJEPA2Model, config, said)


def saved(folder: Path, model: type, config, processor) -> Path:
    """processor: an object, or what its file says."""
    torch.manual_seed(0)
    model(config).save_pretrained(folder)
    if isinstance(processor, dict):
        video = "video_" * ("video_processor_type" in processor)
        write(folder / f"{video}preprocessor_config.json", processor)
    else:
        processor.save_pretrained(folder)
    return folder
