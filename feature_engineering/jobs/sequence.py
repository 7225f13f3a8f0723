"""From videos and texts to all features of a data set: the feature scripts in order, as one resumable command."""

from __future__ import annotations

import argparse
import os
import shlex
import subprocess
import sys
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from common.console import STEP, InputError
from common.devices import add_device_flag
from common.lock import handed_on, locked
from common.settings import add_flags, flags_of
from dataloader.describing import describe
from dataloader.importing.scaling import modes_by_array
from dataloader.importing.video_files import Videos
from dataloader.modalities import AUDIO, RETRIEVAL
from dataloader.skipped import lost_items
from dataloader.store import FeatureStore
from feature_engineering.encoding.captions import CAPTIONS
from feature_engineering.jobs.skipped import warn_of_losses
from feature_engineering.settings import NO_ENCODER, DecodingSettings, SequenceSettings

ROOT = Path(__file__).resolve().parents[2]
COMMON = ("device", "precision")  # flags that every step takes
DECODING = ("frame_num", *flags_of(DecodingSettings))  # and those of the steps that decode videos


def add_sequence_flags(parser: argparse.ArgumentParser, *, without: Collection[str] = ()) -> None:
    """`--videos`, which asks for the whole sequence, and what its steps take.

    without: flags that the script has of its own, as they mean more there.
    """
    group = parser.add_argument_group(
        "videos", "with --videos all features are made too; a stopped run goes on when the same command is typed again"
    )
    add_flags(group, SequenceSettings)
    add_device_flag(group)
    add_flags(group, DecodingSettings, without=without)


def check_sequence_flags(sequence: SequenceSettings, typed: Mapping[str, Any]) -> None:
    """InputError where there are no such videos, or a flag that acts only beside them; before anything is written."""
    idle = [flag for flag in typed if flag in {*flags_of(SequenceSettings), *COMMON, *DECODING}]
    if idle and not sequence.videos:
        raise InputError(f"--{idle[0]} does nothing without --videos")
    if sequence.videos:
        Videos(sequence.videos)


def run_sequence(
    store: FeatureStore,
    sequence: SequenceSettings,
    typed: Mapping[str, Any],
    normalise: dict[str, str] | None = None,
    given: Collection[str] = (),
) -> FeatureStore:
    """Make what `store` lacks, a script a step, where there are --videos; the data set, which is described too.

    typed: the flags that were on the command line, which hold for the steps too. normalise: array -> mode. given:
    arrays that files of this command brought. Ends the process with a step's exit code where that fails.
    """
    if not sequence.videos:
        print(describe(store))
        return store
    normalise = modes_by_array([]) if normalise is None else normalise  # one mode for all is an empty dictionary too
    with locked(store.folder):
        for command in steps(store, sequence, typed, normalise, given):
            print(f"\n$ {shlex.join(['python', *command])}", flush=True)
            code = subprocess.run([sys.executable, *command], **handed_on({STEP: store.dataset_id})).returncode
            if code:
                how = "the same command without --overwrite" if "overwrite" in typed else "the same command"
                print(f"{Path(sys.argv[0]).name}: stopped; {how} goes on from here", file=sys.stderr)
                sys.exit(code)
    store = FeatureStore.open(store.folder)
    print(f"\n{describe(store)}")
    lost = lost_items(store.folder)
    warn_of_losses(len(lost), len(lost.keys() | set(store.items.item_id)), store.folder / "skipped.csv")
    return store


def steps(
    store: FeatureStore,
    sequence: SequenceSettings,
    typed: Mapping[str, Any],
    normalise: dict[str, str],
    given: Collection[str] = (),
) -> Iterator[list[str]]:
    """The commands, each of which says so where its work is done, and refuses where other work stands in its place."""
    videos, common = ["--videos", str(sequence.videos)], typed_again(typed, COMMON)
    if sequence.keep_frames:
        # This step does not know all policies of --on_error: the next one acts on the items whose frames are missing.
        yield [*script("video_frame_capture", store), *videos, *typed_again(typed, DECODING[:-1])]
    decoding = [*([] if sequence.keep_frames else videos), *typed_again(typed, DECODING)]

    def mode_of(name: str) -> str:
        return normalise[name]  # not get(), which passes over the mode of all arrays that are not named

    def encoding(name: str, encoder: str) -> list[str]:
        mode = mode_of(name)
        scale = [] if mode == "none" else ["--normalise", mode]
        flags = [*scale, *common, *typed_again(typed, ["dtype"])]
        return [*script(f"{name}_engineering", store), "--encoder", encoder, *flags]

    hears = sequence.audio_encoder != NO_ENCODER and AUDIO not in given
    if "visual" not in given:
        # The sound is decoded on the way of the frames, where one step can do both.
        together = hears and not sequence.keep_frames and mode_of(AUDIO) == mode_of("visual")
        yield [
            *encoding("visual", sequence.visual_encoder),
            *(["--audio_encoder", sequence.audio_encoder] if together else []),
            *decoding,
        ]
        hears = hears and not together
    if hears:
        strict = ["--on_error", "fail"] if typed.get("on_error") == "fail" else []  # it knows no policy skip
        yield [*encoding(AUDIO, sequence.audio_encoder), *videos, *typed_again(typed, DECODING[1:-1]), *strict]
    captions = sequence.caption_encoder != NO_ENCODER
    if captions and (RETRIEVAL not in store.features or (store.folder / CAPTIONS).exists()):
        yield [*script("captioning", store), "--encoder", sequence.caption_encoder, *common, *decoding]
    if "textual" not in given:
        yield encoding("textual", sequence.textual_encoder)
    if RETRIEVAL not in given:
        yield [*encoding(RETRIEVAL, sequence.retrieval_encoder), "--source", "captions" if captions else "text"]


def script(stem: str, store: FeatureStore) -> list[str]:
    path = os.path.relpath(ROOT / "feature_engineering" / f"{stem}.py")
    return [path, "--dataset_path", str(store.folder.parent), "--dataset_id", store.folder.name]


def typed_again(typed: Mapping[str, Any], flags: Iterable[str]) -> list[str]:
    """Those of `flags` that were typed, as words of another command."""
    return [word for flag in flags if flag in typed for word in (f"--{flag}", str(typed[flag]))]
