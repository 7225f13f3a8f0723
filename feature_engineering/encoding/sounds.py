"""The sound of videos through an encoder of transformers: (N, D), in shards, alone or on the way of their frames."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path

import numpy as np
import torch
from transformers import AutoFeatureExtractor, AutoModel
from transformers.feature_extraction_sequence_utils import SequenceFeatureExtractor

from common.console import InputError
from common.devices import pick_device
from feature_engineering.decoding import sound
from feature_engineering.decoding.frames import SHARD_ITEMS, Plan, in_shards
from feature_engineering.decoding.sound import Ear
from feature_engineering.decoding.workers import Failure
from feature_engineering.encoding.encoders import (
    Encoder,
    Source,
    fetch,
    first_line,
    load_encoder,
    load_pretrained,
    provenance,
    revision_of,
    to_device,
)
from feature_engineering.jobs.on_ray import made_of
from feature_engineering.jobs.progress import Progress, Shards
from feature_engineering.jobs.skipped import fail_on
from feature_engineering.settings import DecodingSettings, EncoderSettings

WINDOW = 10  # seconds that are encoded at once by an encoder that takes any length
KNOWN = "CLAP, an audio spectrogram transformer (AST), Wav2Vec2, HuBERT or Whisper"
AHEAD = 4  # videos that are decoded while the encoder is busy


class SoundEncoder(Encoder):
    """An encoder of sound and its feature extractor, as the settings ask for them; seconds: heard of a video.

    ear: what decodes for it. dimension: D. pooling: how the states of a window become a vector. InputError where it is
    none, or gives no vectors.
    """

    def __init__(self, settings: EncoderSettings, seconds: float):
        super().__init__(fetch(settings.encoder), settings, SoundEncoder, seconds)
        extractor = _extractor(self.source)
        model = load_encoder(self.source, pick_device(settings.device), settings.precision, AutoModel)
        self.model = model
        if getattr(model.config, "is_encoder_decoder", False):  # Whisper, whose decoder writes what is said
            self.model = model.get_encoder()
            self.model.weights_hash = model.weights_hash
        self.ear = Ear(extractor, _longest(extractor), seconds)
        self.pooling = ""
        self.dimension = self._try_out()

    @torch.inference_mode()
    def __call__(self, inputs: np.ndarray, samples: int) -> torch.Tensor:
        """(W, ...) of one video, whose windows hold so many samples each -> (D,), their mean, still on the device.

        Nothing of another video is in the batch, so that a vector depends on its own video alone.
        """
        parts = [inputs[start : start + self.batch_size] for start in range(0, len(inputs), self.batch_size)]
        return torch.cat([self._pooled(to_device(part, self.model), samples).float() for part in parts]).mean(dim=0)

    def _pooled(self, inputs: torch.Tensor, samples: int) -> torch.Tensor:
        """(B, ...) -> (B, D): projected (CLAP), pooled (AST), or the mean over the states that hold sound."""
        extractor, model = self.ear.extractor, self.model
        # No window is longer than the encoder takes, which is what CLAP wants to know of each.
        longer = {"is_longer": torch.zeros(len(inputs), 1, dtype=torch.bool, device=inputs.device)}
        more = longer if "is_longer" in extractor.model_input_names else {}
        if hasattr(model, "get_audio_features"):
            self.pooling = "projected"
            return model.get_audio_features(inputs, **more).pooler_output
        output = model(inputs, **more)
        if getattr(output, "pooler_output", None) is not None:
            self.pooling = "pooler"
            return output.pooler_output
        states, self.pooling = output.last_hidden_state, "mean"  # (B, L, D)
        if hasattr(extractor, "n_samples"):  # Whisper's fills every window up to its 30 s
            states = states[:, : -(-states.shape[1] * samples // extractor.n_samples)]
        return states.mean(dim=1)

    def _try_out(self) -> int:
        """D. What cannot encode a sound is told of here, and not when much has been decoded."""
        label, rate = self.source.label, self.ear.rate
        tone = np.sin(np.arange(min(rate, self.ear.longest)) * 2 * np.pi * 440 / rate, dtype=np.float32)[None]
        try:
            vector = self(self.ear.extract(tone), tone.shape[1])
        except Exception as error:  # of many classes, as it may be a model of anything
            what = f"{type(self.model).__name__} ({first_line(error)})"
            raise InputError(f"--encoder {label}: no vector of a sound comes from its {what}; take {KNOWN}") from None
        if vector.ndim != 1 or not torch.isfinite(vector).all():
            raise InputError(f"--encoder {label}: gives no vector of numbers for a sound; take {KNOWN}")
        return len(vector)

    def provenance(self) -> dict:
        return provenance(self.model, self.source, pooling=self.pooling, seconds=self.ear.seconds)


def _extractor(source: Source) -> SequenceFeatureExtractor:
    extractor = None
    try:
        extractor = load_pretrained(AutoFeatureExtractor, source)
    except InputError as error:
        # What else is wrong, as code that would have to be run, is told as it is.
        if not re.search("Unrecognized feature extractor|Can't load feature extractor", str(error)):
            raise
    if not isinstance(extractor, SequenceFeatureExtractor):
        why = "it has no feature extractor of sounds that transformers knows"
        raise InputError(f"--encoder {source.label}: no encoder of sound, as {why}; take {KNOWN}")
    return extractor


def _longest(extractor: SequenceFeatureExtractor) -> int:
    """Samples that are encoded at once: what CLAP's and Whisper's extractors cut at, and AST's, in frames of 10 ms."""
    said, rate = vars(extractor), extractor.sampling_rate
    if {"num_mel_bins", "max_length"} <= set(said):
        return extractor.max_length * rate // 100
    return said.get("nb_max_samples") or said.get("n_samples") or WINDOW * rate


class Listening:
    """Vectors of the sound of a plan's items, which are taken one after the other, shard by shard.

    on_error: "fail" stops at the first broken sound; else its vector is zeros, as that of a video without sound, or
    with nothing but silence.
    """

    def __init__(self, plan: Plan, encoder: SoundEncoder, on_error: str):
        self.plan, self.encoder, self.ear, self.on_error = plan, encoder, encoder.ear, on_error
        self._clear()

    def _clear(self) -> None:
        self._vectors: list[torch.Tensor] = []
        self._failed: dict[str, str] = {}
        self._heard: dict[str, dict] = {}

    def take(self, item_id: str, result: tuple | Failure) -> None:
        """The next item of a shard: what decoding/sound.py made of its sound."""
        vector = torch.zeros(self.encoder.dimension)
        if isinstance(result, Failure):
            self._failed[item_id] = result.reason
            fail_on({item_id: result.reason}, self.on_error, self.plan.place)
        else:
            inputs, samples, note = result
            self._heard[item_id] = {"sound": bool(len(inputs))} | ({"note": note} if note else {})
            vector = self.encoder(inputs, samples) if len(inputs) else vector
        self._vectors.append(vector)

    def end(self, units: range) -> tuple[np.ndarray, dict]:
        """All items of a shard, which is `units`, were taken: their vectors (S, D), and what is to be noted."""
        vectors, failed, heard = np.stack([vector.cpu().numpy() for vector in self._vectors]), self._failed, self._heard
        bad = ~np.isfinite(vectors).all(axis=1)
        failed |= {self.plan.item_ids[units[i]]: "NaN or infinite features" for i in np.flatnonzero(bad)}
        vectors[bad] = 0
        self._clear()
        return vectors, {"failed": failed, "captured": heard}


class Hearing:
    """The sound of a plan's items on its way into a Progress in `folder`; what is there already is not encoded again.

    on_error: as of Listening. then: what is to become of the vectors, by which other work is told from this too.
    """

    def __init__(
        self,
        folder: Path,
        plan: Plan,
        encoder: SoundEncoder,
        on_error: str,
        *,
        overwrite: bool,
        then: Mapping[str, str],
    ):
        self.plan, self.encoder, self.listening = plan, encoder, Listening(plan, encoder, on_error)
        weights = next(encoder.model.parameters())
        settings = {
            "encoder": encoder.source.label,
            "revision": revision_of(encoder.model, encoder.source),
            "precision": str(weights.dtype),
            "device": weights.device.type,
            "seconds": encoder.ear.seconds,
            "videos": str(plan.place.resolve()),
            "batch_size": encoder.batch_size,
            **then,
        }
        self.progress = Progress.open(folder, settings, plan.item_ids, SHARD_ITEMS, restart=overwrite)
        if self.progress.done:
            done, total = self.progress.units_done, self.progress.total
            print(f"{folder}: going on, the sound of {done} of {total} videos is encoded")

    def commit(self, number: int, vectors: np.ndarray, notes: dict) -> None:
        if number not in self.progress.done:
            self.progress.commit(number, vectors, **notes)

    def finish(self, decoding: DecodingSettings) -> Progress:
        """Decode and encode what is left, for its own sake."""
        shards, work = list(self.progress.pending()), partial(_heard, listening=self.listening, decoding=decoding)
        with made_of(shards, work, self.encoder, self.progress.total, "video") as made:
            for number, vectors, notes in made:
                self.progress.commit(number, vectors, **notes)
        return self.progress


def _heard(shards: Shards, listening: Listening, decoding: DecodingSettings) -> Iterator[tuple[int, np.ndarray, dict]]:
    """Of each shard its number, its vectors (S, D), and what is to be noted."""
    plan, setup = listening.plan, (sound.begin, (listening.ear,))
    with contextlib.closing(in_shards(plan, shards, sound.from_video, (), setup, decoding, AHEAD)) as decoded:
        for number, units, results in decoded:
            for unit, result in results:
                listening.take(plan.item_ids[unit], result)
            yield number, *listening.end(units)
