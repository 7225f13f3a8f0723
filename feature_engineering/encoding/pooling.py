"""A text encoder of transformers alone, and how the states of its tokens become one vector."""

from __future__ import annotations

import inspect

import torch
from transformers import AutoConfig, AutoModel, AutoModelForTextEncoding, AutoTokenizer

from common.console import InputError
from common.devices import pick_device
from feature_engineering.encoding.encoders import Source, load_encoder, load_pretrained
from feature_engineering.encoding.tokens import (
    embedding_rows,
    make_usable,
    positions,
    require_files,
    require_vocabulary,
)
from feature_engineering.settings import EncoderSettings


class Pooled:
    """An encoder of transformers: a folder says nothing of how it is to be used, so `usual` is how, if no `pooling`.

    model: an encoder of texts and pictures that is loaded already. The attributes are those of Sentences.
    """

    by, has_limit, normalise = "transformers", True, False
    default_prompt = longest = None

    def __init__(
        self,
        source: Source,
        settings: EncoderSettings,
        pooling: str | None,
        usual: str,
        model: torch.nn.Module | None = None,
    ):
        require_files(source.folder, source.label)
        self.tokenizer = load_pretrained(AutoTokenizer, source)
        require_vocabulary(self.tokenizer, source.folder, source.label)
        self.model = model or _load(source, settings)
        self.pooling = pooling or usual
        if hasattr(self.model, "get_text_features"):
            if pooling:
                raise InputError(
                    f"--pooling {pooling}: {settings.encoder} has a projected text embedding, which is taken"
                )
            self.pooling = "projected"
        self.rows = embedding_rows(self.model)
        make_usable(self.tokenizer, self.rows, source.label)
        self.most = min(positions(self.model), self.tokenizer.model_max_length)
        # SigLIP reads its last position and was trained with texts padded to their full length.
        self.padding = "max_length" if str(self.model.config.model_type).startswith("siglip") else True
        self.max_length: int | None = None
        self.dense, self.prompts = [], {}

    def limit(self, max_length: int) -> None:
        """Tokens that are kept of a text."""
        self.max_length = max_length

    @torch.inference_mode()
    def __call__(self, texts: list[str], prompt: str) -> torch.Tensor:
        """B texts, which have their prompt already -> (B, D), on the device."""
        tokens = self.tokenizer(
            texts, padding=self.padding, truncation=True, max_length=self.max_length, return_tensors="pt"
        ).to(next(self.model.parameters()).device)
        if "token_type_ids" not in inspect.signature(self.model.forward).parameters:
            tokens.pop("token_type_ids", None)
        return pool(self.model, tokens, self.pooling)


def _load(source: Source, settings: EncoderSettings) -> torch.nn.Module:
    """Of an encoder-decoder the encoder."""
    config, device = load_pretrained(AutoConfig, source), pick_device(settings.device)
    if not config.is_encoder_decoder:
        return load_encoder(source, device, settings.precision, AutoModel)
    if type(config) in AutoModelForTextEncoding._model_mapping:
        return load_encoder(source, device, settings.precision, AutoModelForTextEncoding)
    model = load_encoder(source, device, settings.precision, AutoModel)
    encoder = model.get_encoder()
    encoder.weights_hash = model.weights_hash
    return encoder


def pool(model, tokens, pooling: str) -> torch.Tensor:
    """(B, D): `cls_avg` is AnglE's: the mean of the CLS vector and the mean over tokens."""
    if hasattr(model, "get_text_features"):
        return model.get_text_features(**tokens).pooler_output  # (B, D)
    states = model(**tokens).last_hidden_state  # (B, L, D)
    mask = tokens["attention_mask"].bool()  # (B, L)
    # Some tokenizers make no token of an empty text. Its states are those of padding, or NaN, and its vector is 0.
    states = torch.where(mask.unsqueeze(-1), states, 0)
    if pooling == "max":
        highest = states.masked_fill(~mask.unsqueeze(-1), float("-inf")).amax(dim=1)  # (B, D)
        return torch.where(mask.any(dim=1, keepdim=True), highest, 0)
    at = torch.arange(mask.shape[1], device=mask.device)
    row = torch.arange(len(mask), device=mask.device)
    if pooling == "last":
        return states[row, torch.where(mask, at, 0).amax(dim=1)]
    mean = states.sum(dim=1) / mask.sum(dim=1, keepdim=True).clamp(min=1)  # (B, D)
    first = states[row, mask.int().argmax(dim=1)]  # (B, D)
    return {"mean": mean, "cls": first, "cls_avg": (first + mean) / 2}[pooling]
