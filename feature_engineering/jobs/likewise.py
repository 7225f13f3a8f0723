"""Features of new items, made as those of a data set were: by the same encoders, with the same scale and vocabulary."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from common.console import InputError
from common.files import read_json, write_json
from common.room import naming
from common.settings import made as settings_of
from dataloader.description import FILE
from dataloader.growing import added
from dataloader.importing.feature_files import as_retrieval, load_features
from dataloader.importing.newcomers import Newcomers, write_newcomers
from dataloader.metadata import HAS_SOUND
from dataloader.modalities import AUDIO, METADATA, RETRIEVAL, in_order
from dataloader.replacing import UNSCALED
from dataloader.store import FeatureStore
from feature_engineering.encoding.captions import CAPTIONS, captioned_by
from feature_engineering.encoding.lexical import Lexical
from feature_engineering.jobs.comparing import (
    FEATURES,
    OF_FRAMES,
    WORDS,
    Making,
    WeightSettings,
    from_features,
    from_sources,
    from_words,
    of_store,
    reads_texts,
    recipe,
)
from feature_engineering.jobs.making import make_audio, make_captions, make_textual, make_visual
from feature_engineering.jobs.origins import needed, refuse_unknown_origins, twin_of
from feature_engineering.jobs.storing import FITTED, write_features
from feature_engineering.settings import (
    CaptionSettings,
    DecodingSettings,
    EncoderSettings,
    FrameSettings,
    StorageSettings,
    TextSettings,
)

if TYPE_CHECKING:
    from feature_engineering.decoding.frames import Plan
    from feature_engineering.encoding.captioner import Asked, Blip
    from feature_engineering.encoding.clips import ClipEncoder
    from feature_engineering.encoding.images import ImageEncoder
    from feature_engineering.encoding.sounds import Hearing, SoundEncoder
    from feature_engineering.encoding.texts import TextEncoder

WORK = "work.json"  # in the folder of new items: all that their features depend on
OWN = ("made_of", UNSCALED)  # digests of a data set's own arrays, which its growing changes
PRECISION = {"float32": "fp32", "bfloat16": "bf16"}  # as dataset.json calls it -> as its flag does


class OtherWork(InputError):
    """Where new items are to be encoded, the features of others are."""


class Encoders:
    """The encoders that dataset.json records of the features of `store`, loaded when they are asked for, each once.

    folders: name of the features (or captions) -> where their encoder is now, in place of where it was.
    """

    def __init__(self, store: FeatureStore, folders: Mapping[str, str], device: str):
        self.store, self.folders, self.device = store, folders, device
        self._loaded: dict[str, Any] = {}

    def images(self, name: str) -> ImageEncoder | ClipEncoder:
        from feature_engineering.encoding.clips import visual_encoder

        made = self._made(name)
        return self._once(name, lambda: self._same(name, made, visual_encoder(self._settings(name, made, 32))))

    def texts(self, name: str) -> TextEncoder:
        """Of retrieval vectors of frames too by the encoder of these."""
        from feature_engineering.encoding.texts import TextEncoder

        made = self._made(name)
        said = {key: made[key] for key in ("prompt", "max_length") if key in made}
        pooling = None if made.get("pooling") in ("projected", "own") else made.get("pooling")
        framed = any(source in OF_FRAMES for source in recipe(self.store.description.features[name].made))
        how = {"made": made} | ({"model": self.images(name).model} if framed else {})
        settings = TextSettings(pooling=pooling, **said)

        def load() -> TextEncoder:
            return self._same(name, made, TextEncoder(self._settings(name, made, 64), settings, **how))

        return self._once(f"texts of {name}", load)

    def sounds(self) -> SoundEncoder:
        from feature_engineering.encoding.sounds import SoundEncoder

        made = self._made(AUDIO)

        def load() -> SoundEncoder:
            return self._same(AUDIO, made, SoundEncoder(self._settings(AUDIO, made, 32), made["seconds"]))

        return self._once(AUDIO, load)

    def captioner(self) -> Blip | Asked:
        from feature_engineering.encoding.captioner import captioner_of

        made = captioned_by(self.store.folder / CAPTIONS)

        def load() -> Blip | Asked:
            settings, captions = self._settings("captions", made, 32), settings_of(CaptionSettings, made)
            return self._same("captions", made, captioner_of(settings, captions, made["frame_num"]))

        return self._once(CAPTIONS, load)

    def lexical(self, name: str) -> Lexical:
        """Of the texts that the words of the features `name` were counted in."""
        store = self.store
        fitted = store.description.features[name].made.get(FITTED, 0)
        known = (store.items.split == "train") & (added(store.items) <= fitted)
        return self._once(f"words {fitted}", lambda: Lexical.fit(store.items.text[known]))

    def require(self, names: Sequence[str]) -> None:
        """InputError where the folder of an encoder of these features is gone; none is loaded."""
        of = self.store.description.features
        for name in names:
            if "encoder" in of[name].made:
                self._settings(name, self._made(name), 1)
            if "captions" in recipe(of[name].made):
                self._settings("captions", captioned_by(self.store.folder / CAPTIONS), 1)

    def _made(self, name: str) -> dict:
        return self.store.description.features[name].made["encoder"]

    def _once(self, name: str, load) -> Any:
        if name not in self._loaded:
            self._loaded[name] = load()
        return self._loaded[name]

    def _settings(self, name: str, made: Mapping[str, Any], batch_size: int) -> EncoderSettings:
        place, precision = made.get("folder"), PRECISION.get(made.get("dtype"), "auto")
        if name in self.folders:
            place = self.folders[name]
        elif place is None:  # of the hub: the same commit
            place = f"{made['name']}@{made['revision']}" if "/" in made["name"] else made["name"]
        elif not Path(place).is_dir():
            raise InputError(
                f"{self.store.folder}: its {name} encoder {made['name']} is no longer in {place}; name its folder: "
                f"--encoders {name}=<folder>"
            )
        return EncoderSettings(encoder=place, batch_size=batch_size, precision=precision, device=self.device)

    def _same(self, name: str, made: Mapping[str, Any], encoder: Any) -> Any:
        from feature_engineering.encoding.encoders import revision_of

        now = revision_of(encoder.model, encoder.source)
        weights = f"weights-sha256:{encoder.model.weights_hash}"
        if made["revision"] not in (now, weights):
            raise InputError(
                f"--encoders {name}={encoder.source.folder}: not the encoder of the data set ({made['name']}, "
                f"{made['revision']}; this is {now})"
            )
        return encoder


def begin_likewise(
    folder: Path,
    found: Newcomers,
    encoders: Encoders,
    names: Collection[str],
    given: Mapping[str, str],
    frames: FrameSettings,
) -> FeatureStore:
    """The data set of new items in `folder`, to be given features, or the one that the same work has begun there.

    InputError where other work has: of other items, columns, files, or after features that were made in another way.
    """
    names = needed(encoders.store, names, given)
    if spare := [name for name in given if name not in names]:
        there = f"{encoders.store.folder} has {', '.join(in_order(names)) or 'none'}"
        raise InputError(f"--features {spare[0]}: no such features are wanted ({there})")
    for name in in_order(given):  # a file that cannot be used is told of before anything is made
        read_given(encoders.store, name, given[name], found.items.item_id, found.order)
    of = encoders.store.description.features
    like = {name: [of[name].dtype, {k: v for k, v in of[name].made.items() if k not in OWN}] for name in sorted(names)}
    if any("captions" in recipe(of[name].made) for name in names if name not in given):
        like["captions"] = captioned_by(encoders.store.folder / CAPTIONS)
    content = {
        "items": found.items.digest(),
        "metadata": found.metadata and found.metadata.digest(),
        "like": hashlib.sha256(json.dumps(like, sort_keys=True).encode()).hexdigest(),
        "given": {name: hashlib.sha256(content_of(Path(file))).hexdigest() for name, file in sorted(given.items())},
        "frames": [str(path.resolve()) for path in (frames.videos, frames.frames) if path],
    }
    path = folder / WORK
    made = [one for pattern in ("*.npy", "*.progress", CAPTIONS) for one in folder.glob(pattern)]
    if path.exists() and not made and read_json(path) != content:
        shutil.rmtree(folder)  # of a command that was refused, or mistyped: no work is lost
    if path.exists() and (other := [key for key, value in read_json(path).items() if content.get(key) != value]):
        raise OtherWork(f"{folder}: made of another {' and '.join(other)}")
    if not path.exists() and (folder / FILE).exists():
        raise OtherWork(f"{folder}: a data set that is none of new items")
    write_json(path, content)  # first: a killed command goes on with what has this file
    return write_newcomers(folder, found, encoders.store)


def read_given(like: FeatureStore, name: str, file: str, item_ids: np.ndarray, order: np.ndarray) -> np.ndarray:
    """The features `name` of a file; InputError where they are not of the shape that `like` has."""
    array = load_features(Path(file), name, item_ids, order)
    array, shape = as_retrieval(array) if name == RETRIEVAL else array, like.description.features[name].shape[1:]
    if array.shape[1:] != shape:
        raise InputError(
            f"{file}: {name} features of shape {array.shape[1:]} an item, those of {like.folder} have {shape}"
        )
    return array


def content_of(file: Path) -> bytes:
    """Of a file of features; of one array in it (file.npz:name) the whole file's."""
    path = Path(str(file).partition(".npz:")[0] + ".npz") if ".npz:" in file.name else file
    try:
        with naming(path):
            return path.read_bytes()
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None


def make_likewise(
    new: FeatureStore,
    encoders: Encoders,
    names: list[str],
    given: Mapping[str, str],
    frames: FrameSettings,
    decoding: DecodingSettings,
    order: np.ndarray,
) -> FeatureStore:
    """The data set `new` with the features `names` of the encoders' store, made as these were, and scaled by theirs.

    given: name -> a file of ready ones, of these items or, without ids, of `order`, the ids of all rows. Those that are
    there already are kept: a stopped command goes on. What cannot be decoded is left out, and listed in skipped.csv of
    `new`. InputError where nobody knows how they were made.
    """
    like = encoders.store
    names = in_order(name for name in set(names) - {METADATA} if name not in new.features)
    refuse_unknown_origins(like, names, given)
    encoders.require([name for name in needed(like, names, given) if name not in given])
    for name in names:
        if name in new.features:  # made beside another one
            continue
        feature = like.description.features[name]
        storage, made = StorageSettings.of(feature), feature.made
        if name in given:
            array = read_given(like, name, given[name], new.items.item_id, order)
            write_features(new, [name], array, storage, {"source": Path(given[name]).name})
            if name == AUDIO and HAS_SOUND in like.description.added_columns:
                print(f"{HAS_SOUND} is unknown of all items, as their sound was not listened to here")
        elif (twin := twin_of(like, name)) and feature.sha256 == like.description.features[twin].sha256:
            new = make_likewise(new, encoders, [twin], given, frames, decoding, order)
            # What was scaled by statistics is kept as it was before them, here as there.
            scaled = UNSCALED in new.description.features[twin].made
            array = as_retrieval(np.asarray(new.unscaled(twin) if scaled else new.features[twin]))
            write_features(new, [name], array, storage if scaled else plain(storage), {"source": twin})
        elif twin and twin in given:  # the same file, scaled in another way
            array = as_retrieval(load_features(Path(given[twin]), twin, new.items.item_id, order))
            write_features(new, [name], array, storage, {"source": Path(given[twin]).name})
        elif made.get("source") == FEATURES:
            weights = WeightSettings(made["visual_weight"], made["lexical_weight"])
            lexical = encoders.lexical(name) if weights.lexical_weight else None
            for side in made.get("made_of", {}):
                new = make_likewise(new, encoders, [side], given, frames, decoding, order)
            from_features(new, weights, storage, False, lexical)
        elif made.get("source") == WORDS:
            from_words(new, storage, encoders.lexical(name))
        elif name == RETRIEVAL:
            # Vectors of titles that were made before their source was said have none.
            sources = recipe(made) if "source" in made else {"text": 1.0}
            for side in of_store(sources):
                new = make_likewise(new, encoders, [side], given, frames, decoding, order)
            if "captions" in sources:
                new = with_captions_like(new, encoders, frames, decoding)
            making = Making(None, None, None, None, decoding, storage)
            if framed := any(source in OF_FRAMES for source in sources):
                from feature_engineering.decoding.frames import make_plan

                making.plan = make_plan(new, with_frames(frames, made["frame_num"]), decoding.on_error)
            making.images = encoders.images(name) if framed else None
            making.texts = encoders.texts(name) if reads_texts(sources) else None
            making.lexical = encoders.lexical(name) if WORDS in sources else None
            from_sources(new, sources, making)
        elif len(feature.shape) == 3:
            from feature_engineering.decoding.frames import make_plan

            clip = made["encoder"].get("frame_num")  # of a video encoder, whose one vector is of so many frames
            plan = make_plan(new, with_frames(frames, feature.shape[1]), decoding.on_error, clip)
            how = {"from_videos": frames.videos is not None, "overwrite": False}
            if frames.videos and AUDIO in names and AUDIO not in {*given, *new.features}:
                how["hearing"] = hearing_of(new, encoders, plan, decoding)
            new, _, _ = make_visual(new, encoders.images(name), plan, decoding, storage, **how)
        elif name == AUDIO:
            make_audio(new, hearing_of(new, encoders, plan_sound(new, frames, decoding), decoding), decoding, storage)
        else:
            make_textual(new, encoders.texts(name), [name], storage, overwrite=False)
        new = FeatureStore.open(new.folder)
    return new


def with_captions_like(
    new: FeatureStore, encoders: Encoders, frames: FrameSettings, decoding: DecodingSettings
) -> FeatureStore:
    from feature_engineering.decoding.frames import make_plan

    if (new.folder / CAPTIONS).exists():
        return new
    made = captioned_by(encoders.store.folder / CAPTIONS)
    plan = make_plan(new, with_frames(frames, made["frame_num"]), decoding.on_error)
    return make_captions(new, encoders.captioner(), plan, decoding, overwrite=False)[0]


def plan_sound(new: FeatureStore, frames: FrameSettings, decoding: DecodingSettings) -> Plan:
    from feature_engineering.decoding.frames import make_plan

    if not frames.videos:
        raise InputError("sound is heard of videos: --videos says where they are, or --features audio=<file> brings it")
    return make_plan(new, FrameSettings(videos=frames.videos), decoding.on_error)


def hearing_of(new: FeatureStore, encoders: Encoders, plan: Plan, decoding: DecodingSettings) -> Hearing:
    from feature_engineering.encoding.sounds import Hearing

    return Hearing(new.folder / "audio.progress", plan, encoders.sounds(), decoding.on_error, overwrite=False, then={})


def with_frames(frames: FrameSettings, count: int) -> FrameSettings:
    return FrameSettings(videos=frames.videos, frames=frames.frames, frame_num=count)


def plain(storage: StorageSettings) -> StorageSettings:
    """As they are: what they are a copy of is scaled."""
    return StorageSettings(storage.dtype)
