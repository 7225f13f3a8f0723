"""From clips and titles to numbers by the encoders of the data set; the data set that grows by them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from bare import write_clip
from safetensors.torch import load_file, save_file
from tiny import refused, run_test, trained

import retriever
from dataloader.growing import added, states
from dataloader.store import FeatureStore
from engine.run import Run
from feature_engineering import retrieval_engineering, textual_engineering, visual_engineering

N = 40
WORDS = ("red ball", "blue ball", "red cat", "blue dog")


def clips(folder: Path, ids) -> None:
    folder.mkdir(exist_ok=True)
    for item_id in ids:
        rng = np.random.default_rng(int(item_id[1:]))
        write_clip(folder / f"{item_id}.mp4", rng.integers(0, 256, (4, 32, 32, 3), dtype=np.uint8))


def rows_of(ids) -> pd.DataFrame:
    number = np.array([int(item_id[1:]) for item_id in ids])
    return pd.DataFrame(
        {
            "item_id": ids,
            "title": [WORDS[i % 4] for i in number],
            "tag": [f"t{i % 3}" for i in number],
            "creator": [f"c{i % 7}" for i in number],
            "views": 10 + number * 37 % 101,
        }
    )


def call(script, place: Path, *flags) -> None:
    words = ("--dataset_path", place, "--dataset_id", "mine", *flags)
    script.main(script.build_parser().parse_args([str(word) for word in words]))


@pytest.fixture(scope="module")
def made(tmp_path_factory, vit, bert, load_script):
    """A data set of 40 clips with two frames, titles, tags and creators; runs of two methods; ten more clips."""
    place = tmp_path_factory.mktemp("mine")
    old, new = [f"v{i}" for i in range(N)], [f"v{i}" for i in range(N, N + 10)]
    clips(place / "videos", old)
    clips(place / "new", new)
    rows_of(old).to_csv(place / "old.csv", index=False)
    rows_of(new).to_csv(place / "new.csv", index=False)
    columns = ("--text_column", "title", "--count_column", "views", "--user_column", "creator")
    importing = load_script("data/import_features.py")
    call(importing, place, "--table", place / "old.csv", *columns, "--metadata_columns", "tag")
    videos = ("--videos", place / "videos", "--frame_num", 2, "--workers", 1)
    call(visual_engineering, place, "--encoder", vit, *videos)
    call(textual_engineering, place, "--encoder", bert, "--normalise", "standard+l2")
    call(retrieval_engineering, place, "--source", "features")
    call(retriever, place, "--num_of_retrieved_items", 6, "--source", "retrieval", "textual")
    store = FeatureStore.open(place / "mine")
    boosted = ("--trees", 20, "--num_of_retrieved_items", 5)
    runs = {"RetrievalBoost": trained(store, place / "runs", "--model_id", "RetrievalBoost", *boosted)}
    network = ("--epochs", 2, "--feature_dim", 16, "--num_of_retrieved_items", 4)
    runs["MMRA"] = trained(store, place / "runs", "--model_id", "MMRA", *network)
    return place, runs


def appended(place: Path, to: Path, load_script, table: str, *flags) -> FeatureStore:
    """A copy of the data set, grown by a table."""
    if not (to / "mine").exists():
        shutil.copytree(place / "mine", to / "mine")
    call(load_script("data/import_features.py"), to, "--append", place / table, *flags)
    return FeatureStore.open(to / "mine")


def test_clips_are_encoded_as_those_of_the_data_set(made, tmp_path, load_script, capsys):
    """What is made of new clips alone is what a data set of all of them, whose train is the same, would hold."""
    place, runs = made
    flags = ("--table", place / "new.csv", "--videos", place / "new", "--workers", 1)
    run_test(load_script, "--model_path", runs["MMRA"], *flags, "--output", tmp_path / "out")
    new = FeatureStore.open(tmp_path / "out" / "items")
    # The same clips as a second data set, encoded without a word of the first, but for the scale of its train.
    grown = appended(place, tmp_path, load_script, "new.csv", "--videos", place / "new", "--workers", 1)
    old = FeatureStore.open(place / "mine")
    for name in ("visual", "textual", "retrieval"):
        np.testing.assert_array_equal(grown.features[name][:N], old.features[name])
        np.testing.assert_allclose(grown.features[name][N:], new.features[name], atol=1e-6)
    raw = grown.unscaled("textual")
    titles = [list(old.items.text).index(text) for text in grown.items.text[N:]]
    np.testing.assert_allclose(raw[N:], old.unscaled("textual")[titles], atol=1e-5)  # equal titles, equal vectors
    np.testing.assert_allclose(grown.features["textual"][N:], old.features["textual"][titles], atol=1e-5)
    found = pd.read_csv(tmp_path / "out" / "predictions.csv")
    assert len(found) == 10 and np.isfinite(found["prediction"]).all()
    np.testing.assert_array_equal(found["truth_count"], rows_of(found["item_id"])["views"])
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    error = np.abs(found["prediction"] - np.log2(found["truth_count"] + 1)).mean()
    assert metrics["n"] == 10 and metrics["metrics"]["MAE"]["value"] == pytest.approx(error, abs=1e-5)


def test_older_runs_see_the_data_set_as_it_was(made, tmp_path, load_script):
    place, runs = made
    for run in runs.values():
        run_test(load_script, "--model_path", run)
    before = {name: pd.read_csv(run / "predictions.csv") for name, run in runs.items()}
    grown = appended(place, tmp_path, load_script, "new.csv", "--videos", place / "new", "--workers", 1)
    assert (grown.items.split[N:] == "train").all() and added(grown.items).tolist() == [0] * N + [1] * 10
    assert states(grown)[0] == Run.open(runs["MMRA"], "").config["data"]["fingerprint"] != grown.fingerprint
    for name, run in runs.items():
        where = ("--dataset_path", tmp_path, "--save", tmp_path / "trained")
        run_test(load_script, "--model_path", run, *where)
        (folder,) = (tmp_path / "trained" / run.name).glob("mine_*")
        now = pd.read_csv(folder / "predictions.csv")
        np.testing.assert_allclose(now["prediction"], before[name]["prediction"], atol=1e-5)
        assert now["neighbours"].tolist() == before[name]["neighbours"].tolist()
        run_test(load_script, "--model_path", run, *where[:2], "--save", tmp_path / "grown", "--bank", "grown")
        (folder,) = (tmp_path / "grown" / run.name).glob("mine_*_grown")
        wider = pd.read_csv(folder / "predictions.csv")
        told = {item for said in wider["neighbours"] for item in json.loads(said)}
        assert told & set(grown.items.item_id[N:]) and wider["item_id"].tolist() == now["item_id"].tolist()
        assert not np.allclose(wider["prediction"], now["prediction"], atol=1e-5)


def test_features_made_anew_after_growth_are_not_those_of_an_older_run(made, tmp_path, load_script, bert):
    place, runs = made
    grown = appended(place, tmp_path, load_script, "new.csv", "--videos", place / "new", "--workers", 1)
    where = ("--dataset_path", tmp_path, "--save", tmp_path / "res")
    call(retrieval_engineering, tmp_path, "--source", "features", "--overwrite")  # words of the new ones count now
    anew = FeatureStore.open(grown.folder)
    assert anew.description.features["retrieval"].made["fitted"] == 1
    with refused("has not only grown since the run was trained, its retrieval were made anew"):
        run_test(load_script, "--model_path", runs["MMRA"], *where)
    call(retriever, tmp_path, "--num_of_retrieved_items", 6)
    network = ("--epochs", 1, "--feature_dim", 8, "--num_of_retrieved_items", 4)
    run = trained(anew, tmp_path / "runs", "--model_id", "MMRA", *network)
    shutil.copy(place / "new" / "v43.mp4", tmp_path / "later.mp4")
    words = ("--text", "red ball", "--videos", tmp_path / "later.mp4", "--workers", 1, "--output", tmp_path / "one")
    run_test(load_script, "--model_path", run, *words)
    # The words of the clip's title are counted as those of the data set were, the added titles among them.
    same = anew.items.item_id.tolist().index("v44")  # has the title "red ball" too
    new = FeatureStore.open(tmp_path / "one" / "items").features["retrieval"][0]
    np.testing.assert_allclose(new[-3:], anew.features["retrieval"][same][-3:], atol=1e-5)


def test_appending_fills_counts_in_and_leaves_the_rest(made, tmp_path, load_script, capsys):
    place, runs = made
    waiting = rows_of([f"v{i}" for i in range(N, N + 6)])
    waiting["views"] = waiting["views"].astype(object)
    waiting.loc[2:, "views"] = None
    waiting.to_csv(place / "waiting.csv", index=False)
    first = appended(place, tmp_path, load_script, "waiting.csv", "--videos", place / "new", "--workers", 1)
    assert first.items.split[N:].tolist() == ["train"] * 2 + ["predict"] * 4
    later = rows_of([f"v{i}" for i in range(N + 1, N + 10)])
    later.loc[0, "views"] = 999  # of one that has a count already
    later.to_csv(place / "later.csv", index=False)
    capsys.readouterr()
    words = ("--videos", place / "new", "--workers", 1, "--append_split", "test")
    second = appended(place, tmp_path, load_script, "later.csv", *words)
    said = capsys.readouterr().out
    assert "1 items have a count in the data set already and stay as they are; of 1 the table has another (v41)" in said
    assert "4 new items, 4 counts filled in" in said
    assert second.items.split[N:].tolist() == ["train"] * 2 + ["test"] * 8
    assert second.items.item_id.tolist() == [f"v{i}" for i in range(N + 10)]
    np.testing.assert_array_equal(second.items.popularity[N + 1 :, 0], rows_of(second.items.item_id[N + 1 :])["views"])
    assert added(second.items)[N:].tolist() == [1, 1, 2, 2, 2, 2, 2, 2, 2, 2] and len(states(second)) == 3
    np.testing.assert_array_equal(second.features["visual"][: N + 6], first.features["visual"])
    # The run of before is tested on what came to test, which it never saw.
    where = ("--dataset_path", tmp_path, "--save", tmp_path / "res")
    run_test(load_script, "--model_path", runs["MMRA"], *where)
    (folder,) = (tmp_path / "res").glob("*/mine_*")
    assert set(second.items.item_id[N + 2 :]) <= set(pd.read_csv(folder / "predictions.csv")["item_id"])
    written = (tmp_path / "mine" / "items.parquet").stat().st_mtime_ns
    appended(place, tmp_path, load_script, "later.csv", "--videos", place / "new", "--workers", 1)
    assert "nothing is written" in capsys.readouterr().out
    assert (tmp_path / "mine" / "items.parquet").stat().st_mtime_ns == written


def test_a_single_clip_and_one_that_is_broken(made, tmp_path, load_script, capsys):
    place, runs = made
    clip = place / "new" / "v43.mp4"
    words = ("--text", "red ball", "--videos", clip, "--workers", 1)
    run_test(load_script, "--model_path", runs["MMRA"], *words, "--output", tmp_path / "one")
    (line,) = pd.read_csv(tmp_path / "one" / "predictions.csv").to_dict("records")
    assert line["item_id"] == "v43" and line["text"] == "red ball" and len(json.loads(line["neighbours"])) == 4
    (tmp_path / "few").mkdir()
    shutil.copy(clip, tmp_path / "few")
    (tmp_path / "few" / "broken.mp4").write_bytes(b"no video")
    words = ("--videos", tmp_path / "few", "--workers", 1, "--output", tmp_path / "two")
    run_test(load_script, "--model_path", runs["MMRA"], *words)
    found = pd.read_csv(tmp_path / "two" / "predictions.csv", keep_default_na=False).set_index("item_id")
    assert found.loc["v43", "reason"] == "" and "Invalid data" in found.loc["broken", "reason"]
    assert found.loc["broken", "prediction"] == ""


def test_an_encoder_that_moved_or_changed_is_not_taken_unseen(made, tmp_path, load_script, bert):
    place, runs = made
    shutil.copytree(place / "mine", tmp_path / "mine")
    described = json.loads((tmp_path / "mine" / "dataset.json").read_text())
    described["arrays"]["textual"]["encoder"]["folder"] = str(tmp_path / "gone")
    (tmp_path / "mine" / "dataset.json").write_text(json.dumps(described))
    words = ("--dataset_path", tmp_path, "--text", "red ball", "--videos", place / "new" / "v43.mp4", "--workers", 1)
    with refused("its textual encoder .* is no longer in .*gone; name its folder: --encoders textual=<folder>"):
        run_test(load_script, "--model_path", runs["MMRA"], *words, "--output", tmp_path / "one")
    other = tmp_path / "other"
    shutil.copytree(bert, other)
    weights = load_file(other / "model.safetensors")
    save_file({name: tensor + 0.1 for name, tensor in weights.items()}, other / "model.safetensors", {"format": "pt"})
    with refused("not the encoder of the data set"):
        run_test(
            load_script, "--model_path", runs["MMRA"], *words, "--output", tmp_path, "--encoders", f"textual={other}"
        )


def test_a_killed_command_goes_on(made, tmp_path, load_script, monkeypatch):
    """Stopped after the frames are encoded and before the titles are: the frames are not encoded again."""
    place, runs = made
    from feature_engineering.jobs import likewise

    words = ("--model_path", runs["MMRA"], "--table", place / "new.csv", "--videos", place / "new", "--workers", 1)
    with monkeypatch.context() as patch:
        patch.setattr(likewise, "make_textual", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            run_test(load_script, *words, "--output", tmp_path / "out")
    with monkeypatch.context() as patch:
        patch.setattr(likewise, "make_visual", None)  # not asked again
        run_test(load_script, *words, "--output", tmp_path / "out")
    run_test(load_script, *words, "--output", tmp_path / "other")
    assert (tmp_path / "out/predictions.csv").read_text() == (tmp_path / "other/predictions.csv").read_text()
