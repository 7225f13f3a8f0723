"""Texts through a text encoder of transformers: pooling, limits on length, batches of like length, shards."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm
from transformers import AutoModel, AutoTokenizer

from common.arrays import Rows
from common.console import PROGRESS_BAR, InputError
from common.devices import pick_device
from feature_engineering.encoding.encoders import fetch, load_encoder, load_pretrained, provenance, revision_of
from feature_engineering.jobs.progress import Progress
from feature_engineering.settings import EncoderSettings, TextSettings

LONGEST_UNLESS_SAID = 512  # tokens; some tokenizers say that their limit is 1e30
SHARD_BATCHES = 16
# How the published encoders are meant to be used, by the last part of their names. All others get the mean of the
# tokens and no prompt.
POOLING_OF = {"angle-bert-base-uncased-nli-en-v1": "cls_avg", "UAE-Large-V1": "cls"}
RETRIEVAL_PROMPT_OF = {"UAE-Large-V1": "Represent this sentence for searching relevant passages: {text}"}


class TextEncoder:
    """A text encoder and its tokenizer, as the settings ask for them.

    prompts: the last part of an encoder's name -> its prompt, for settings without one. model: an encoder of texts and
    pictures that is loaded already.
    """

    def __init__(
        self, settings: EncoderSettings, text: TextSettings, prompts: dict[str, str] | None = None, model=None
    ):
        if text.prompt and "{text}" not in text.prompt:
            raise InputError(f"--prompt {text.prompt!r}: has no {{text}}, so every item would get the same vector")
        self.source, self.batch_size = fetch(settings.encoder), settings.batch_size
        name = self.source.label.rpartition("/")[2]
        self.prompt = text.prompt or (prompts or {}).get(name, "{text}")
        self.tokenizer = load_pretrained(AutoTokenizer, self.source)
        if self.tokenizer.pad_token is None:
            # GPT-2 and its kin have none. Any token will do, as the attention mask hides what is padded.
            self.tokenizer.pad_token = self.tokenizer.eos_token
        self.model = model or load_encoder(self.source, pick_device(settings.device), settings.precision, AutoModel)
        self.pooling = text.pooling or POOLING_OF.get(name, "mean")
        if hasattr(self.model, "get_text_features"):
            if text.pooling:
                raise InputError(
                    f"--pooling {text.pooling}: {settings.encoder} has a projected text embedding, which is taken"
                )
            self.pooling = "projected"
        elif self.model.config.is_encoder_decoder:
            self.model = self.model.get_encoder()
        config = getattr(self.model.config, "text_config", self.model.config)
        longest = min(getattr(config, "max_position_embeddings", None) or 1 << 30, self.tokenizer.model_max_length)
        if (text.max_length or 0) > longest:
            raise InputError(f"--max_length {text.max_length}: {settings.encoder} takes {longest} tokens at most")
        self.max_length = text.max_length or min(longest, LONGEST_UNLESS_SAID)
        # SigLIP reads its last position and was trained with texts padded to their full length.
        self.padding = "max_length" if str(self.model.config.model_type).startswith("siglip") else True

    def provenance(self) -> dict:
        settings = {"pooling": self.pooling, "prompt": self.prompt, "max_length": self.max_length}
        return provenance(self.model, self.source, **settings)

    @torch.inference_mode()
    def __call__(self, texts: list[str]) -> torch.Tensor:
        """B texts -> (B, D), still on the device."""
        tokens = self.tokenizer(
            texts, padding=self.padding, truncation=True, max_length=self.max_length, return_tensors="pt"
        ).to(next(self.model.parameters()).device)
        if not tokens["input_ids"].shape[1]:  # all of them are empty, and there is nothing to be given to the model
            return torch.zeros(len(texts), self.model.config.hidden_size)
        return pool(self.model, tokens, self.pooling)

    def lengths(self, texts: Sequence[str]) -> np.ndarray:
        """(U,) tokens of each text, before any is cut."""
        step, lengths = 1000, []
        for start in range(0, len(texts), step):
            ids = self.tokenizer(list(texts[start : start + step]), truncation=False, verbose=False)["input_ids"]
            lengths += [len(tokens) for tokens in ids]
        return np.array(lengths)


def encode_texts(texts: Sequence[str], encoder: TextEncoder, folder: Path, *, overwrite: bool) -> tuple[Rows, Progress]:
    """N texts -> their vectors (N, D) on disk, and the Progress in `folder` that holds them until it is removed.

    Equal texts are encoded once: their vectors are then equal to the last bit, and retrieval's ties are real ties.
    Batches hold texts of like length, so that little is spent on padding.
    """
    distinct = list(dict.fromkeys(texts))
    prompts = [encoder.prompt.replace("{text}", text) for text in distinct]
    lengths = encoder.lengths(prompts)
    if cut := int((lengths > encoder.max_length).sum()):
        share = f"{cut} of {len(distinct)} different texts"
        print(f"{share} are longer than {encoder.max_length} tokens (the longest: {lengths.max()}) and were cut")
    order = np.argsort(-lengths, kind="stable")
    settings = {
        "encoder": encoder.source.label,
        "revision": revision_of(encoder.model, encoder.source),
        "precision": str(next(encoder.model.parameters()).dtype),
        "pooling": encoder.pooling,
        "max_length": encoder.max_length,
        "batch_size": encoder.batch_size,
    }
    shard_size = SHARD_BATCHES * encoder.batch_size
    progress = Progress.open(folder, settings, [prompts[i] for i in order], shard_size, restart=overwrite)
    bar = tqdm(total=progress.total, initial=progress.units_done, desc="texts", unit="text", **PROGRESS_BAR)
    with bar:
        for number, units in progress.pending():
            vectors = []
            for start in range(units.start, units.stop, encoder.batch_size):
                batch = progress.keys[start : min(start + encoder.batch_size, units.stop)]
                vectors.append(encoder(batch))
                bar.update(len(batch))
            progress.commit(number, torch.cat(vectors).float().cpu().numpy())
    place = np.empty(len(order), int)
    place[order] = np.arange(len(order))
    number_of = {text: place[i] for i, text in enumerate(distinct)}
    return Rows(progress.features, np.array([number_of[text] for text in texts])), progress


def pool(model, tokens, pooling: str) -> torch.Tensor:
    """(B, D): `cls_avg` is AnglE's: the mean of the CLS vector and the mean over tokens."""
    if hasattr(model, "get_text_features"):
        return model.get_text_features(**tokens).pooler_output  # (B, D)
    states = model(**tokens).last_hidden_state  # (B, L, D)
    mask = tokens["attention_mask"].unsqueeze(-1)  # (B, L, 1)
    # Some tokenizers make no token of an empty text. Its states are those of padding, or NaN, and its vector is 0.
    mean = torch.where(mask.bool(), states, 0).sum(dim=1) / mask.sum(dim=1).clamp(min=1)  # (B, D)
    first = torch.where(mask.any(dim=1), states[:, 0], 0)  # (B, D)
    return {"mean": mean, "cls": first, "cls_avg": (first + mean) / 2}[pooling]
