"""Sound as a step of a job: what is refused, files that end their worker, kills, and the way to a prediction."""

from __future__ import annotations

import json
import shutil
import time
from dataclasses import replace
from pathlib import Path

import encoded
import numpy as np
import pandas as pd
import pytest
import torch
from bare import bare_store, call
from safetensors.torch import load_file, save_file
from test_resumption import Killed, kill_at  # noqa: F401
from test_sound import RESULT, content, in_this_process, shards_of_four, write_odd
from tiny import refused, run_test, trained
from tiny_sounds import tones, write_clap, write_clip, write_wave, write_whisper

import retriever
from baselines import opened
from common.settings import made
from dataloader.importing.scaling import modes_by_array
from dataloader.metadata import Metadata
from dataloader.store import FeatureStore
from engine.run import Run
from feature_engineering import audio_engineering, retrieval_engineering, textual_engineering, visual_engineering
from feature_engineering.decoding import frames, pixels, sound
from feature_engineering.decoding.workers import Failure
from feature_engineering.encoding.sounds import SoundEncoder
from feature_engineering.jobs import sequence
from feature_engineering.settings import DecodingSettings, EncoderSettings, SequenceSettings
from prediction.app.answering import Answerer
from prediction.predictor import Predictor

# ---- what is refused -----------------------------------------------------------------------------


def edited(folder: Path, file: str, **said) -> Path:
    """A model's folder with something else in one of its JSON files."""
    path = folder / file
    path.write_text(json.dumps(json.loads(path.read_text()) | said))
    return folder


def write_mixed(folder: Path, bert: Path) -> Path:
    """A text encoder with the extractor of a sound encoder beside it."""
    shutil.copytree(bert, folder)
    shutil.copy(write_wave(folder.parent / "whose") / "preprocessor_config.json", folder)
    return folder


def without_weight(folder: Path, name: str) -> Path:
    path = folder / "model.safetensors"
    weights = load_file(path)
    del weights[name]
    save_file(weights, path, {"format": "pt"})
    return folder


def test_what_encodes_no_sound_is_refused_before_anything_is_decoded(tmp_path, vit, bert):
    bare_store(tmp_path, ("a",))
    write_clip(tmp_path / "a.mp4", tones(1, 8000, 0.5), 8000)
    code = {"AutoModel": "model.Ours", "AutoConfig": "model.Config"}
    extractor = {"feature_extractor_type": "Ours", "auto_map": {"AutoFeatureExtractor": "ours.Ours"}}
    bare = write_whisper(tmp_path / "bare")
    (bare / "preprocessor_config.json").unlink()
    other_mels = edited(write_whisper(tmp_path / "mels"), "preprocessor_config.json", feature_size=8)
    none = "no encoder of sound, as it has no feature extractor of sounds that transformers knows; take CLAP"
    for folder, message in {
        vit: none,
        bert: none,
        bare: none,
        tmp_path / "nowhere": "no such folder",
        write_mixed(tmp_path / "mixed", bert): "no vector of a sound comes from its BertModel",
        other_mels: "no vector of a sound comes from its WhisperEncoder",
        edited(
            write_wave(tmp_path / "code"), "config.json", model_type="ours", auto_map=code
        ): "needs code that came with it",
        edited(write_wave(tmp_path / "ours"), "preprocessor_config.json", **extractor): "needs code that came with it",
        without_weight(write_wave(tmp_path / "less"), "feature_projection.projection.bias"): "lacks 1 of the weights",
    }.items():
        with refused(f"^--encoder .*{message}"):
            call(audio_engineering, tmp_path, "--videos", tmp_path, "--encoder", folder)
    with refused(f"^--audio_encoder vit0: {none}"):
        call(visual_engineering, tmp_path, "--videos", tmp_path, "--encoder", vit, "--audio_encoder", vit)
    wave = write_wave(tmp_path / "wave")
    with refused("--audio_encoder: sound is heard of videos alone; say where they are with --videos"):
        call(visual_engineering, tmp_path, "--frames", tmp_path, "--audio_encoder", wave)
    with refused("--seconds does nothing without --audio_encoder"):
        call(visual_engineering, tmp_path, "--videos", tmp_path, "--seconds", 3)
    with refused("nothing for any of the 1 items"):
        call(audio_engineering, tmp_path, "--videos", tmp_path / "wave", "--encoder", wave)
    store = FeatureStore.open(tmp_path / "set")
    store.add_metadata(Metadata({"has_sound": np.array([1], np.int8)}))
    with refused("its table has a column has_sound, which is the name of what is found out about the sound"):
        call(audio_engineering, tmp_path, "--videos", tmp_path, "--encoder", wave)
    names = {path.name for path in store.folder.iterdir()}
    assert names - {".lock", "manifest.jsonl"} == {"dataset.json", "items.parquet", "metadata.parquet"}


def test_weights_that_act_on_no_sound_may_be_missing(tmp_path):
    """As of checkpoints that were trained on for speech; they are made up anew each time that one is loaded."""
    folder = without_weight(write_wave(tmp_path / "wave"), "masked_spec_embed")
    hashes = {SoundEncoder(EncoderSettings(str(folder)), 30.0).model.weights_hash for _ in range(2)}
    assert len(hashes) == 1


# ---- one command for all features ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("flags", "steps"),
    [
        ((), ["visual", "captioning", "textual", "retrieval"]),
        (("--keep_frames",), ["video_frame_capture", "visual", "audio", "captioning", "textual", "retrieval"]),
        (("--normalise", "visual=l2"), ["visual", "audio", "captioning", "textual", "retrieval"]),
    ],
)
def test_sound_is_a_step_or_comes_with_the_frames(tmp_path, load_script, flags, steps):
    script, store = load_script("data/import_features.py"), bare_store(tmp_path, ("a", "b"))
    words = ["--table", "t.csv", "--dataset_id", "set", "--videos", "clips", "--frame_num", "2", "--timeout", "9"]
    words += ["--on_error", "fail", "--audio_encoder", "owner/clap", "--device", "cpu", *flags]
    args = script.build_parser().parse_args(words)
    modes = modes_by_array(["visual=l2"] if "visual=l2" in flags else [])
    ran = list(sequence.steps(store, made(SequenceSettings, vars(args)), args.typed, modes))
    assert [Path(step[0]).stem.removesuffix("_engineering") for step in ran] == steps
    alone = [step for step in ran if "audio_engineering.py" in step[0]]
    (visual,) = (step for step in ran if "visual_engineering.py" in step[0])
    assert ("--audio_encoder" in visual) == (not alone)
    for step in alone:
        words = ["--encoder", "owner/clap", "--device", "cpu", "--videos", "clips", "--timeout", "9.0"]
        assert step[-10:] == [*words, "--on_error", "fail"]
        audio_engineering.build_parser().parse_args(step[1:])
    visual_engineering.build_parser().parse_args(visual[1:])


# ---- workers, and kills --------------------------------------------------------------------------


def hang(path: Path) -> None:
    time.sleep(1000)


@pytest.mark.slow
def test_a_sound_that_ends_its_worker_leaves_the_frames(tmp_path, vit, monkeypatch):
    """And the other way round: in one pass both are lost, and each is tried by itself."""
    clip = write_clip(tmp_path / "a.mp4", tones(1, 8000, 0.5), 8000)
    store = bare_store(tmp_path, ("a",))
    plan = frames.plan_videos(store, tmp_path, 2)
    ear = SoundEncoder(EncoderSettings(str(write_wave(tmp_path / "wave"))), 30.0).ear
    processor = visual_engineering_processor(vit)
    lost, decoding = Failure("the decoder crashed"), DecodingSettings(workers=1, timeout=5.0)
    pixels.begin(processor)
    sound.begin(ear)
    alone = pixels.from_video(clip, 2), sound.from_video(clip)
    both = frames.apart(plan, 0, lost, processor, ear, decoding)
    for found, expected in zip(both, alone, strict=True):
        assert np.array_equal(found[0], expected[0]) and found[1:] == expected[1:]
    monkeypatch.setattr(sound, "from_video", hang)
    (images, *_), silent = frames.apart(plan, 0, lost, processor, ear, decoding)
    assert np.array_equal(images, alone[0][0]) and silent == Failure("gave nothing within 5 s")
    plan.inputs[0] = None
    assert frames.apart(plan, 0, lost, processor, ear, decoding) == (lost, lost)


def visual_engineering_processor(vit: Path):
    from feature_engineering.encoding.images import ImageEncoder

    return ImageEncoder(EncoderSettings(str(vit))).processor


@pytest.mark.slow
def test_killed_at_every_moment_of_writing_and_continued(tmp_path, vit, monkeypatch, kill_at):  # noqa: F811
    """A data set whose table has metadata, of which nothing may be lost."""
    shards_of_four(monkeypatch)
    monkeypatch.setattr(frames, "in_workers", in_this_process)
    odd = write_odd(tmp_path)
    ids = [item for item in odd if item in ("fine", "soundless", "alone", "nothing", "missing")]
    wave = write_wave(tmp_path / "wave")
    flags = ("--videos", tmp_path, "--encoder", vit, "--frame_num", 2, "--audio_encoder", wave)
    original = bare_store(tmp_path / "original", ids)
    original.add_metadata(Metadata({"likes": np.arange(len(ids), dtype=float)}), consequences=["likes"])
    shutil.copytree(original.folder, tmp_path / "undisturbed/set")
    store = call(visual_engineering, tmp_path / "undisturbed", *flags)
    expected = content(store.folder)
    assert set(expected) == set(RESULT) and store.metadata.kinds == {"likes": "number", "has_sound": "yes/no"}
    moment, survived = 0, False
    while not survived:
        place = tmp_path / "killed"
        shutil.copytree(original.folder, place / "set")
        kill_at(moment)
        try:
            call(visual_engineering, place, *flags)
            survived = True
        except Killed:
            kill_at(None)
            with (place / "set/dataset.json").open() as file:
                assert json.load(file)["arrays"]["metadata"]["consequences"] == ["likes"], moment
            try:
                call(visual_engineering, place, *flags)
            except ValueError as error:  # only the progress was still to be removed
                assert "visual and audio features are here already" in str(error)
        kill_at(None)
        assert content(place / "set") == expected, moment
        assert not list((place / "set").glob("*.next"))
        shutil.rmtree(place)
        moment += 1
    print(f"killed at {moment} moments")
    assert moment > 90


# ---- to a prediction -----------------------------------------------------------------------------

N = 40


def sounding(folder: Path, ids: list[str]) -> None:
    """Clips of a tone each, of which every fifth has none and every seventh is silent."""
    folder.mkdir()
    for item in ids:
        number = int(item[1:])
        wave = tones(1.5, 8000, 0.5 * (number % 7 > 0), first=300 + 10 * number)
        write_clip(folder / f"{item}.mp4", None if number % 5 == 0 else wave, 8000)


@pytest.mark.slow
def test_sound_goes_all_the_way_to_predictions_of_new_videos(tmp_path, vit, bert, load_script, capsys):
    old, new = [f"v{i}" for i in range(1, N + 1)], [f"v{i}" for i in range(N + 1, N + 9)]
    sounding(tmp_path / "videos", old)
    sounding(tmp_path / "new", new)
    (tmp_path / "new" / f"{new[0]}.mp4").write_bytes((tmp_path / "videos/v1.mp4").read_bytes())
    encoded.rows_of(old).to_csv(tmp_path / "old.csv", index=False)
    encoded.rows_of(new).to_csv(tmp_path / "new.csv", index=False)
    clap, script = write_clap(tmp_path / "clap"), load_script("data/import_features.py")
    columns = ("--text_column", "title", "--count_column", "views", "--user_column", "creator")
    importing = ("--table", tmp_path / "old.csv", *columns, "--metadata_columns", "tag")
    encoded.call(script, tmp_path, *importing)
    both = ("--encoder", vit, "--audio_encoder", clap, "--frame_num", 2, "--workers", 1)
    encoded.call(visual_engineering, tmp_path, "--videos", tmp_path / "videos", *both)
    encoded.call(textual_engineering, tmp_path, "--encoder", bert)
    encoded.call(retrieval_engineering, tmp_path, "--source", "features")
    store = FeatureStore.open(tmp_path / "mine")
    assert store.modalities == ("visual", "textual", "audio", "metadata")
    # The import, typed again with the same encoders, finds everything made and its own columns as they were.
    encoders = ("--visual_encoder", vit, "--textual_encoder", bert, "--retrieval_encoder", bert)
    capsys.readouterr()
    with pytest.raises(SystemExit):
        encoded.call(script, tmp_path, *importing, "--videos", tmp_path / "videos", *encoders, "--audio_encoder", clap)
    assert FeatureStore.open(store.folder).fingerprint == store.fingerprint
    encoded.call(retriever, tmp_path, "--num_of_retrieved_items", 6)
    boosted = ("--trees", 20, "--num_of_retrieved_items", 5)
    run = trained(store, tmp_path / "runs", "--model_id", "RetrievalBoost", *boosted)
    config = Run.open(run, "").config
    assert "audio" in config["data"]["modalities"] and config["data"]["metadata"]["has_sound"] == "yes/no"
    lark = ("--epochs", 1, "--ensemble", 1, "--num_of_retrieved_items", 5)
    trained(store, tmp_path / "runs", "--model_id", "LARK", *lark)

    asked = ("--table", tmp_path / "new.csv", "--videos", tmp_path / "new", "--workers", 1)
    capsys.readouterr()
    run_test(load_script, "--model_path", run, *asked, "--output", tmp_path / "out")
    assert "has no column" not in capsys.readouterr().err  # has_sound is no column of a table
    found = FeatureStore.open(tmp_path / "out/items")
    silent = np.array([int(item[1:]) % 5 == 0 or int(item[1:]) % 7 == 0 for item in new])
    silent[0] = False
    assert found.metadata.columns["has_sound"].tolist() == (~silent).astype(int).tolist()
    assert np.array_equal(np.asarray(found.features["audio"]).any(axis=1), ~silent)
    np.testing.assert_array_equal(found.features["audio"][0], store.features["audio"][0])  # the same clip
    lines = pd.read_csv(tmp_path / "out/predictions.csv")
    assert np.isfinite(lines["prediction"]).all() and lines["changed_by_audio"].abs().sum() > 0
    (tmp_path / "app").mkdir()
    predictor = Predictor(*opened(run, "--model_path"), FeatureStore.open(store.folder), torch.device("cpu"))
    answerer = Answerer(predictor, DecodingSettings(workers=1), tmp_path / "app")
    assert answerer.columns == {"creator": "creator", "tag": "category"} and answerer.takes_videos
    answerer.warm_up()
    question = answerer.question()
    path = answerer.place_of_video(question, ".mp4")
    path.write_bytes((tmp_path / "new" / f"{new[2]}.mp4").read_bytes())
    assert '"title of the asked"' in answerer.answer(replace(question, title="title of the asked", video=path))
    # Appended, they are what they are beside the data set; the run sees this as it was.
    (tmp_path / "new" / f"{new[1]}.mp4").write_bytes(b"broken")
    encoded.call(script, tmp_path, "--append", tmp_path / "new.csv", "--videos", tmp_path / "new", "--workers", 1)
    grown = FeatureStore.open(store.folder)
    np.testing.assert_array_equal(grown.features["audio"][N + 1 :], found.features["audio"][2:])
    assert grown.metadata.columns["has_sound"][N + 1 :].tolist() == (~silent)[2:].astype(int).tolist()
    assert grown.description.added_columns == ["has_sound"] and len(grown) == N + 7
