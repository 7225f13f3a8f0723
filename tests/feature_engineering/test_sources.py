"""What the retriever compares: one source or several with weights; a second start is not taken for the first."""

from __future__ import annotations

import re
import shutil

import numpy as np
import pandas as pd
import pytest
from bare import bare_store, call
from encoded import N
from encoded import call as call_on
from PIL import Image
from safetensors.torch import load_file, save_file
from tiny import refused, run_test, trained

import retriever
from common.console import InputError
from dataloader.store import FeatureStore
from feature_engineering import captioning, retrieval_engineering, textual_engineering, visual_engineering
from feature_engineering.encoding.lexical import Lexical
from feature_engineering.jobs.comparing import in_words, sources

IDS = ("a", "b", "c", "d", "e", "f")
CREATORS = ("x", "y", "", "x", "z", "y")


@pytest.fixture
def framed(tmp_path):
    """Six items with titles, creators, features of sound and two pictures each."""
    store, rng = bare_store(tmp_path, IDS, user=np.array(CREATORS, object)), np.random.default_rng(0)
    with store.add_array("audio", (6, 3), "float32") as out:
        out[:] = 4 * rng.standard_normal((6, 3))
    (tmp_path / "set/frames").mkdir()
    for item_id in IDS:
        for k in range(2):
            noise = rng.integers(0, 256, (40, 36, 3), np.uint8)
            Image.fromarray(noise).save(tmp_path / f"set/frames/{item_id}_{k}.png")
    return tmp_path


def cosines(vectors) -> np.ndarray:
    vectors = np.asarray(vectors, np.float64)
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit = vectors / np.where(length > 0, length, 1)
    return unit @ unit.T


@pytest.mark.slow
def test_several_sources_are_compared_by_the_mean_of_their_cosines(framed, clip):
    """Independently: each source alone, and the mean of the cosines, weighed with the squared weights."""

    def compared(source: str, *flags) -> np.ndarray:
        store = call(retrieval_engineering, framed, "--source", source, *flags, "--overwrite")
        assert store.description.features["retrieval"].made["source"] == source
        assert not list(store.folder.glob("*.progress"))
        return np.array(store.features["retrieval"])

    by_clip = ("--encoder", clip)
    alone = {source: cosines(compared(source, *by_clip)) for source in ("text", "frames")}
    alone |= {source: cosines(compared(source)) for source in ("audio", "user")}
    store = FeatureStore.open(framed / "set")
    alone["words"] = cosines(Lexical.fit(store.items.text[store.items.split == "train"]).transform(store.items.text))
    for source, flags in (
        ("text:1+frames:0.5", by_clip),
        ("frames:2+audio:1", by_clip),
        ("text:0.25+words:3", by_clip),
        ("audio:1+user:0.3", ()),
    ):
        squared = {name: weight**2 for name, weight in sources(source).items()}
        there = {name: np.diag(alone[name]) for name in squared}  # 0 where an item has nothing of it, else 1
        length = np.sqrt(sum(weight * there[name] for name, weight in squared.items()))
        expected = sum(weight * alone[name] for name, weight in squared.items()) / np.outer(length, length)
        np.testing.assert_allclose(cosines(compared(source, *flags)), expected, atol=2e-6)
    said = FeatureStore.open(framed / "set").description.features["retrieval"].made
    assert said["made_of"].keys() == {"audio"} and "encoder" not in said


def test_a_creator_is_a_direction_of_its_own(framed):
    store = call(retrieval_engineering, framed, "--source", "user")
    found = np.array(store.features["retrieval"])
    for row, creator in enumerate(CREATORS):
        alike = [creator == other for other in CREATORS]
        np.testing.assert_allclose(cosines(found)[row, alike], float(bool(creator)), atol=1e-6)
        assert np.abs(cosines(found)[row, [not same for same in alike]]).max() < 0.4
    bare_store(framed, IDS)
    with pytest.raises(InputError, match="compares creators, and it has none"):
        call(retrieval_engineering, framed, "--source", "user")


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("text:0+frames:1", "'text:0' has no weight above 0"),
        ("text:nan", "has no weight above 0"),
        ("text:much", "could not convert"),
        ("text+text", "'text' is there twice"),
        ("features+words", "'features' stands alone"),
        ("retrieval", "'retrieval' is no source"),
        ("metadata:2", "'metadata' is no source"),
        ("text+", "'' is no source"),
        ("Text", "'Text' is no source"),
    ],
)
def test_what_is_no_source_is_refused(tmp_path, capsys, source, message):
    with pytest.raises(SystemExit) as end:
        retrieval_engineering.build_parser().parse_args(["--dataset_id", "x", "--source", source])
    assert end.value.code == 2 and message in capsys.readouterr().err


def test_sources_that_are_not_there_and_flags_that_contradict_are_refused(framed):
    for flags, message in (
        (("--source", "audio:1+smell:2"), "smell"),
        (("--source", "audio:1+user:1", "--normalise", "standard"), "takes the weights"),
        (("--source", "audio:1+user:1", "--batch_size", 3), "--batch_size does nothing"),
        (("--source", "frames:1+audio:1"), "takes a CLIP"),
    ):
        with refused(message):
            call(retrieval_engineering, framed, *flags)
    assert in_words(sources("text:0.3333333333333333+frames")) == "text:0.333333333333333+frames:1"


def test_new_items_are_compared_as_those_of_the_data_set(made, tmp_path, load_script):
    """Grown by ten clips, of the creators and with the titles of old ones, which then have the same vectors."""
    shutil.copytree(made[0] / "mine", tmp_path / "mine")
    source = ("--source", "textual:1+visual:0.5+words:2+user:0.5")
    call_on(retrieval_engineering, tmp_path, *source, "--overwrite")
    old = np.array(FeatureStore.open(tmp_path / "mine").features["retrieval"])
    videos = ("--videos", made[0] / "new", "--workers", 1)
    call_on(load_script("data/import_features.py"), tmp_path, "--append", made[0] / "new.csv", *videos)
    grown = FeatureStore.open(tmp_path / "mine")
    new, visual = grown.features["retrieval"][N:], grown.features["visual"].mean(axis=1)
    np.testing.assert_array_equal(grown.features["retrieval"][:N], old)
    first = grown.features["textual"].shape[1]
    frames = slice(first, first + visual.shape[1])
    for row in range(len(new)):
        title = list(grown.items.text).index(grown.items.text[N + row])
        creator = list(grown.items.user).index(grown.items.user[N + row])
        np.testing.assert_allclose(new[row, :first], old[title, :first], atol=1e-5)
        np.testing.assert_allclose(new[row, frames.stop : -128], old[title, frames.stop : -128], atol=1e-6)
        np.testing.assert_array_equal(new[row, -128:], old[creator, -128:])
        shown = visual[N + row] / np.linalg.norm(visual[N + row])
        np.testing.assert_allclose(new[row, frames], 0.5 * shown, atol=1e-6)


def test_what_is_compared_alone_is_made_of_new_items_too(made, tmp_path, load_script):
    """Sound that no method takes, from a file; creators of whom nobody is known."""
    place = tmp_path / "place"
    shutil.copytree(made[0] / "mine", place / "mine")
    store, rng = FeatureStore.open(place / "mine"), np.random.default_rng(0)
    with store.add_array("audio", (N, 3), "float32", source="audio.npy") as out:
        out[:] = rng.standard_normal((N, 3))
    call_on(retrieval_engineering, place, "--source", "audio:1+user:0.5", "--overwrite")
    call_on(retriever, place, "--num_of_retrieved_items", 4)
    network = ("--epochs", 1, "--feature_dim", 8, "--num_of_retrieved_items", 4, "--model_id", "MMRA")
    run = trained(FeatureStore.open(place / "mine"), tmp_path / "runs", *network)
    table = pd.read_csv(made[0] / "new.csv").drop(columns="creator")
    table.to_csv(tmp_path / "new.csv", index=False)
    np.savez(tmp_path / "audio.npz", ids=table["item_id"].to_numpy(str), features=rng.standard_normal((len(table), 3)))
    asked = ("--model_path", run, "--table", tmp_path / "new.csv", "--videos", made[0] / "new", "--workers", 1)
    with refused(r"--features audio=<file>"):
        run_test(load_script, *asked, "--output", tmp_path / "out")
    assert not list((tmp_path / "out").rglob("*.npy"))  # before anything was made
    run_test(load_script, *asked, "--output", tmp_path / "out", "--features", f"audio={tmp_path / 'audio.npz'}")
    assert len(pd.read_csv(tmp_path / "out/predictions.csv")) == len(table)
    new = FeatureStore.open(tmp_path / "out/items").features["retrieval"]
    assert new.shape == (len(table), 3 + 128) and not new[:, 3:].any() and new[:, :3].all()


def test_work_of_other_sources_is_not_taken_for_ones_own(framed, bert, monkeypatch):
    def killed(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("feature_engineering.jobs.comparing.write_features", killed)
        call(retrieval_engineering, framed, "--source", "text:1+audio:1", "--encoder", bert)
    for source in ("text", "user"):
        flags = ("--encoder", bert) if source == "text" else ()
        with refused("retrieval_text.progress: the unfinished work of another command .*--overwrite drops it"):
            call(retrieval_engineering, framed, "--source", source, *flags)
    call(retrieval_engineering, framed, "--source", "text", "--encoder", bert, "--overwrite")
    assert not list((framed / "set").glob("*.progress"))
    with refused("other retrieval features are here already .encoder's pooling mean, now cls"):
        call(retrieval_engineering, framed, "--source", "text", "--encoder", bert, "--pooling", "cls")


def test_captions_that_were_made_anew_are_others(framed, blip, bert, capsys):
    captioned, compared = ("--encoder", blip, "--max_new_tokens"), ("--encoder", bert, "--source", "captions")
    call(captioning, framed, *captioned, 3)
    call(retrieval_engineering, framed, *compared)
    capsys.readouterr()
    call(retrieval_engineering, framed, *compared)
    assert "made already" in capsys.readouterr().out
    call(captioning, framed, *captioned, 4, "--overwrite")
    with refused("other retrieval features are here already .captions .*'max_new_tokens': 3.*'max_new_tokens': 4"):
        call(retrieval_engineering, framed, *compared)


def test_a_second_start_is_not_taken_for_the_first(framed, vit, bert, tmp_path, capsys):
    first = ("--encoder", vit, "--frame_num", 2)
    store = call(visual_engineering, framed, *first)
    before = (store.folder / "visual.npy").stat()
    capsys.readouterr()
    call(visual_engineering, framed, *first)
    assert "visual.npy: made already, nothing is to be done\nnext: " in capsys.readouterr().out
    other = shutil.copytree(vit, tmp_path / "other" / vit.name)
    weights = load_file(other / "model.safetensors")
    save_file({name: tensor * 2 for name, tensor in weights.items()}, other / "model.safetensors", {"format": "pt"})
    shutil.copytree(framed / "set/frames", tmp_path / "one")
    for picture in (tmp_path / "one").glob("*_1.png"):
        picture.unlink()
    for flags, message in (
        (("--encoder", other, "--frame_num", 2), "encoder's revision weights-sha256:"),
        (("--encoder", vit, "--frame_num", 1, "--frames", tmp_path / "one"), "frame_num 2, now 1"),
        ((*first, "--precision", "bf16"), "encoder's dtype float32, now bfloat16"),
        ((*first, "--normalise", "l2"), "normalise none, now l2"),
        ((*first, "--dtype", "float16"), "dtype float32, now float16"),
        (("--encoder", bert), f"encoder {vit.name}, now {bert.name}"),
    ):
        with refused(re.escape(f"other visual features are here already ({message}") + ".*--overwrite replaces"):
            call(visual_engineering, framed, *flags)
    assert (store.folder / "visual.npy").stat() == before


def test_unfinished_work_is_not_ended_by_another_scale(framed, bert, monkeypatch):
    def killed(*_, **__):
        raise KeyboardInterrupt

    for script, flags in ((textual_engineering, ()), (retrieval_engineering, ("--source", "text:1+audio:1"))):
        module = "feature_engineering.jobs." + ("comparing" if flags else "making")
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(f"{module}.write_features", killed)
            call(script, framed, "--encoder", bert, *flags)
        for other, message in (
            (("--normalise", "l2"), "--normalise none, now l2"),
            (("--dtype", "float16"), "--dtype float32, now float16"),
        ):
            with refused(re.escape(f"unfinished work of another command ({message}); --overwrite")):
                call(script, framed, "--encoder", bert, *flags, *other)
        call(script, framed, "--encoder", bert, *flags)
        assert not list((framed / "set").glob("*.progress"))
