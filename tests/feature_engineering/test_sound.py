"""Sound: what is decoded is what was written, and its vectors are those of transformers' own calls."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest
import torch
import transformers
from bare import bare_store, call
from tiny_sounds import ENCODERS, tones, write_clip, write_wave

from common.console import InputError
from dataloader.metadata import Metadata
from dataloader.skipped import read_skipped
from feature_engineering import audio_engineering, visual_engineering
from feature_engineering.decoding import frames, sound
from feature_engineering.decoding.sound import Listener, listen, windows
from feature_engineering.decoding.videos import capture
from feature_engineering.decoding.workers import attempt
from feature_engineering.encoding import images, sounds
from feature_engineering.jobs.progress import Progress

RESULT = ("audio.npy", "visual.npy", "metadata.parquet", "items.parquet", "dataset.json", "captured.jsonl")
RESULT += ("thumbnails.parquet", "skipped.csv")


def in_this_process(function, tasks, workers, timeout, ahead, begin, how):
    """In place of in_workers, as workers take seconds to start."""
    begin(*how)
    yield from (attempt(function, task) for task in tasks)


@pytest.fixture(autouse=True)
def without_workers(monkeypatch):
    monkeypatch.setattr(frames, "in_workers", in_this_process)


@pytest.fixture(scope="module")
def encoder(tmp_path_factory) -> Callable[[str], Path]:
    """encoder("clap"): the folder of one, written once."""
    folders: dict[str, Path] = {}

    def written(name: str) -> Path:
        if name not in folders:
            folders[name] = ENCODERS[name](tmp_path_factory.mktemp(name))
        return folders[name]

    return written


# ---- what is decoded -----------------------------------------------------------------------------


@pytest.mark.parametrize(("rate", "asked"), [(16000, 16000), (44100, 16000), (48000, 8000), (8000, 48000)])
def test_samples_are_those_that_were_written(tmp_path, rate, asked):
    """Channels are averaged, the rate is the one asked for, and the time is kept from the beginning to the end."""
    path = write_clip(tmp_path / "v.mp4", tones(3, rate, 0.5, 0.25), rate)
    samples, note = listen(path, asked).heard()
    (expected,) = tones(3, asked, 0.375)
    assert note == "" and samples.dtype == np.float32 and abs(len(samples) - len(expected)) <= 1
    seconds = np.arange(min(len(samples), len(expected))) / asked
    within = np.abs(seconds - np.round(seconds)) > 0.01  # a tone that begins or ends has all frequencies for a moment
    error = np.abs(samples[: len(seconds)] - expected[: len(seconds)])
    assert error[within].max() < (1e-4 if rate == asked else 2e-3)


def test_six_channels_of_lossy_sound(tmp_path, monkeypatch):
    path = write_clip(tmp_path / "v.mp4", tones(2, 48000, 0.6, 0.5, 0.4, 0.0, 0.2, 0.1), 48000, "aac")
    samples, note = listen(path, 16000).heard()
    (expected,) = tones(2, 16000, 0.3)
    assert note == "" and np.abs(samples[4000:12000] - expected[4000:12000]).max() < 0.03
    monkeypatch.setattr(sound, "LONGEST", 1)  # of hours of sound the beginning alone is kept
    assert np.array_equal(listen(path, 16000).heard()[0], samples[:16000])


@pytest.mark.slow
def test_sound_that_comes_by_on_the_way_of_frames_is_that_of_the_file_alone(shared):
    """Of real clips in Opus, MP3, Vorbis and AAC, of one, two and six channels."""
    heard = {}
    for path in sorted(shared.glob("clips/*.*")):
        with contextlib.suppress(av.FFmpegError), av.open(str(path)) as container:
            if container.streams.audio:
                heard[path] = container.streams.audio[0].codec_context.name, container.duration / 1e6
    assert {"opus", "mp3float", "vorbis", "aac"} <= {codec for codec, _ in heard.values()}
    for path, (_, duration) in heard.items():
        listener = Listener(16000)
        capture(path, 1, lambda image: image[:1, :1], threads=1, listener=listener)
        samples, note = listener.heard()
        alone, same = listen(path, 16000).heard()
        assert np.array_equal(samples, alone) and note == same == "" and samples.any(), path.name
        assert len(samples) / 16000 == pytest.approx(duration, abs=0.2), path.name


@pytest.mark.parametrize(
    ("n", "seconds", "starts", "length"),
    [
        (1000, 2, [0, 900], 100),
        (1000, 2.5, [0, 458, 917], 83),
        (1000, 1, [450], 100),
        (1000, 0.5, [475], 50),
        (150, 2.5, [0, 75], 75),
        (90, 2.5, [0], 90),
    ],
)
def test_windows_are_spread_evenly_over_a_clip(n, seconds, starts, length):
    """At 100 samples a second, of which an encoder takes 100 at once."""
    samples = np.arange(n, dtype=np.float32)
    expected = [samples[start : start + length] for start in starts]
    assert np.array_equal(windows(samples, seconds, 100, 100), expected)
    assert windows(samples[:0], seconds, 100, 100).size == 0
    assert windows(samples[1:4], seconds, 100, 100).tolist() == [
        [1, 2, 3] + [0] * 7
    ]  # filled up to a tenth of a second


# ---- what is encoded -----------------------------------------------------------------------------


def expected_vector(name: str, folder: Path, cut: np.ndarray) -> np.ndarray:
    """(W, l) windows -> (D,), by transformers alone."""
    extractor = transformers.AutoFeatureExtractor.from_pretrained(folder)
    model = transformers.AutoModel.from_pretrained(folder).eval()
    how = {"sampling_rate": extractor.sampling_rate, "return_tensors": "pt"}
    with torch.inference_mode():
        if name in ("wav2vec2", "hubert"):
            return model(**extractor(list(cut), **how)).last_hidden_state.mean(dim=(0, 1)).numpy()
        inputs = extractor(list(cut), **how)
        if name == "clap":
            return model.get_audio_features(**inputs).pooler_output.mean(dim=0).numpy()
        if name == "ast":
            return model(**inputs).pooler_output.mean(dim=0).numpy()
        states = model.get_encoder()(inputs.input_features).last_hidden_state  # (W, 150, D), 20 ms each
        return states[:, : int(np.ceil(cut.shape[1] / 320))].mean(dim=(0, 1)).numpy()


@pytest.mark.parametrize("name", ENCODERS)
def test_vectors_are_those_of_transformers(tmp_path, encoder, name):
    """Of a clip of which three windows are taken, one that is one window, and one of a hundredth of a second."""
    lengths = {"a": 8.0, "b": 1.1, "c": 0.01}
    for item, seconds in lengths.items():
        write_clip(tmp_path / f"{item}.mp4", tones(seconds, 16000, 0.5))
    bare_store(tmp_path, tuple(lengths))
    seconds = {"clap": 5.0, "ast": 3.0, "wav2vec2": 25.0, "hubert": 25.0, "whisper": 7.5}[name]
    flags = ("--videos", tmp_path, "--encoder", encoder(name), "--seconds", seconds, "--batch_size", 2)
    store = call(audio_engineering, tmp_path, *flags)
    rate, longest = {"clap": (8000, 16000), "ast": (16000, 20480), "whisper": (16000, 48000)}.get(name, (8000, 80000))
    for row, item in enumerate(lengths):
        samples, _ = listen(tmp_path / f"{item}.mp4", rate).heard()
        cut = windows(samples, seconds, longest, rate)
        assert len(cut) == (1 if item != "a" or name in ("wav2vec2", "hubert") else 3)
        expected = expected_vector(name, encoder(name), cut)
        np.testing.assert_allclose(store.features["audio"][row], expected, atol=2e-6)
    assert len(np.unique(np.asarray(store.features["audio"]), axis=0)) == 3
    made = store.description.features["audio"].made["encoder"]
    pooling = {"clap": "projected", "ast": "pooler"}.get(name, "mean")
    assert (made["pooling"], made["seconds"], made["folder"]) == (pooling, seconds, str(encoder(name)))
    assert store.metadata.columns["has_sound"].tolist() == [1, 1, 1]


def test_the_mean_is_that_of_a_padded_batch_with_its_mask(tmp_path):
    """Wav2Vec2's own way to batch clips of several lengths, which a model with layer norms was trained for."""
    normed = {"feat_extract_norm": "layer", "do_stable_layer_norm": True, "conv_bias": True}
    folder = write_wave(tmp_path / "wave", **normed)
    lengths = {"a": 2.0, "b": 0.7}
    clips = [write_clip(tmp_path / f"{item}.mp4", tones(seconds, 8000, 0.5), 8000) for item, seconds in lengths.items()]
    bare_store(tmp_path, tuple(lengths))
    store = call(audio_engineering, tmp_path, "--videos", tmp_path, "--encoder", folder)
    extractor = transformers.AutoFeatureExtractor.from_pretrained(folder)
    model = transformers.AutoModel.from_pretrained(folder).eval()
    heard = [listen(clip, 8000).heard()[0] for clip in clips]
    inputs = extractor(heard, sampling_rate=8000, padding=True, return_attention_mask=True, return_tensors="pt")
    with torch.inference_mode():
        states = model(**inputs).last_hidden_state  # (2, L, D)
        mask = model._get_feature_vector_attention_mask(states.shape[1], inputs.attention_mask)[..., None]
        expected = (states * mask).sum(dim=1) / mask.sum(dim=1)
    np.testing.assert_allclose(store.features["audio"], expected, atol=1e-5)


# ---- what cannot be heard ------------------------------------------------------------------------


def write_odd(folder: Path) -> dict[str, int]:
    """Clips of every kind; item id -> what has_sound is to say of it (-1: unknown)."""
    sound = tones(2, 16000, 0.5, 0.5)
    write_clip(folder / "fine.mp4", sound)
    write_clip(folder / "soundless.mp4", None)
    write_clip(folder / "silent.mp4", sound * 0)
    write_clip(folder / "hushed.mp4", sound * 1e-4)
    write_clip(folder / "quiet.mp4", sound * 1e-3)
    write_clip(folder / "alone.mp4", sound, frames=0)
    whole = write_clip(folder / "cut.mp4", sound, movflags="faststart").read_bytes()
    (folder / "cut.mp4").write_bytes(whole[: len(whole) * 6 // 10])
    (folder / "nothing.mp4").write_bytes(b"not a video")
    data = bytearray(write_clip(folder / "garbled.mp4", sound).read_bytes())
    with av.open(str(folder / "garbled.mp4")) as container:
        places = [(packet.pos, packet.size) for packet in container.demux(audio=0) if packet.size]
    for at, size in places:
        data[at : at + size] = b"\xff" * size
    (folder / "garbled.mp4").write_bytes(data)
    return {
        "fine": 1,
        "soundless": 0,
        "silent": 0,
        "hushed": 0,
        "quiet": 1,
        "alone": 1,
        "cut": 1,
        "nothing": -1,
        "garbled": -1,
        "missing": -1,
    }


def test_silence_is_a_fact_and_what_is_broken_costs_its_sound_alone(tmp_path, encoder, capsys):
    expected = write_odd(tmp_path)
    store = bare_store(tmp_path, tuple(expected))
    likes = np.arange(len(store), dtype=float)
    store.add_metadata(Metadata({"likes": likes}), consequences=["likes"])
    flags = ("--videos", tmp_path, "--encoder", encoder("wav2vec2"))
    store = call(audio_engineering, tmp_path, *flags)
    assert store.items.item_id.tolist() == list(expected)
    assert store.metadata.kinds == {"likes": "number", "has_sound": "yes/no"}
    assert dict(zip(expected, store.metadata.columns["has_sound"].tolist(), strict=True)) == expected
    assert np.array_equal(store.metadata.columns["likes"], likes) and store.description.consequences == ["likes"]
    heard = np.asarray(store.features["audio"]).any(axis=1)
    assert dict(zip(expected, heard.tolist(), strict=True)) == {item: kind == 1 for item, kind in expected.items()}
    rows = {row["item_id"]: (row["stage"], row["reason"]) for row in read_skipped(store.folder)}
    assert {item: stage for item, (stage, _) in rows.items()} == dict.fromkeys(
        ("nothing", "garbled", "missing"), "audio"
    )
    assert rows["missing"][1].startswith("missing: ") and "packets of sound" in rows["garbled"][1]
    told = capsys.readouterr()
    assert "sound: of 4 items; of 3 none, or silence: zeros" in told.out
    assert "1 are heard as far as their sound can be decoded (cut: " in told.out
    assert "warning: 3 of 10 sounds (30%) could not be used" in told.err

    call(audio_engineering, tmp_path, *flags)
    assert "audio.npy: made already" in capsys.readouterr().out
    with pytest.raises(InputError, match="other audio features are here already .encoder's seconds .*--overwrite"):
        call(audio_engineering, tmp_path, *flags, "--seconds", 7)
    with pytest.raises(InputError, match="item missing: missing: .*; mend it"):
        call(audio_engineering, tmp_path, *flags, "--overwrite", "--on_error", "fail")
    (tmp_path / "soundless.mp4").unlink()
    write_clip(tmp_path / "soundless.mp4", tones(1, 16000, 0.2))  # it has sound now
    again = call(audio_engineering, tmp_path, *flags, "--overwrite", "--dtype", "float16", "--normalise", "l2")
    assert again.metadata.columns["has_sound"].tolist() == [1, 1, *list(expected.values())[2:]]
    lengths = np.linalg.norm(np.asarray(again.features["audio"], np.float32), axis=1)
    assert np.allclose(lengths[again.metadata.columns["has_sound"] == 1], 1, atol=1e-2) and (lengths[2:4] == 0).all()


# ---- stopping, and both in one pass --------------------------------------------------------------


def content(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in RESULT if (folder / name).exists()}


def shards_of_four(monkeypatch) -> None:
    for module in (images, sounds):
        monkeypatch.setattr(module, "SHARD_ITEMS", 4)


@pytest.mark.parametrize("policy", ["skip", "zero"])
def test_frames_and_sound_in_one_pass_have_the_bits_of_two(tmp_path, encoder, vit, policy, monkeypatch):
    """Some of the items are broken in one way or the other."""
    shards_of_four(monkeypatch)
    ids = list(write_odd(tmp_path))
    frames = ("--frame_num", 3, "--batch_size", 7, "--on_error", policy, "--encoder", vit)
    listening = ("--batch_size", 7, "--encoder", encoder("clap"))
    for place in ("two", "one"):
        bare_store(tmp_path / place, tuple(ids))
    call(audio_engineering, tmp_path / "two", "--videos", tmp_path, *listening)
    two = call(visual_engineering, tmp_path / "two", "--videos", tmp_path, *frames)
    opened = []
    commit = Progress.commit

    def watched(self, number, *args, **notes):
        opened.append((self.folder.name, number))
        commit(self, number, *args, **notes)

    monkeypatch.setattr(Progress, "commit", watched)
    flags = ("--videos", tmp_path, *frames, "--audio_encoder", encoder("clap"))
    one = call(visual_engineering, tmp_path / "one", *flags)
    assert opened == [(f"{kind}.progress", number) for number in range(3) for kind in ("audio", "visual")]
    assert content(tmp_path / "one/set") == content(tmp_path / "two/set") and set(content(one.folder)) == set(RESULT)
    assert one.fingerprint == two.fingerprint and not list(one.folder.glob("*.progress"))
    assert len(one) == (7 if policy == "skip" else 10)  # nothing, missing, and the one without a stream of pictures
    opened.clear()
    call(visual_engineering, tmp_path / "one", *flags)
    assert not opened
    with pytest.raises(InputError, match="other audio features are here already .encoder's seconds .*--overwrite"):
        call(visual_engineering, tmp_path / "one", *flags, "--seconds", 7)


def test_stopped_between_frames_and_sound_it_goes_on(tmp_path, encoder, vit, monkeypatch, capsys):
    """Killed behind each commit of two shards of frames and of sound, and typed again."""
    shards_of_four(monkeypatch)
    write_clip(tmp_path / "clip.mp4", tones(1, 16000, 0.5))
    ids = tuple(f"v{i:02d}" for i in range(6))
    (tmp_path / "videos").mkdir()
    for item in ids:
        (tmp_path / f"videos/{item}.mp4").symlink_to(tmp_path / "clip.mp4")
    flags = ("--videos", tmp_path / "videos", "--encoder", vit, "--frame_num", 2)
    flags += ("--audio_encoder", encoder("whisper"), "--seconds", 0.5)
    bare_store(tmp_path / "undisturbed", ids)
    call(visual_engineering, tmp_path / "undisturbed", *flags)
    bare_store(tmp_path / "killed", ids)
    commit, killed = Progress.commit, 0

    def commit_once(self, *args, **notes):
        commit(self, *args, **notes)
        raise KeyboardInterrupt

    while True:
        with monkeypatch.context() as patched:
            patched.setattr(Progress, "commit", commit_once)
            try:
                call(visual_engineering, tmp_path / "killed", *flags)
                break
            except KeyboardInterrupt:
                killed += 1
        assert killed <= 4
        if killed == 2:
            with pytest.raises(
                InputError, match=r"audio.progress: the unfinished work of another command \(seconds 0.5"
            ):
                call(visual_engineering, tmp_path / "killed", *flags[:-1], 2)
    assert killed == 4
    assert content(tmp_path / "killed/set") == content(tmp_path / "undisturbed/set")
    assert "going on, the sound of 4 of 6 videos is encoded" in capsys.readouterr().out
