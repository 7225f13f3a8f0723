"""Any subset of features is a data set: what is not there is no dummy array, from the table to the comparison."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pandas as pd
import pytest
from tiny import FORETOLD, MADE_OF_OTHERS, make_store, predictions, refused, trained

import retriever
import train
from baselines import METHODS as ALL
from baselines import recipe
from common.console import InputError
from dataloader.description import FILE, Description
from dataloader.neighbours import Neighbours
from dataloader.search.exact import search
from dataloader.store import FeatureStore

pytest_plugins = ("comparing",)
N = 60
METHODS = [name for name in ALL if name not in (*FORETOLD, *MADE_OF_OTHERS)]
SMALL = {
    "MMRA": ("--feature_dim", "8", "--epochs", "2", "--num_of_retrieved_items", "5"),
    "SVR": (),
    "Hyfea": ("--trees", "5", "--depth", "2"),
    "Contextual_LSTM": ("--hidden_size", "4", "--epochs", "2"),
    "MFTM": ("--trees", "3", "--epochs", "2"),
    "TMALL": ("--common_dim", "4", "--epochs", "2"),
    "MASSL": ("--latent_dim", "40", "--epochs", "2"),
    "CBAN": ("--feature_dim", "8", "--epochs", "2"),
    "HMMVED": ("--latent_dim", "4", "--epochs", "2"),
    "RetrievalBoost": ("--trees", "5", "--depth", "2", "--num_of_retrieved_items", "5"),
    "LARK": ("--feature_dim", "8", "--ensemble", "1", "--epochs", "2"),
    "TabM": ("--feature_dim", "8", "--ensemble", "2", "--epochs", "2"),
}
TAKE_ANYTHING = ("SVR", "Hyfea", "MFTM", "RetrievalBoost", "LARK", "TabM")
# what a data set is made of -> flags of import_features.py, as in {array}.npy
SETS = {
    "text": ("--textual", "textual"),
    "thumbnails": ("--visual", "thumbnails"),
    "frames": ("--visual", "frames"),
    "audio": ("--features", "audio=audio"),
    "audio and motion": ("--features", "audio=audio", "motion=frames"),
}


def without(store: FeatureStore, *names: str) -> FeatureStore:
    """The same data set, which never had these features; its neighbours stay."""
    neighbours = Neighbours.read(store)
    description = store.description
    for name in names:
        description = description.with_feature(name, None)
        (store.folder / f"{name}.npy").unlink()
    description.write(store.folder / FILE)
    new = FeatureStore.open(store.folder)
    found = neighbours.ids, neighbours.similarity
    Neighbours(*found, neighbours.k, neighbours.bank, "tests", new.fingerprint).write(new)
    return new


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """A folder with a table and arrays whose first value says the count."""
    folder, rng = tmp_path_factory.mktemp("raw"), np.random.default_rng(0)
    signal = rng.normal(size=N)
    ids = [f"v{i}" for i in range(N)]
    pd.DataFrame({"item_id": ids, "count": np.round(np.exp2(6 + signal))}).to_csv(folder / "t.csv", index=False)
    for name, shape in {"textual": (N, 6), "thumbnails": (N, 4), "frames": (N, 3, 5), "audio": (N, 7)}.items():
        array = rng.normal(size=shape).astype("f4")
        array.reshape(N, -1)[:, 0] = signal
        np.save(folder / f"{name}.npy", array)
    return folder


@pytest.mark.parametrize("family", ["MicroLens", "NUS"])
@pytest.mark.parametrize("which", SETS)
def test_from_a_table_to_the_comparison(load_script, compare, table, tmp_path, which, family, capsys):
    """Every method runs with what it can do without, or is left out, and the table says why."""
    flag, *values = SETS[which]
    values = [name + mark + str(table / f"{file}.npy") for name, mark, file in (v.rpartition("=") for v in values)]
    script = load_script("data/import_features.py")
    words = ["--table", table / "t.csv", "--dataset_path", tmp_path, "--dataset_id", "set", "--family", family]
    words += ["--count_column", "count", flag, *values]
    script.main(script.build_parser().parse_args([str(word) for word in words]))
    assert "no texts: no column text" in capsys.readouterr().out
    where = ["--dataset_path", str(tmp_path), "--dataset_id", "set"]
    retriever.main(retriever.build_parser().parse_args([*where, "--num_of_retrieved_items", "5"]))
    said = capsys.readouterr().out
    published = which in ("text", "thumbnails", "frames")
    assert f"next: python train.py {' '.join(where)}{'' if published else ' --model_id SVR'}\n" in said
    store = FeatureStore.open(tmp_path / "set")
    flags = [word for name, words in SMALL.items() if words for word in ("--flags", f"{name}: {' '.join(words)}")]
    assert compare(store, tmp_path / "save", "--methods", *SMALL, *flags, "--seeds", 1) == 0
    said = capsys.readouterr().out
    text = (tmp_path / "save" / "set" / "table.md").read_text()
    rows = set(pd.read_csv(tmp_path / "save" / "set" / "table.csv")["row"])
    able = {*TAKE_ANYTHING, *(set(METHODS) - {"CBAN"} if published else ())}
    assert rows & set(METHODS) == able
    for name in set(METHODS) - able:
        reason = f"{name}: {store.folder}: {name} needs visual {'and' if name == 'CBAN' else 'or'} textual features"
        assert f"left out: {reason}" in said and f"- {reason}" in text.replace("\\", "")
    assert {"mean of train", "ridge on the features", "neighbours' labels, uniform"} <= rows


@pytest.mark.parametrize("family", ["MicroLens", "NUS"])
@pytest.mark.parametrize(("absent", "there"), [("visual", "textual"), ("textual", "visual")])
def test_mmra_without_a_side_is_its_own_ablation(load_script, tmp_path, family, absent, there):
    """To the last bit: --no_visual, --modalities textual, and, where the dimension is 1, a data set without it."""
    dims = {"frames": 1 if absent == "visual" else 3, f"{absent}_dim": 1}
    store = make_store(tmp_path / "data" / "tiny", family=family, **dims)
    flags = (*SMALL["MMRA"], "--lr", "1e-2")
    ablated = predictions(load_script, trained(store, tmp_path / "a", *flags, f"--no_{absent}"))
    chosen = predictions(load_script, trained(store, tmp_path / "b", *flags, "--modalities", there))
    np.testing.assert_array_equal(ablated, chosen)
    bare = without(make_store(tmp_path / "bare" / "tiny", family=family, **dims), absent)
    run = trained(bare, tmp_path / "c", *flags, "--feature_num", 1)
    np.testing.assert_array_equal(ablated, predictions(load_script, run))
    assert (run / "log.txt").read_text().count(f"no {absent} features in the data set") == 1


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(set(METHODS) - {"MMRA", "CBAN", "RetrievalBoost", "LARK", "TabM"}))
def test_a_baseline_without_a_side_does_not_see_it(load_script, tmp_path, name):
    """What is not taken changes nothing, and a run says which it took."""
    store = make_store(tmp_path / "data" / "tiny")
    one = trained(store, tmp_path / "a", "--model_id", name, *SMALL[name], "--modalities", "textual")
    predicted = predictions(load_script, one)
    with store.add_array("visual", (len(store), 3, 5), "float32", overwrite=True) as out:
        out[:] = np.random.default_rng(9).normal(size=out.shape)
    other = trained(store, tmp_path / "b", "--model_id", name, *SMALL[name], "--modalities", "textual")
    np.testing.assert_array_equal(predicted, predictions(load_script, other))
    config = json.loads((one / "config.json").read_text())
    assert config["data"]["modalities"] == ["textual"] and config["settings"]["modalities"] == ["textual"]


def test_modalities_are_chosen_among_those_that_are_there(tmp_path, load_script):
    store = make_store(tmp_path / "data" / "tiny")
    with store.add_array("audio", (len(store), 3), "float32") as out:
        out[:] = np.random.default_rng(1).normal(size=out.shape)
    neighbours = search(store.features["retrieval"], store.rows("train"), 6)
    Neighbours(*neighbours, 6, "train", "tests", store.fingerprint).write(store)
    svr = ("--model_id", "SVR")
    default = json.loads((trained(store, tmp_path / "a", *svr, "--feature_num", 2) / "config.json").read_text())
    assert default["data"]["modalities"] == ["visual", "textual"]  # published, so the audio is not taken unasked
    run = trained(store, tmp_path / "b", *svr, "--modalities", "audio", "visual", "--feature_num", 2)
    assert json.loads((run / "config.json").read_text())["model"]["shapes"] == {"visual": [3, 5], "audio": [3]}
    for flags, message in {
        ("--modalities", "sound"): "--modalities sound: the data set has visual, textual, audio features",
        ("--modalities", "audio"): "--modalities audio: MMRA takes visual, textual features",
        ("--modalities", "visual", "visual"): "--modalities visual visual: each once",
        ("--modalities", "visual", "--feature_num", 2): "--feature_num 2: .* MMRA takes 1, visual",
        (*svr, "--modalities", "audio", "--feature_num", 2): "--feature_num 2: .* SVR takes 1, audio",
        ("--modalities", "textual", "--frame_num", 2): "--frame_num 2: no visual features are taken",
        ("--modalities", "visual", "--no_visual"): "MMRA needs visual or textual features without --no_visual",
        ("--model_id", "CBAN", "--modalities", "visual"): "CBAN needs visual and textual features, and it is to take",
    }.items():
        with refused(message):
            trained(store, tmp_path / "refused", *flags)
    assert not (tmp_path / "refused").exists()
    script = load_script("test.py")
    with pytest.raises(
        InputError, match="--modalities visual contradicts the run, which was trained with visual audio"
    ):
        words = ["--model_path", str(run), "--modalities", "visual"]
        script.main(script.build_parser().parse_args(words))


def test_flags_that_do_nothing_or_say_the_same_in_another_order(tmp_path, load_script):
    store = make_store(tmp_path / "data" / "tiny")
    script = load_script("test.py")
    run = trained(store, tmp_path / "a", *SMALL["MMRA"], "--modalities", "textual", "visual")
    again = ["--model_path", str(run), "--modalities", "textual", "visual", "--feature_num", "2", "--frame_num", "3"]
    script.main(script.build_parser().parse_args(again))
    train.main(train.build_parser().parse_args(["--resume", str(run), "--modalities", "textual", "visual"]))
    run = trained(store, tmp_path / "b", "--model_id", "SVR")
    script.main(script.build_parser().parse_args(["--model_path", str(run), "--frame_num", "3"]))
    text = without(make_store(tmp_path / "text" / "tiny"), "visual")
    with refused("--no_visual: no visual features are taken; leave it out"):
        trained(text, tmp_path / "c", "--no_visual")
    with refused("CBAN needs visual and textual .*make them with: python feature_engineering/visual_engineering.py"):
        trained(text, tmp_path / "c", "--model_id", "CBAN")


@pytest.mark.parametrize(
    "change",
    [
        {"model": {"use_visual": False}},
        {"model": {"use_textual": "x"}},
        {"neighbours": "x"},
        {"data": {"modalities": 5}},
    ],
)
def test_a_config_that_says_what_was_not_trained_is_refused(tmp_path, load_script, change):
    store = make_store(tmp_path / "data" / "tiny")
    run = trained(store, tmp_path / "runs", *SMALL["MMRA"])
    config = json.loads((run / "config.json").read_text())
    for part, values in change.items():
        config[part] = config[part] | values if isinstance(values, dict) else values
    (run / "config.json").write_text(json.dumps(config))
    script = load_script("test.py")
    with refused("not the configuration of a run"):
        script.main(script.build_parser().parse_args(["--model_path", str(run)]))


def test_trivial_rows_of_a_data_set_without_features(compare, tmp_path):
    store = without(make_store(tmp_path / "data" / "tiny"), "visual", "textual", "retrieval")
    assert compare(store, tmp_path / "save", "--methods") == 0
    rows = set(pd.read_csv(tmp_path / "save" / "tiny" / "table.csv")["row"])
    assert rows == {"mean of train", "neighbours' labels, uniform", "neighbours' labels, softmax"}


def test_features_are_added_to_the_same_items_and_never_replaced_in_silence(load_script, table, tmp_path, capsys):
    script = load_script("data/import_features.py")

    def importing(*flags):
        words = [
            "--table",
            table / "t.csv",
            "--dataset_path",
            tmp_path,
            "--dataset_id",
            "set",
            "--count_column",
            "count",
        ]
        script.main(script.build_parser().parse_args([str(word) for word in (*words, *flags)]))
        return FeatureStore.open(tmp_path / "set")

    first = importing("--textual", table / "textual.npy", "--normalise", "retrieval=l2")
    np.testing.assert_allclose(np.linalg.norm(first.features["retrieval"], axis=1), 1, atol=1e-5)
    retrieval = np.array(first.features["retrieval"])
    audio = f"audio={table / 'audio.npy'}"
    both = importing("--features", audio)
    assert set(both.features) == {"textual", "retrieval", "audio"}
    np.testing.assert_array_equal(both.features["retrieval"], retrieval)  # of the features that were there
    assert importing("--features", audio).fingerprint == both.fingerprint  # the same again changes nothing
    kept = {"video_files.json": b'{"a": "a.mp4"}', "skipped.csv": b"item_id,stage,reason\na,table,told before\n"}
    for name, content in kept.items():
        (tmp_path / "set" / name).write_bytes(content)
    with refused("other audio features are here already; --overwrite begins the data set anew"):
        importing("--features", f"audio={table / 'thumbnails.npy'}")
    assert FeatureStore.open(tmp_path / "set").fingerprint == both.fingerprint
    assert {name: (tmp_path / "set" / name).read_bytes() for name in kept} == kept  # a refused command leaves them
    (tmp_path / "set" / "skipped.csv").unlink()
    importing("--features", f"more={table / 'audio.npy'}")
    assert (tmp_path / "set" / "video_files.json").read_bytes() == kept["video_files.json"]
    huge = np.full((N, 3), 1e6, "f4") * np.arange(1, N + 1)[:, None]
    np.save(tmp_path / "huge.npy", huge)
    with refused("huge.npy: as float16 with --normalise none"):
        flags = ("--normalise", "textual=standard", "--dtype", "float16", "--dataset_id", "other")
        importing("--textual", tmp_path / "huge.npy", *flags)
    assert not (tmp_path / "other").exists()


def test_a_data_set_without_features_names_the_command_that_makes_them(tmp_path):
    store = without(make_store(tmp_path / "data" / "tiny"), "visual", "textual", "retrieval")
    with refused("no features yet; make them with: python feature_engineering/textual_engineering.py"):
        trained(store, tmp_path / "runs")


@pytest.mark.parametrize("name", ["MMRA", "HMMVED", "SVR"])
def test_a_run_of_before_modalities_opens(load_script, tmp_path, name):
    """It took visual and textual features and did not say so; estimators named dimensions, not shapes."""
    store = make_store(tmp_path / "data" / "tiny")
    run = trained(store, tmp_path / "runs", "--model_id", name, *SMALL[name])
    predicted = predictions(load_script, run)
    shutil.rmtree(run / "figures")
    (run / "manifest.jsonl").unlink()  # which such a run has not
    config = json.loads((run / "config.json").read_text())
    del config["settings"]["modalities"], config["data"]["modalities"]
    config["settings"].pop("label_scale", None)  # a flag of networks, which is newer still
    model = config["model"]
    if "shapes" in model:
        del model["shapes"]
        model |= {"frame_num": 3, "visual_dim": 5, "textual_dim": 7}
    if name == "HMMVED":
        del model["use_visual"], model["use_textual"]
    (run / "config.json").write_text(json.dumps(config))
    np.testing.assert_array_equal(predictions(load_script, run), predicted)
    if recipe(name).network:
        train.main(train.build_parser().parse_args(["--resume", str(run), "--epochs", "3"]))


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--features", "audio"), "--features audio: NAME=FILE is expected"),
        (("--features", "Audio=a.npy"), "--features Audio=a.npy: 'Audio' names no features"),
        (("--features", "../a=a.npy"), "names no features"),
        (("--features", "items=a.npy"), "not the name of another file of a data set"),
        (("--features", "textual=a.npy", "textual=b.npy"), "textual features are given twice"),
        (("--textual", "a.npy", "--features", "textual=b.npy"), "textual features are given twice"),
        (("--features", "audio=absent.npy"), "absent.npy: no such file"),
        ((), "no column text .found item_id, count.; name yours with --id_column, --text_column"),
        (("--features", "audio={table}/audio.npy", "--text_column", "title"), "no column title"),
    ],
)
def test_bad_features_are_named(load_script, table, tmp_path, flags, message):
    script = load_script("data/import_features.py")
    words = ["--table", table / "t.csv", "--dataset_path", tmp_path, "--dataset_id", "set", "--count_column", "count"]
    with pytest.raises(InputError, match=message):
        script.main(script.build_parser().parse_args([str(word).format(table=table) for word in (*words, *flags)]))
    assert not (tmp_path / "set").exists()


def test_a_description_is_read_as_it_was_written(tmp_path):
    store = make_store(tmp_path / "tiny", label_dim=2)
    store.note(fold_of={"fold": 1})
    assert Description.read(tmp_path / "tiny" / FILE) == store.description
    label = store.description.label
    counts = np.array([[0.0, 7.0], [3.0, 1e6]])
    np.testing.assert_allclose(label.inverse(label.transform(counts)), counts)
    assert (label.inverse(np.full((1, 2), -5.0)) == 0).all()  # no count is below 0
