"""Texts through a text encoder: as its folder says where it is one of sentence-transformers, else by transformers."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from tqdm import tqdm
from transformers import AutoModel

from common.arrays import Rows
from common.console import PROGRESS_BAR, InputError, listed
from common.devices import pick_device
from feature_engineering.encoding.encoders import Encoder, fetch, first_line, load_encoder, provenance, revision_of
from feature_engineering.encoding.folders import modules_of
from feature_engineering.encoding.pooling import Pooled
from feature_engineering.encoding.sentences import Sentences
from feature_engineering.encoding.tokens import Counts, count
from feature_engineering.jobs.on_ray import made_of
from feature_engineering.jobs.progress import Progress, Shards
from feature_engineering.settings import EncoderSettings, TextSettings

LONGEST_UNLESS_SAID = 512  # tokens; some tokenizers say that their limit is 1e30
SHARD_BATCHES = 16
MANY_UNKNOWN = 0.1  # of the tokens: more of them mean that the encoder is of another language
# How the published encoders are meant to be used, by the last part of their names, whatever their folders say.
POOLING_OF = {"angle-bert-base-uncased-nli-en-v1": "cls_avg", "UAE-Large-V1": "cls"}
RETRIEVAL_PROMPT_OF = {"UAE-Large-V1": "Represent this sentence for searching relevant passages: {text}"}


class TextEncoder(Encoder):
    """A text encoder, as the settings ask for it, else as its folder says, else with the mean of its tokens.

    prompts: the last part of an encoder's name -> its prompt, for settings without one. model: an encoder of texts and
    pictures that is loaded already. made: what dataset.json says of the encoder that this one is to be again; it wins
    over the folder.

    model, source, batch_size, pooling, prompt, max_length: what acts; `acted`: all of that but the first three, and
    what else a folder can ask for, as dataset.json has it.
    """

    def __init__(
        self,
        settings: EncoderSettings,
        text: TextSettings,
        prompts: Mapping[str, str] | None = None,
        model: torch.nn.Module | None = None,
        made: Mapping[str, Any] | None = None,
    ):
        if text.prompt and "{text}" not in text.prompt:
            raise InputError(f"--prompt {text.prompt!r}: has no {{text}}, so every item would get the same vector")
        remake = TextEncoder if model is None else _of_both
        super().__init__(fetch(settings.encoder), settings, remake, text, prompts, None, made)
        name = self.source.label.rpartition("/")[2]
        # Data sets that do not say by which library were made by transformers alone, whatever their encoder's folder.
        plainly = name in POOLING_OF or model is not None or (made is not None and made.get("by") != Sentences.by)
        modules = [] if plainly else modules_of(self.source.folder, self.source.label)
        if modules:
            self._encode = Sentences(self.source, modules, settings)
            said = self._encode.pooling
            if text.pooling and text.pooling != said:
                self._encode.pool_by(text.pooling, settings.encoder)
            if made is None:
                self._say_contradictions(text, said)
        else:
            self._encode = Pooled(self.source, settings, text.pooling, POOLING_OF.get(name, "mean"), model)
        self.model, self.pooling = self._encode.model, self._encode.pooling
        self.prompt = text.prompt or (prompts or {}).get(name) or self._prompt_of_folder(said=made is None)
        limit = text.max_length
        if made is not None and limit:  # It may be from when the positions that padding takes were counted too.
            limit = min(limit, self._encode.most)
        self.max_length = self._length(limit, settings.encoder)
        self._encode.limit(self.max_length)
        self.dimension = self._try_out()

    def _prompt_of_folder(self, said: bool) -> str:
        """Its default. Titles are compared with one another: no prompt that is for one of two sides is theirs."""
        prompts, default = self._encode.prompts, self._encode.default_prompt
        if default in prompts:
            return prompts[default] + "{text}"
        if prompts and said:
            named = listed(f"{name} {prompt!r}" for name, prompt in prompts.items())
            one = next(iter(prompts.values())) + "{text}"
            print(
                f"{self.source.label} has prompts of which none is taken unasked ({named}); to take one: "
                f"--prompt {one!r}"
            )
        return "{text}"

    def _length(self, typed: int | None, name: str) -> int | None:
        """Tokens that are kept of a text."""
        most, said = self._encode.most, self._encode.longest
        if typed and not self._encode.has_limit:
            raise InputError(f"--max_length {typed}: {name} reads texts of any length")
        if (typed or 0) > most:
            raise InputError(f"--max_length {typed}: {name} takes {most} tokens at most")
        return typed or (said if said or not self._encode.has_limit else min(most, LONGEST_UNLESS_SAID))

    def _say_contradictions(self, text: TextSettings, pooling: str) -> None:
        encode, of = self._encode, f"the folder of {self.source.label} says"
        default = encode.prompts.get(encode.default_prompt)
        if text.pooling and text.pooling != pooling:
            print(f"warning: --pooling {text.pooling}: {of} {pooling}", file=sys.stderr)
        if text.prompt and default and text.prompt != default + "{text}":
            print(f"warning: --prompt {text.prompt!r}: {of} {default + '{text}'!r}", file=sys.stderr)
        if text.max_length and encode.longest and text.max_length > encode.longest:
            print(f"warning: --max_length {text.max_length}: {of} {encode.longest}", file=sys.stderr)

    def _try_out(self) -> int:
        """The length of a vector. What cannot encode a text is told of here, and not when much has been encoded."""
        sample = self.prompt.replace("{text}", "a")
        self.refuse_foreign(self.count([sample]))
        try:
            return self([sample]).shape[1]
        except (
            RuntimeError,
            ValueError,
            TypeError,
            KeyError,
            IndexError,
            AttributeError,
            NotImplementedError,
        ) as error:
            raise InputError(f"--encoder {self.source.label}: cannot encode a text ({first_line(error)})") from None

    @property
    def acted(self) -> dict:
        encode = self._encode
        said = {"pooling": self.pooling, "prompt": self.prompt, "max_length": self.max_length}
        return said | {"dense": encode.dense, "normalise": encode.normalise, "by": encode.by}

    def provenance(self) -> dict:
        return provenance(self.model, self.source, **self.acted)

    def in_words(self) -> str:
        """What acted, for the log."""
        prompt = "no prompt" if self.prompt == "{text}" else f"prompt {self.prompt!r}"
        length = f"at most {self.max_length} tokens" if self.max_length else "texts of any length"
        dense = [f"dense {layer}" for layer in self._encode.dense]
        words = [f"pooling {self.pooling}", prompt, length, *dense, *["normalised"] * self._encode.normalise]
        return f"{self.source.label} by {self._encode.by}: {', '.join(words)}"

    def __call__(self, texts: list[str]) -> torch.Tensor:
        """B texts, with their prompt -> (B, D), on the device; zeros for a text of which no token is made."""
        tokenizer = self._encode.tokenizer
        if not self._encode.has_limit or tokenizer.num_special_tokens_to_add():
            return self._encode(texts, self.prompt)
        there = torch.from_numpy(self.count(texts).lengths > 0)  # (B,)
        if there.all():
            return self._encode(texts, self.prompt)
        parameter = next(self.model.parameters())
        if not there.any():
            return torch.zeros(len(texts), self.dimension, dtype=parameter.dtype, device=parameter.device)
        some = self._encode([text for text, is_there in zip(texts, there, strict=True) if is_there], self.prompt)
        vectors = some.new_zeros(len(texts), some.shape[1])  # (B, D)
        vectors[there.to(vectors.device)] = some
        return vectors

    def count(self, texts: Sequence[str]) -> Counts:
        """Of the tokens of texts, before any is cut."""
        return count(self._encode.tokenizer, texts, self._encode.rows)

    def refuse_foreign(self, counts: Counts) -> None:
        """InputError for tokens that are not the model's."""
        if counts.foreign:
            raise InputError(
                f"--encoder {self.source.label}: its tokenizer makes tokens ({listed(counts.foreign)}) of which its "
                f"model, which knows {self._encode.rows}, has no embedding: the two do not belong together"
            )

    def say_unknown(self, titles: Sequence[str], counts: Counts) -> None:
        """What acts on the texts, and how much of them the encoder can read; counts: of the texts with their prompt."""
        words = counts if self.prompt == "{text}" else self.count(titles)
        share = words.unknown / max(words.words, 1)
        unknown = f"{share:.1%} of the tokens of {len(titles)} different texts are unknown to it"
        print(f"{self.in_words()}; {unknown if words.words else 'no tokens that could be counted'}")
        if share > MANY_UNKNOWN:
            print(
                f"warning: {share:.0%} of the tokens are unknown to {self.source.label}, which tells such texts apart "
                "badly; take an encoder of their language, or a multilingual one",
                file=sys.stderr,
            )


def _of_both(settings: EncoderSettings, text: TextSettings, prompts, _, made) -> TextEncoder:
    """As a TextEncoder that was given its model, which is of texts and pictures."""
    model = load_encoder(fetch(settings.encoder), pick_device(settings.device), settings.precision, AutoModel)
    return TextEncoder(settings, text, prompts, model, made)


def encode_texts(
    texts: Sequence[str],
    encoder: TextEncoder,
    folder: Path,
    *,
    overwrite: bool,
    then: Mapping[str, str] = MappingProxyType({}),
) -> tuple[Rows, Progress]:
    """N texts -> their vectors (N, D) on disk, and the Progress in `folder` that holds them until it is removed.

    then: what is to become of them, by which other work is told from this too.
    Equal texts are encoded once: their vectors are then equal to the last bit, and retrieval's ties are real ties.
    Batches hold texts of like length, so that little is spent on padding.
    """
    distinct = list(dict.fromkeys(texts))
    prompts = [encoder.prompt.replace("{text}", text) for text in distinct]
    counts = encoder.count(prompts)
    encoder.refuse_foreign(counts)
    encoder.say_unknown(distinct, counts)
    lengths = counts.lengths
    if encoder.max_length and (cut := int((lengths > encoder.max_length).sum())):
        share = f"{cut} of {len(distinct)} different texts"
        print(f"{share} are longer than {encoder.max_length} tokens (the longest: {lengths.max()}) and were cut")
    order = np.argsort(-lengths, kind="stable")
    settings = {
        "encoder": encoder.source.label,
        "revision": revision_of(encoder.model, encoder.source),
        "precision": str(next(encoder.model.parameters()).dtype),
        "batch_size": encoder.batch_size,
        **encoder.acted,
        **then,
    }
    shard_size = SHARD_BATCHES * encoder.batch_size
    progress = Progress.open(folder, settings, [prompts[i] for i in order], shard_size, restart=overwrite)
    work = partial(_encoded, prompts=progress.keys, encoder=encoder)
    with made_of(list(progress.pending()), work, encoder, progress.total, "text") as made:
        for number, vectors in made:
            progress.commit(number, vectors)
    place = np.empty(len(order), int)
    place[order] = np.arange(len(order))
    number_of = {text: place[i] for i, text in enumerate(distinct)}
    return Rows(progress.features, np.array([number_of[text] for text in texts])), progress


def _encoded(shards: Shards, prompts: Sequence[str], encoder: TextEncoder) -> Iterator[tuple[int, np.ndarray]]:
    """Of each shard its number and its vectors (S, D)."""
    left = sum(len(units) for _, units in shards)
    bar = tqdm(total=len(prompts), initial=len(prompts) - left, desc="texts", unit="text", **PROGRESS_BAR)
    with bar:
        for number, units in shards:
            vectors = []
            for start in range(units.start, units.stop, encoder.batch_size):
                batch = prompts[start : min(start + encoder.batch_size, units.stop)]
                vectors.append(encoder(batch))
                bar.update(len(batch))
            yield number, torch.cat(vectors).float().cpu().numpy()
