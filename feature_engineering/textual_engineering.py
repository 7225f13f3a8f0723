"""Encode the texts of a data set with any text encoder of transformers, as textual features, retrieval vectors or both.

The published system takes WhereIsAI/angle-bert-base-uncased-nli-en-v1 with --pooling cls_avg for textual features, and
WhereIsAI/UAE-Large-V1 with --pooling cls --output retrieval
--prompt "Represent this sentence for searching relevant passages: {text}" for retrieval.
"""

from __future__ import annotations

import numpy as np
import torch
from tqdm import tqdm
from transformers import AutoModel, AutoTokenizer

from dataloader.console import InputError, Parser, dataset_folder, run_script, whole_number
from dataloader.device import pick_device
from dataloader.store import FeatureStore
from feature_engineering.encoders import (
    PROGRESS,
    add_encoder_flags,
    check_before_encoding,
    load_encoder,
    load_pretrained,
    provenance,
    write_features,
)

POOLINGS = ("mean", "cls", "cls_avg")
LONGEST_UNLESS_SAID = 512  # tokens; some tokenizers claim 1e30
OUTPUTS = {"textual": ["textual"], "retrieval": ["retrieval"], "both": ["textual", "retrieval"]}


def build_parser() -> Parser:
    parser = Parser(description=__doc__)
    add_encoder_flags(parser, batch_size=64)
    parser.add_argument("--output", default="textual", choices=OUTPUTS, help="which features of the data set to write")
    parser.add_argument(
        "--pooling",
        default="mean",
        choices=POOLINGS,
        help="mean of the tokens, the first token (cls), or the mean of these two (cls_avg); "
        "encoders with a projected text embedding (CLIP) give that one",
    )
    parser.add_argument("--prompt", default="{text}", help="what is encoded; {text} stands for the item's text")
    parser.add_argument(
        "--max_length", type=whole_number(2), help="tokens kept of a text; the encoder's limit without it"
    )
    return parser


def main(args) -> None:
    if "{text}" not in args.prompt:
        raise InputError(f"--prompt {args.prompt!r}: has no {{text}}, so every item would get the same vector")
    names = OUTPUTS[args.output]
    store = FeatureStore.open(dataset_folder(args))
    check_before_encoding(store, names, args)
    device = pick_device(args.device)
    tokenizer = load_pretrained(AutoTokenizer, args.encoder, args.revision)
    if tokenizer.pad_token is None:  # GPT-2 and its kin; the attention mask hides what is padded
        tokenizer.pad_token = tokenizer.eos_token
    model = load_encoder(args.encoder, args.revision, device, AutoModel)
    if projects := hasattr(model, "get_text_features"):
        if "pooling" in args.typed:
            raise InputError(f"--pooling {args.pooling}: {args.encoder} has a projected text embedding, which is taken")
    elif model.config.is_encoder_decoder:
        model = model.get_encoder()
    # Equal texts are encoded once: their vectors are then equal to the last bit, and retrieval's ties are real ties.
    number = {text: i for i, text in enumerate(dict.fromkeys(store.items.text))}
    texts, item_text = list(number), [number[text] for text in store.items.text]
    prompts = [args.prompt.replace("{text}", text) for text in texts]
    vectors = encode_texts(model, tokenizer, prompts, args.pooling, args.batch_size, args.max_length)
    pooling = "projected" if projects else args.pooling
    source = provenance(model, args.encoder, pooling=pooling, prompt=args.prompt)
    write_features(store, names, vectors[item_text], args, source)


@torch.inference_mode()
def encode_texts(
    model, tokenizer, texts: list[str], pooling: str, batch_size: int, max_length: int | None = None
) -> np.ndarray:
    """texts -> (N, D) float32; batches hold texts of like length, so that little is spent on padding."""
    longest = getattr(getattr(model.config, "text_config", model.config), "max_position_embeddings", None)
    limits = (max_length, longest, min(tokenizer.model_max_length, LONGEST_UNLESS_SAID))
    max_length = min(limit for limit in limits if limit is not None)
    device = next(model.parameters()).device
    order = sorted(range(len(texts)), key=lambda i: -len(texts[i]))
    vectors = None
    for start in tqdm(range(0, len(order), batch_size), desc="texts", unit="batch", **PROGRESS):
        chosen = order[start : start + batch_size]
        tokens = tokenizer(
            [texts[i] for i in chosen], padding=True, truncation=True, max_length=max_length, return_tensors="pt"
        ).to(device)
        pooled = pool(model, tokens, pooling).float().cpu().numpy()  # (B, D)
        if vectors is None:
            vectors = np.empty((len(texts), pooled.shape[1]), dtype=np.float32)
        vectors[chosen] = pooled
    return vectors


def pool(model, tokens, pooling: str) -> torch.Tensor:
    """(B, D): `cls_avg` is AnglE's: the mean of the CLS vector and the mean over tokens."""
    if hasattr(model, "get_text_features"):
        return model.get_text_features(**tokens).pooler_output  # (B, D)
    states = model(**tokens).last_hidden_state  # (B, L, D)
    mask = tokens["attention_mask"].unsqueeze(-1).to(states.dtype)  # (B, L, 1)
    mean = (states * mask).sum(dim=1) / mask.sum(dim=1)  # (B, D)
    first = states[:, 0]  # (B, D)
    return {"mean": mean, "cls": first, "cls_avg": (first + mean) / 2}[pooling]


if __name__ == "__main__":
    run_script(build_parser(), main)
