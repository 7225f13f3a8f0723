"""test.py from outside: metrics, predictions, pictures; and every way in which a run and data can disagree."""

from __future__ import annotations

import json
import pickle
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import load_file, save_file
from test_train import trained
from tiny import make_store

import train
from common.console import InputError
from engine.metrics import measure


@pytest.fixture(scope="module")
def test_script(load_script):
    return load_script("test.py")


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory, run):
    """A store, a run on it, and what the shell saw of its evaluation."""
    base = tmp_path_factory.mktemp("evaluated")
    store = make_store(base / "tiny")
    folder = trained(store.folder, base / "runs")
    return store, folder, run("test.py", "--model_path", folder)


@pytest.fixture
def fresh(evaluated, tmp_path):
    """A copy of the run to damage; its data set stays where it is."""
    return Path(shutil.copytree(evaluated[1], tmp_path / evaluated[1].name))


def test_needs_no_flag_but_the_run(evaluated):
    _, folder, done = evaluated
    assert (done.returncode, done.stderr) == (0, "")
    for word in ("whole split", "95 % bootstrap", "mean of batches of 256 (published)", "nMSE", "SRC", "MAE", "RMSE"):
        assert word in done.stdout
    pictures = {path.name for path in (folder / "figures").iterdir()}
    assert pictures == {
        "predicted_against_true.png",
        "error_over_popularity.png",
        "error_over_doubt.png",
        "training.png",
    }
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in (folder / "figures").iterdir())


def test_predictions_and_metrics_agree(evaluated):
    store, folder, _ = evaluated
    table = pd.read_csv(folder / "predictions.csv", dtype={"item_id": str})
    rows = store.items.rows("test")
    assert table["item_id"].tolist() == store.items.item_id[rows].tolist()
    np.testing.assert_allclose(table["truth"], store.items.label[rows, 0], rtol=1e-5)
    np.testing.assert_allclose(table["truth_count"], store.items.popularity[rows, 0], rtol=1e-5)
    np.testing.assert_allclose(table["prediction_count"], np.maximum(np.exp2(table["prediction"]) - 1, 0), rtol=1e-4)
    found = [json.loads(cell) for cell in table["neighbours"]]
    train_ids = set(store.items.item_id[store.items.split == "train"])
    assert all(len(ids) == 5 and set(ids) <= train_ids for ids in found)
    report = json.loads((folder / "metrics.json").read_text())
    expected = measure(table[["prediction"]].to_numpy(), table[["truth"]].to_numpy(), store.label)
    for name, value in expected.items():
        metric = report["metrics"][name]
        assert metric["value"] == pytest.approx(value, rel=1e-4)
        assert metric["low"] <= metric["value"] <= metric["high"]
    assert report["published_batch_means"]["batch_size"] == 256


def test_a_prediction_does_not_depend_on_its_batch_mates(evaluated, tmp_path, test_script):
    _, folder, _ = evaluated
    tables = []
    for size in ("1", "7", "256"):
        words = ["--model_path", str(folder / "best.safetensors"), "--batch_size", size, "--save", str(tmp_path / size)]
        test_script.main(test_script.build_parser().parse_args(words))
        tables.append(pd.read_csv(tmp_path / size / folder.name / "predictions.csv")["prediction"])
    np.testing.assert_allclose(tables[0], tables[2], rtol=1e-5)
    np.testing.assert_allclose(tables[1], tables[2], rtol=1e-5)


def test_split_predict_gives_predictions_alone(evaluated, test_script, capsys):
    store, folder, _ = evaluated
    before = (folder / "metrics.json").read_bytes()
    test_script.main(test_script.build_parser().parse_args(["--model_path", str(folder), "--split", "predict"]))
    table = pd.read_csv(folder / "predict" / "predictions.csv", dtype={"item_id": str})
    assert table["item_id"].tolist() == store.items.item_id[store.items.split == "predict"].tolist()
    assert np.isfinite(table["prediction"]).all() and table["truth"].isna().all()
    assert [path.name for path in (folder / "predict").iterdir()] == ["predictions.csv"]
    assert (folder / "metrics.json").read_bytes() == before
    assert "nMSE" not in capsys.readouterr().out


def test_several_targets(tmp_path, test_script, capsys):
    store = make_store(tmp_path / "tiny", label_dim=2)
    folder = trained(store.folder, tmp_path / "runs")
    test_script.main(test_script.build_parser().parse_args(["--model_path", str(folder), "--metric", "MAE"]))
    table = pd.read_csv(folder / "predictions.csv")
    assert {"prediction_target0", "prediction_target1", "truth_count_target1"} <= set(table.columns)
    report = json.loads((folder / "metrics.json").read_text())
    values = [report["targets"][f"target{t}"]["MAE"]["value"] for t in range(2)]
    assert report["metrics"]["MAE"]["value"] == pytest.approx(np.mean(values))
    out = capsys.readouterr().out
    assert "target1 MAE" in out and "mean MAE" in out and "target1 nMSE" not in out and "mean nMSE" not in out


def test_bce_predicts_within_its_labels(tmp_path, test_script):
    store = make_store(tmp_path / "tiny", label=lambda labels, split: (labels > 5).astype(float))
    folder = trained(store.folder, tmp_path / "runs", "--loss", "BCE")
    test_script.main(test_script.build_parser().parse_args(["--model_path", str(folder)]))
    assert pd.read_csv(folder / "predictions.csv")["prediction"].between(0, 1).all()


def test_without_retrieval_no_neighbours_are_needed(tmp_path, test_script):
    store = make_store(tmp_path / "tiny", k=None)
    folder = trained(store.folder, tmp_path / "runs", "--no_retrieval")
    test_script.main(test_script.build_parser().parse_args(["--model_path", str(folder)]))
    assert (pd.read_csv(folder / "predictions.csv")["neighbours"] == "[]").all()


# ---- what does not fit together ----------------------------------------------------------------


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def refused(test_script, folder: Path, message: str, *more) -> None:
    before = contents(folder.parent)
    with pytest.raises(InputError, match=message):
        test_script.main(test_script.build_parser().parse_args(["--model_path", str(folder), *map(str, more)]))
    assert contents(folder.parent) == before


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--alpha", "1"), "--alpha 1.0 contradicts the run, which was trained with 0.6"),
        (("--feature_dim", 768), "--feature_dim 768 contradicts the run, which was trained with 8"),
        (("--model_id", "CBAN"), "--model_id CBAN contradicts the run, which was trained with MMRA"),
        (("--frame_num", 4), "--frame_num 4 contradicts the run, which was trained with 3"),
        (("--dataset_id", "absent"), "no data set here"),
    ],
)
def test_flags_that_contradict_the_run(fresh, test_script, more, message):
    refused(test_script, fresh, message, *more)


@pytest.mark.slow
def test_the_published_flags_are_accepted(evaluated, run):
    done = run("test.py", "--model_path", evaluated[1], "--alpha", "0.6", "--metric", "MAE", "--feature_num", 2)
    assert (done.returncode, done.stderr) == (0, "")
    assert "\nMAE  " in done.stdout and "\nnMSE  " not in done.stdout


def test_other_data_need_to_be_allowed(evaluated, fresh, tmp_path, test_script):
    other = make_store(tmp_path / "other" / "tiny", label=lambda labels, split: labels + 1)
    place = ("--dataset_path", other.folder.parent)
    refused(test_script, fresh, "not the data trained on .fingerprint .*--allow_other_data", *place)
    before = contents(fresh)
    words = ["--model_path", str(fresh), "--allow_other_data", *map(str, place)]
    test_script.main(test_script.build_parser().parse_args(words))
    report = json.loads((fresh / f"tiny_{other.fingerprint}" / "metrics.json").read_text())
    assert (report["dataset_id"], report["fingerprint"]) == ("tiny", other.fingerprint)
    assert {path: content for path, content in contents(fresh).items() if path in before} == before
    wider = make_store(tmp_path / "wider" / "tiny", visual_dim=6)
    place = ("--dataset_path", wider.folder.parent, "--allow_other_data")
    refused(test_script, fresh, "visual_dim 6, but the model was trained with 5", *place)


def test_other_neighbours_need_to_be_allowed(tmp_path, test_script):
    store = make_store(tmp_path / "data" / "tiny")
    folder = trained(store.folder, tmp_path / "runs")
    make_store(tmp_path / "data" / "tiny2", bank=("train", "valid"))
    shutil.copy(tmp_path / "data" / "tiny2" / "neighbours.npz", store.folder / "neighbours.npz")
    (store.folder / "manifest.jsonl").unlink()  # with it, what was changed by hand is refused as such
    refused(
        test_script, folder, "not the neighbours trained with .bank train.valid, 6 an item; trained with bank train,"
    )


def test_checkpoints_that_are_none(evaluated, fresh, tmp_path, test_script):
    refused(test_script, tmp_path / "absent", "absent: no such run folder or checkpoint$")
    (tmp_path / "alone").mkdir()
    published = tmp_path / "alone" / "model.pth"
    published.write_bytes(pickle.dumps({"weights": [1]}))
    refused(test_script, published, "no config.json beside it.*pickled code")
    refused(test_script, fresh / "last.pt", "last.pt is for --resume; give the run's folder or its best.safetensors")
    beside = fresh / "model.pth"
    beside.write_bytes(pickle.dumps({}))
    refused(test_script, beside, "not a checkpoint; the run's folder or its best.safetensors is expected")
    (fresh / "manifest.jsonl").unlink()  # with it, what was changed by hand is refused as such
    weights = load_file(fresh / "best.safetensors")
    save_file({name: w for name, w in weights.items() if "own" in name}, fresh / "best.safetensors")
    refused(test_script, fresh, "weights of another method or dimension .*Missing key")
    content = (evaluated[1] / "best.safetensors").read_bytes()
    (fresh / "best.safetensors").write_bytes(content[:1000])
    refused(test_script, fresh, "best.safetensors: truncated or not a safetensors file")
    (fresh / "best.safetensors").unlink()
    refused(test_script, fresh, "the run has not finished an epoch yet")
    config = json.loads((fresh / "config.json").read_text())
    for part, name, value in (
        ("settings", "no_shuffle", None),
        ("settings", "num_of_retrieved_items", -5),
        ("settings", "similarity_temperature", 0.0),
        ("settings", "batch_size", 0),
        ("settings", "metric", ["nobody"]),
        ("model", "frame_num", "x"),
        ("model", "feature_dim", 0),
        ("data", "family", 3),
        ("data", "family", "Vine"),
    ):
        damaged = config | {part: config[part] | {name: value}}
        (fresh / "config.json").write_text(json.dumps(damaged))
        refused(test_script, fresh, f"config.json: not the configuration of a run .*its {part} .*{name}")


def test_a_malicious_last_pt_is_refused(fresh, tmp_path):
    class Bomb:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "exploded",))

    (fresh / "manifest.jsonl").unlink()  # by which it would be refused unread
    (fresh / "last.pt").write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(InputError, match="last.pt: truncated or not a checkpoint"):
        train.main(train.build_parser().parse_args(["--resume", str(fresh), "--epochs", "5"]))
    assert not (tmp_path / "exploded").exists()


def test_one_line_and_exit_code_2_from_the_shell(evaluated, fresh, run, tmp_path):
    for more in (("--alpha", "0.9"), ("--split", "dev"), ("--dataset_path", tmp_path)):
        done = run("test.py", "--model_path", fresh, *more)
        assert done.returncode == 2 and done.stderr.count("\n") == 1 and done.stderr.startswith("test.py: error: ")


PUBLISHED = """seed device metric save epochs batch_size early_stop_turns loss optim lr dataset_id dataset_path model_id
feature_num num_of_retrieved_items feature_dim label_dim alpha frame_num"""


def test_every_published_flag_is_known_by_its_name(test_script):
    known = {action.dest for action in train.build_parser()._actions}
    assert set(PUBLISHED.split()) <= known
    training_only = {"epochs", "early_stop_turns", "optim", "lr"}
    known = {action.dest for action in test_script.build_parser()._actions}
    assert (set(PUBLISHED.split()) - training_only) | {"model_path"} <= known


def test_counts_keep_their_digits(tmp_path, test_script):
    """Vine's most looped videos have eight digits."""
    store = make_store(tmp_path / "tiny", label=lambda labels, split: labels + 20)
    folder = trained(store.folder, tmp_path / "runs", "--no_retrieval", "--epochs", 1)
    test_script.main(test_script.build_parser().parse_args(["--model_path", str(folder)]))
    counts = pd.read_csv(folder / "predictions.csv")["truth_count"]
    np.testing.assert_allclose(counts, store.items.popularity[store.items.rows("test"), 0], rtol=1e-10)


def test_neighbours_made_again_in_other_blocks_are_the_same(tmp_path, test_script):
    store = make_store(tmp_path / "tiny")
    folder = trained(store.folder, tmp_path / "runs")
    import retriever

    words = [
        "--dataset_path",
        str(tmp_path),
        "--dataset_id",
        "tiny",
        "--num_of_retrieved_items",
        "6",
        "--batch_size",
        "1",
    ]
    retriever.main(retriever.build_parser().parse_args(words))
    test_script.main(test_script.build_parser().parse_args(["--model_path", str(folder)]))
