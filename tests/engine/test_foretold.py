"""Foretold: a method that predicts split test in its fit, without the labels, and can be tested on nothing else."""

from __future__ import annotations

import dataclasses
import json
import pickle

import numpy as np
import pandas as pd
import pytest
from tiny import make_store, predictions, refused, store_of_creators, trained

from baselines import METHODS
from common.settings import setting
from engine.foretold import Foretold
from engine.recipe import Recipe, without_retrieval

pytest_plugins = ("comparing",)
MINE = ("--model_id", "Ridge", "--num_of_retrieved_items", 6)


@dataclasses.dataclass(frozen=True)
class RidgeSettings:
    components: int = setting(8, "principal components", int)
    no_retrieval: bool = setting(False, "without neighbours")


class Ridge(Foretold):
    typed_columns = True

    def foretell(self, train, valid, tested, target):
        from sklearn.linear_model import Ridge as Machine

        tables = []
        for split, columns in zip(
            (train, valid, tested), self.columns_of_vectors(train, train, valid, tested), strict=True
        ):
            said = [] if split.statistics is None else [np.nan_to_num(split.statistics.values)]
            tables.append(np.concatenate([np.stack(list(columns.values()), axis=1), *said], axis=1))
        machine = Machine().fit(tables[0], train.label[:, target])
        return tuple(machine.predict(table) for table in tables[1:])


RECIPE = Recipe(
    f"{__name__}:Ridge",
    RidgeSettings,
    any_modality=True,
    typed_columns=True,
    takes_all=True,
    neighbours="statistics",
    network=False,
    transductive=True,
    check=without_retrieval,
)


@pytest.fixture(autouse=True)
def method(monkeypatch):
    monkeypatch.setitem(METHODS, "Ridge", __name__)


@pytest.mark.slow
def test_from_training_to_a_row_of_the_comparison(tmp_path, load_script, compare):
    store = store_of_creators(tmp_path, sizes={"train": 120, "valid": 30, "test": 25}, label_dim=2)
    run = trained(store, tmp_path / "runs", *MINE)
    first = predictions(load_script, run)
    valid = json.loads((run / "valid.json").read_text())["nMSE"]
    tested = json.loads((run / "metrics.json").read_text())["metrics"]["nMSE"]["value"]
    assert first.shape == (25, 2) and valid < 0.8 and tested < 0.8  # each split is given its own
    np.testing.assert_array_equal(predictions(load_script, run), first)
    with np.load(run / "predictions.npz", allow_pickle=False) as kept:
        assert (
            set(kept.files) == {"rows", "prediction", "fingerprint"} and str(kept["fingerprint"]) == store.fingerprint
        )
        np.testing.assert_array_equal(kept["rows"], store.rows("test"))
    with refused("Ridge is fitted in one go"):
        trained(store, tmp_path / "runs", "--resume", run)
    row = "rival=Ridge --components 4 --num_of_retrieved_items 6"
    flags = ("--methods", "--row", row, "--reference", "rival", "--seeds", 1)
    assert compare(store, tmp_path / "save", *flags) == 0
    assert compare(store, tmp_path / "save", *flags, "--folds", 2) == 0
    place = tmp_path / "save" / "tiny"
    for folder in (place, place / "creator_2"):
        assert np.isfinite(pd.read_csv(folder / "table.csv").set_index("row").loc["rival", "train_seconds"])


def test_labels_of_test_change_nothing(tmp_path, load_script):
    found = []
    for name, shift in (("a", 0), ("b", 7)):
        store = make_store(
            tmp_path / name / "tiny", label=lambda labels, split, s=shift: labels + s * (split == "test")[:, None]
        )
        found.append(predictions(load_script, trained(store, tmp_path / name / "runs", *MINE)))
    np.testing.assert_array_equal(*found)


def test_nothing_else_can_be_tested(tmp_path, load_script):
    store, test = make_store(tmp_path / "tiny"), load_script("test.py")
    run = trained(store, tmp_path / "runs", *MINE)
    other = make_store(tmp_path / "other", label=lambda labels, split: labels + 1)

    def tested(*flags):
        test.main(test.build_parser().parse_args(["--model_path", str(run), *flags]))

    why = "Ridge can be tested on split test of the data that it was trained on alone: .*; train it anew"
    for flags in (("--split", "valid"), ("--split", "predict"), ("--dataset_id", other.folder.name)):
        more = ["--allow_other_data"] if "--dataset_id" in flags else []
        with refused(why):
            tested(*flags, *more)
    (run / "manifest.jsonl").unlink()  # with it, what is changed by hand is refused as such
    path, content = run / "predictions.npz", (run / "predictions.npz").read_bytes()
    for damaged in (content[: len(content) // 2], b"", b"\x80\x04nonsense", pickle.dumps({"a": [1]})):
        path.write_bytes(damaged)
        with refused("predictions.npz: truncated or not the predictions of a Ridge of this run"):
            tested()
    np.savez(path, rows=np.arange(3), prediction=np.zeros((3, 2), "f4"), fingerprint=np.array("x"))
    with refused("predictions.npz: not the predictions of a Ridge for as many targets as this run's"):
        tested()

    class Bomb:
        def __reduce__(self):
            return (type(path).touch, (tmp_path / "exploded",))

    np.savez(path, rows=np.array([Bomb()], object), prediction=np.zeros((1, 1), "f4"), fingerprint=np.array("x"))
    with refused("predictions.npz: truncated or not"):
        tested()
    path.unlink()
    with refused("predictions.npz: no such file"):
        tested()
    assert not (tmp_path / "exploded").exists()
    with refused("split test is empty"):
        without = make_store(tmp_path / "without", sizes={"train": 40, "valid": 10, "predict": 3})
        trained(without, tmp_path / "more", *MINE)
