"""TabR and AutoGluon: what they are handed, what is said where a package is absent, and, where it is there, a fit."""

from __future__ import annotations

import importlib.util
import inspect
import json
import sys
from dataclasses import fields, replace
from importlib.machinery import ModuleSpec
from types import ModuleType

import numpy as np
import pandas as pd
import pytest
from tiny import predictions, refused, remade, searched, store_of_creators, trained

from baselines import recipe
from dataloader.metadata import Metadata
from engine.recipe import argument

pytest_plugins = ("comparing",)
SMALL = {"TabR": ("--epochs", 5), "AutoGluon": ("--time_limit", 15)}
BEATEN = 0.9  # nMSE that a machine which does other work reaches in so short a time
PACKAGES = {"TabR": "pytabkit", "AutoGluon": "autogluon"}
SIZES = {"train": 120, "valid": 20, "test": 25}
METADATA = {
    "column": np.arange(165.0),
    "label": np.array(["a", None, "c"] * 55, object),
    "verified": np.array([1, 0, -1] * 55, np.int8),
}


class Predictor:
    """In the place of AutoGluon's: keeps what it is given, and predicts a column of it."""

    given: list = []  # noqa: RUF012 one list for all, on purpose

    def __init__(self, **how):
        self.label, self.given[:] = how["label"], [how]

    def fit(self, train, **how):
        self.given += [train, how]

    def leaderboard(self):
        return pd.DataFrame({"model": ["a", "b"], "score_val": [-0.5, -0.7]})

    def predict(self, table):
        self.given.append(table)
        return table["column"]


@pytest.fixture
def predictor(monkeypatch):
    """As if AutoGluon were installed, and were this."""
    for name in [n for n in sys.modules if n.startswith(("autogluon", "baselines.AutoGluon."))]:
        monkeypatch.delitem(sys.modules, name)
    configs = "autogluon.tabular.configs"
    for name in ("autogluon", "autogluon.tabular", configs, f"{configs}.hyperparameter_configs"):
        module = ModuleType(name)
        module.__spec__ = ModuleSpec(name, None)
        monkeypatch.setitem(sys.modules, name, module)
    sys.modules["autogluon.tabular"].TabularPredictor = Predictor
    default = {"GBM": [{"extra_trees": True}, {}], "CAT": {}, "OF_OTHERS": {}}
    sys.modules[f"{configs}.hyperparameter_configs"].get_hyperparameter_config = lambda name: default
    yield Predictor
    sys.modules.pop("baselines.AutoGluon.estimator", None)
    sys.modules.get("baselines.AutoGluon", ModuleType("")).__dict__.pop("estimator", None)


def test_what_autogluon_is_handed(predictor, tmp_path, load_script):
    """The raw table, split valid to choose by, and no label of what is tested."""
    handed = []
    for name, shift in (("a", 0.0), ("b", 9.0)):
        store = store_of_creators(tmp_path / name, sizes=SIZES, metadata=Metadata(METADATA))
        if shift:  # in place: what was made of train's labels stays as it is
            label = store.items.label + shift * (store.items.split == "test")[:, None]
            items = replace(store.items, label=label, popularity=np.exp2(label) - 1)
            store = remade(store, items)
            store.add_metadata(Metadata(METADATA))
            searched(store, "retrieval", "textual")
        run = trained(store, tmp_path / name / "runs", "--model_id", "AutoGluon", "--num_of_retrieved_items", 6)
        made, train, how, *asked = predictor.given
        handed.append([train, how["tuning_data"], *asked])
        assert made["label"] == "label_" and made["verbosity"] == 0 and how["time_limit"] == 240
        assert how["hyperparameters"] == {
            "GBM": [{"extra_trees": True, "seed": 2024}, {"seed": 2024}],
            "CAT": [{"random_seed": 2024}],
        }
        np.testing.assert_array_equal(train["label_"], store.items.label[store.rows("train"), 0])
        np.testing.assert_array_equal(how["tuning_data"]["label_"], store.items.label[store.rows("valid"), 0])
        np.testing.assert_array_equal(predictions(load_script, run)[:, 0], METADATA["column"][store.rows("test")])
        assert "RMSE on split valid of target0: a 0.5000, b 0.7000\n" in (run / "log.txt").read_text()
    for one, other in zip(*handed, strict=True):
        pd.testing.assert_frame_equal(one, other)
    table = handed[0][-1]
    assert (
        len(table) == 25
        and "label_" not in table
        and list(table["text"]) == [str(text) for text in store.items.text[store.rows("test")]]
    )
    assert {"column", "label", "verified", "textual component 1", "videos of the creator"} <= set(table)
    assert set(table["verified"].dropna()) == {0.0, 1.0} and table["verified"].isna().any()
    trained(store, tmp_path / "runs", "--model_id", "AutoGluon", "--no_retrieval", "--components", 0, "--bag_folds", 3)
    assert set(predictor.given[-1]) == {"column", "label", "verified", "text", "target0 by the wording of its text"}
    assert (predictor.given[2]["num_bag_folds"], predictor.given[2]["use_bag_holdout"]) == (3, True)


@pytest.mark.parametrize("name", SMALL)
def test_a_package_that_is_not_installed_costs_its_row_alone(tmp_path, monkeypatch, compare, capsys, name):
    store = store_of_creators(tmp_path, sizes=SIZES)
    monkeypatch.setitem(sys.modules, PACKAGES[name], None)
    why = f"{name} needs the package {PACKAGES[name]}, which is not installed; pip install --no-deps -r requirements-r"
    with refused(why):
        trained(store, tmp_path / "runs", "--model_id", name)
    assert not (tmp_path / "runs").exists()
    flags = ("--methods", "SVR", name, "--reference", "SVR", "--seeds", 1)
    assert compare(store, tmp_path / "save", *flags) == 0
    assert f"left out: {name}: {why}" in capsys.readouterr().out
    assert f"{name}: {why}" in (tmp_path / "save" / "tiny" / "table.md").read_text().replace("\\", "")


@pytest.mark.slow
@pytest.mark.parametrize("name", SMALL)
def test_a_fit(tmp_path, load_script, name):
    if importlib.util.find_spec(PACKAGES[name]) is None:
        pytest.skip(f"{PACKAGES[name]} is not installed: {recipe(name).installed_by}")
    store = store_of_creators(tmp_path, label=lambda effect, noise: 10 + effect + noise)
    signature = inspect.signature(recipe(name).made()).parameters
    shared = inspect.signature(recipe(name).made().__mro__[1]).parameters
    for one in fields(recipe(name).settings):
        flag, default = argument(one.name, one.default)
        assert (signature | shared)[flag].default == default
    flags = ("--model_id", name, *SMALL[name], "--num_of_retrieved_items", 6)
    run = trained(store, tmp_path / "runs", *flags)
    assert json.loads((run / "valid.json").read_text())["nMSE"] < BEATEN
    first = predictions(load_script, run)
    assert json.loads((run / "metrics.json").read_text())["metrics"]["nMSE"]["value"] < BEATEN
    if name == "TabR":
        again = trained(store, tmp_path / "again", *flags)
        np.testing.assert_array_equal(predictions(load_script, again), first)
    beside = {"metadata.skops", "manifest.jsonl", ".lock", ".test.lock"}  # the first of TabR's columns
    names = {path.name for path in run.iterdir()} - beside
    trained_files, tested_files = {"config.json", "log.txt", "valid.json", "predictions.npz"}, {"metrics.json"}
    assert names == trained_files | tested_files | {"predictions.csv", "figures"}
