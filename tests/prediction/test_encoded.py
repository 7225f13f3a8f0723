"""From clips and titles to numbers by the encoders of the data set; the data set that grows by them."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from encoded import N, call, rows_of
from safetensors.torch import load_file, save_file
from tiny import refused, run_test, trained

import retriever
from baselines import opened
from common.console import InputError
from dataloader.growing import added, states
from dataloader.store import FeatureStore
from engine.run import Run
from feature_engineering import retrieval_engineering
from feature_engineering.jobs import appending
from feature_engineering.settings import DecodingSettings
from prediction.app.answering import Answerer
from prediction.predictor import Predictor


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


@pytest.mark.slow
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
    (tmp_path / "mine" / "manifest.jsonl").unlink()  # with it, what is changed by hand is refused as such
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


# ---- the app, without a browser ------------------------------------------------------------------------------------


def answerer_of(run: Path, place: Path, **how) -> Answerer:
    trained, recipe, settings = opened(run, "--model_path")
    store = FeatureStore.open(Path(settings["dataset_path"]) / settings["dataset_id"])
    predictor = Predictor(trained, recipe, settings, store, torch.device("cpu"), **how)
    place.mkdir()
    return Answerer(predictor, DecodingSettings(workers=1, timeout=60.0), place)


def data_of(html: str) -> dict:
    """What a page shows."""
    return json.loads(re.search(r'<script id="data" type="application/json">(.*?)</script>', html, re.DOTALL)[1])


def asked(answerer: Answerer, title: str, clip: bytes, **known) -> str:
    question = replace(answerer.question(), title=title, known=known)
    path = answerer.place_of_video(question, ".mp4")
    path.write_bytes(clip)
    try:
        return answerer.answer(replace(question, video=path))
    finally:
        question.forget()


def test_the_app_says_what_the_command_says(made, tmp_path, load_script, capfd):
    """Of a clip, its title, its creator and its tag; and of a file that is no video why."""
    place, runs = made
    table = rows_of(["v43"]).drop(columns="views")
    table.to_csv(tmp_path / "one.csv", index=False)
    clip = (place / "new" / "v43.mp4").read_bytes()
    words = ("--table", tmp_path / "one.csv", "--videos", place / "new", "--workers", 1, "--output", tmp_path / "out")
    for name, run in runs.items():
        run_test(load_script, "--model_path", run, *words[:-1], tmp_path / name)
        found = pd.read_csv(tmp_path / name / "predictions.csv").iloc[0]
        answerer = answerer_of(run, tmp_path / f"asked {name}")
        boosted = name == "RetrievalBoost"
        assert (
            answerer.columns == ({"creator": "creator", "tag": "category"} if boosted else {}) and answerer.takes_videos
        )
        known = {"creator": table["creator"][0], "tag": table["tag"][0]} if boosted else {}
        capfd.readouterr()
        answerer.warm_up()
        data = data_of(asked(answerer, table["title"][0], clip, **known))
        (video,) = data["videos"]
        assert video["estimates"][0]["label"] == pytest.approx(found["prediction"], rel=1e-5)
        near = [one["id"] for one in json.loads(found["neighbours"])][:5]
        assert [data["items"][one[0]][0] for one in video["near"]] == near and len(near) >= 4
        assert all(data["items"][one[0]][2] >= 0 for one in video["near"])  # each with its picture
        assert data["items"][video["item"]][1:] == [table["title"][0], 0]
        with pytest.raises(InputError, match="^Invalid data found when processing input$"):
            asked(answerer, "red ball", b"no video")
        with pytest.raises(InputError, match="^Invalid data|moov"):
            asked(answerer, "red ball", clip[: len(clip) // 2])
        assert data_of(asked(answerer, table["title"][0], clip, **known)) == data
        answerer.columns["follower"] = "number"
        with pytest.raises(InputError, match="^follower: 'many' is no number; 1200.5 is one$"):
            asked(answerer, "red ball", clip, follower="many")
        assert not any(answerer.place.iterdir()) and capfd.readouterr() == ("", "")


def test_the_app_needs_no_video_where_no_frames_are_looked_at(made, tmp_path, load_script):
    place, _ = made
    store = FeatureStore.open(place / "mine")
    run = trained(store, tmp_path, "--model_id", "SVR", "--modalities", "textual")
    answerer = answerer_of(run, tmp_path / "asked")
    assert not answerer.takes_videos
    question = replace(answerer.question(), title="=red ball\n<b>; NA")
    data = data_of(answerer.answer(question))
    assert data["items"][data["videos"][0]["item"]][1].split() == ["=red", "ball", "<b>;", "NA"]


def test_features_of_other_columns_or_files_are_not_gone_on_with(made, tmp_path, load_script):
    """The output's folder is taken for the same videos alone: not where a column, a folder or a file is another."""
    place, runs = made
    out = ("--workers", 1, "--output", tmp_path / "out")
    words = ("--model_path", runs["RetrievalBoost"], "--table", place / "new.csv", "--videos", place / "new", *out)
    run_test(load_script, *words)
    before = (tmp_path / "out" / "predictions.csv").read_bytes()
    run_test(load_script, *words)
    assert (tmp_path / "out" / "predictions.csv").read_bytes() == before
    changed = pd.read_csv(place / "new.csv").assign(tag="t0")
    changed.to_csv(tmp_path / "changed.csv", index=False)
    words = ("--model_path", runs["RetrievalBoost"], "--table", tmp_path / "changed.csv", "--videos", place / "new")
    with refused("predictions of other videos, or of another table, are there.*another metadata"):
        run_test(load_script, *words, *out)
    shutil.copytree(place / "new", tmp_path / "elsewhere")
    words = ("--model_path", runs["RetrievalBoost"], "--table", place / "new.csv", "--videos", tmp_path / "elsewhere")
    with refused("another frames"):
        run_test(load_script, *words, *out)
    assert (tmp_path / "out" / "predictions.csv").read_bytes() == before


def test_an_addition_that_is_typed_again_or_was_killed_late_is_over(made, tmp_path, load_script, capsys, monkeypatch):
    """With one broken clip: listed, and no later addition is stopped by it; nor by a kill when all was written."""
    place, _ = made
    shutil.copytree(place / "new", tmp_path / "clips")
    (tmp_path / "clips" / "v41.mp4").write_bytes(b"no video")
    words = ("--videos", tmp_path / "clips", "--workers", 1)
    rows_of(["v40", "v41", "v42"]).to_csv(place / "three.csv", index=False)
    with monkeypatch.context() as patch:  # the folder of the new items is the last to go
        killed = SimpleNamespace(rmtree=lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
        patch.setattr(appending, "shutil", killed)
        with pytest.raises(KeyboardInterrupt):
            appended(place, tmp_path, load_script, "three.csv", *words)
    assert (tmp_path / "mine" / "append.progress").exists()
    for _ in range(2):
        store = appended(place, tmp_path, load_script, "three.csv", *words)
        assert len(store) == N + 2 and "none of the 1 items could be used" in capsys.readouterr().err
    assert not (tmp_path / "mine" / "append.progress").exists()
    (line,) = (tmp_path / "mine" / "skipped.csv").read_text().splitlines()[1:]
    assert line.startswith("v41,append,")
    rows_of(["v40", "v41", "v42", "v43"]).to_csv(place / "four.csv", index=False)
    shutil.copy(place / "new" / "v41.mp4", tmp_path / "clips")  # mended
    store = appended(place, tmp_path, load_script, "four.csv", *words)
    assert store.items.item_id[N:].tolist() == ["v40", "v42", "v41", "v43"]
    assert (tmp_path / "mine" / "skipped.csv").read_text().splitlines()[1:] == []
    # What the vectors were made of is not taken for something else now.
    call(retriever, tmp_path, "--num_of_retrieved_items", 6)
    assert "made of other" not in capsys.readouterr().err


def test_items_without_ids_are_not_appended(made, tmp_path, load_script):
    """They could be items of the data set, of split test even, once more."""
    place, _ = made
    rows_of([f"v{i}" for i in range(5)]).drop(columns="item_id").to_csv(place / "nobody.csv", index=False)
    with refused("no column item_id, by which its items would be told from those of"):
        appended(place, tmp_path, load_script, "nobody.csv")
    with refused("--features audio: no such features are wanted"):
        appended(place, tmp_path, load_script, "new.csv", "--features", f"audio={place / 'new.csv'}")
    assert len(FeatureStore.open(tmp_path / "mine")) == N


def test_a_filled_count_brings_its_age(tmp_path, load_script):
    import dataloader.metadata

    days = [f"2024-03-{1 + i % 20:02d}" for i in range(60)]
    counted = [f"2024-03-{5 + i % 20:02d}" for i in range(60)]
    table = pd.DataFrame({"item_id": [f"v{i}" for i in range(60)], "title": "a", "views": range(60)})
    table = table.assign(published=days, measured=counted, length=np.arange(60) % 7)
    waiting = table.assign(
        views=table["views"].where(table.index >= 4), measured=table["measured"].where(table.index >= 4)
    )
    waiting.to_csv(tmp_path / "old.csv", index=False)
    table.to_csv(tmp_path / "all.csv", index=False)
    columns = ("--text_column", "title", "--count_column", "views", "--time_column", "published")
    columns += ("--label_time_column", "measured", "--metadata_columns", "length")
    importing = load_script("data/import_features.py")
    call(importing, tmp_path, "--table", tmp_path / "old.csv", *columns)
    assert np.isnan(FeatureStore.open(tmp_path / "mine").metadata.columns[dataloader.metadata.AGE][:4]).all()
    call(importing, tmp_path, "--append", tmp_path / "all.csv")
    store = FeatureStore.open(tmp_path / "mine")
    np.testing.assert_array_equal(store.metadata.columns[dataloader.metadata.AGE], np.full(60, 4.0))
    assert (store.items.split[:4] == "train").all() and not np.isnat(store.items.label_time).any()


def test_the_bank_of_an_older_run_stays_its_own(made, tmp_path, load_script):
    """Trained with train and valid as its bank; the grown data set has lists of train alone, and fewer."""
    place, _ = made
    shutil.copytree(place / "mine", tmp_path / "mine")
    call(retriever, tmp_path, "--num_of_retrieved_items", 8, "--bank", "train+valid")
    store = FeatureStore.open(tmp_path / "mine")
    network = ("--epochs", 1, "--feature_dim", 8, "--num_of_retrieved_items", 7)
    run = trained(store, tmp_path / "runs", "--model_id", "MMRA", *network)
    run_test(load_script, "--model_path", run)
    before = pd.read_csv(run / "predictions.csv")
    appended(place, tmp_path, load_script, "new.csv", "--videos", place / "new", "--workers", 1)
    call(retriever, tmp_path, "--num_of_retrieved_items", 3)
    run_test(load_script, "--model_path", run, "--save", tmp_path / "res")
    (folder,) = (tmp_path / "res" / run.name).glob("mine_*")
    now = pd.read_csv(folder / "predictions.csv")
    assert now["neighbours"].tolist() == before["neighbours"].tolist()
    np.testing.assert_allclose(now["prediction"], before["prediction"], atol=1e-5)
