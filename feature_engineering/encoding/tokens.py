"""Tokenizers as they come: which files they need, padding that hides nothing, usable lengths, unknown tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from common.console import InputError, listed

# What a vocabulary may lie in, besides the files that the class of a tokenizer names.
VOCABULARIES = ("tokenizer.json", "vocab.*", "*.model", "*.tiktoken", "tekken.json")
SETTINGS = "tokenizer_config.json"  # All that tokenizers of bytes need.
UNLIMITED = 1 << 30
STEP = 1000  # texts that are counted at once


@dataclass(frozen=True)
class Counts:
    """Of texts: the tokens of each before any is cut (U,), and of all together those that are text and unknown.

    foreign: token -> an example of those that the model has no embedding of.
    """

    lengths: np.ndarray
    words: int
    unknown: int
    foreign: list[str]


def require_files(folder: Path, label: str) -> None:
    """InputError where a model's folder has no file of a tokenizer, of whatever kind."""
    if (folder / "config.json").exists() and not any(any(folder.glob(file)) for file in (*VOCABULARIES, SETTINGS)):
        raise InputError(
            f"--encoder {label}: its folder has no tokenizer (tokenizer.json, or the files of another kind)"
        )


def require_vocabulary(tokenizer: Any, folder: Path, label: str) -> None:
    """InputError where the vocabulary is missing: transformers then makes a tokenizer that knows no word."""
    named = set(getattr(tokenizer, "vocab_files_names", {}).values())
    if named and not any(any(folder.glob(pattern)) for pattern in (*named, *VOCABULARIES)):
        raise InputError(
            f"--encoder {label}: its folder has no tokenizer ({listed(sorted({'tokenizer.json', *named}))})"
        )


def make_usable(tokenizer: Any, rows: int | None, label: str) -> None:
    """Padding on the right by a token that the model has; rows: of its embedding.

    Positions that are learned count from the left: with padding there, what a text is encoded as would depend on the
    texts beside it. Any token will do for padding, as the attention mask hides it.
    """
    tokenizer.padding_side = "right"
    known = UNLIMITED if rows is None else rows
    if tokenizer.pad_token_id is not None and tokenizer.pad_token_id < known:
        return
    for token in (tokenizer.eos_token, tokenizer.unk_token, tokenizer.cls_token, tokenizer.convert_ids_to_tokens(0)):
        number = None if token is None else tokenizer.convert_tokens_to_ids(token)
        if number is not None and number < known:
            tokenizer.pad_token = token
            return
    raise InputError(f"--encoder {label}: its tokenizer has no token to pad with that the model knows")


def embedding_rows(model: torch.nn.Module) -> int | None:
    """How many tokens a model knows; None where it does not say."""
    try:
        return getattr(model.get_input_embeddings(), "num_embeddings", None)
    except (NotImplementedError, AttributeError):
        return None


def positions(model: torch.nn.Module) -> int:
    """How many tokens a model has positions for."""
    config = getattr(model.config, "text_config", model.config)
    said = getattr(config, "max_position_embeddings", None) or 0
    # RoBERTa and its kin count positions from behind that of the padding: of 514 rows 512 can be used.
    tables = (getattr(module, "position_embeddings", None) for module in model.modules())
    padding = [table.padding_idx for table in tables if isinstance(table, torch.nn.Embedding)]
    taken = max((index + 1 for index in padding if index is not None), default=0)
    return said - taken if said > 0 else UNLIMITED  # XLNet says -1


def count(tokenizer: Any, texts: Sequence[str], rows: int | None) -> Counts:
    """Of a tokenizer of transformers or of tokenizers, nothing of any other; rows: of the model's embedding."""
    if not (hasattr(tokenizer, "unk_token_id") or hasattr(tokenizer, "encode_batch")):
        return Counts(np.zeros(len(texts), int), 0, 0, [])
    lengths, words, unknown, foreign = [], 0, 0, {}
    for start in range(0, len(texts), STEP):
        part = list(texts[start : start + STEP])
        if hasattr(tokenizer, "unk_token_id"):
            flags = {"truncation": False, "return_special_tokens_mask": True, "verbose": False}
            encoded = tokenizer(part, **flags)
            pairs = list(zip(encoded["input_ids"], encoded["special_tokens_mask"], strict=True))
            unknown_id = tokenizer.unk_token_id
        else:
            pairs = [(one.ids, one.special_tokens_mask) for one in tokenizer.encode_batch(part)]
            unknown_id = tokenizer.token_to_id(getattr(tokenizer.model, "unk_token", None) or "<unk>")
        for ids, special in pairs:
            lengths.append(len(ids))
            words += len(ids) - sum(special)
            unknown += sum(1 for token, added in zip(ids, special, strict=True) if token == unknown_id and not added)
            if rows is not None and ids and max(ids) >= rows:
                foreign.update(dict.fromkeys(token for token in ids if token >= rows))
    named = [] if not foreign else [_token(tokenizer, number) for number in foreign]
    return Counts(np.array(lengths, int), words, unknown, named)


def _token(tokenizer: Any, number: int) -> str:
    of = getattr(tokenizer, "convert_ids_to_tokens", None) or tokenizer.id_to_token
    return str(of(number))
