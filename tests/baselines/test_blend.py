"""Blend: members that are runs of their own, weights of split valid, gone on with where it stopped."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import minimize
from tiny import predictions, refused, rows_that_choose, store_of_creators, trained

import train
from baselines.blending import weigh
from dataloader.neighbours import Neighbours
from engine.metrics import measure

pytest_plugins = ("comparing",)

MEMBERS = ("RetrievalBoost --trees 60 --num_of_retrieved_items 6", "LARK --epochs 3 --ensemble 2")
SIZES = {"train": 200, "valid": 60, "test": 60, "predict": 3}


def blend(tmp_path, **how):
    store = store_of_creators(tmp_path, sizes=SIZES, creators=40, **how)
    return store, trained(store, tmp_path / "runs", "--model_id", "Blend", "--members", *MEMBERS)


@pytest.mark.slow
@pytest.mark.parametrize("label_dim", [1, 2])
def test_it_is_the_weighted_mean_of_its_members(tmp_path, load_script, label_dim):
    store, run = blend(tmp_path, label_dim=label_dim)
    said = json.loads((run / "weights.json").read_text())["members"]
    weights = [one["weight"] for one in said]
    assert sum(weights) == pytest.approx(1) and min(weights) >= 0
    together = predictions(load_script, run)
    members = [predictions(load_script, run / one["run"]) for one in said]  # each is a run that can be tested
    np.testing.assert_allclose(together, sum(w * p for w, p in zip(weights, members, strict=True)), atol=1e-4)
    valid = json.loads((run / "valid.json").read_text())["nMSE"]
    alone, names = [], [f"prediction_target{t}" for t in range(2)] if label_dim == 2 else ["prediction"]
    for one in said:
        script = load_script("test.py")
        script.main(script.build_parser().parse_args(["--model_path", str(run / one["run"]), "--split", "valid"]))
        table = pd.read_csv(run / one["run"] / "valid" / "predictions.csv")
        truth = store.items.label[rows_that_choose(store)]
        alone.append(measure(table[names].to_numpy(), truth, store.label)["nMSE"])
    assert valid <= min(alone) + 1e-6  # by its weights, of one target; of two each weighs alike


def test_what_speaks_for_an_error_is_in_the_table(tmp_path, load_script):
    _, run = blend(tmp_path)
    predictions(load_script, run)
    table = pd.read_csv(run / "predictions.csv")
    assert (table["spread"] > 0).all() and (table["neighbours_spread"] > 0).all()
    assert (run / "figures" / "error_over_doubt.png").stat().st_size > 1000
    script = load_script("test.py")
    script.main(script.build_parser().parse_args(["--model_path", str(run), "--split", "predict"]))
    table = pd.read_csv(run / "predict" / "predictions.csv")
    assert len(table) == 3 and table[["prediction", "spread", "neighbours_spread"]].notna().all().all()


@pytest.mark.slow
def test_it_goes_on_where_it_stopped(tmp_path, load_script, monkeypatch):
    store, whole = blend(tmp_path)
    from engine.network import Network

    epochs = Network.train_epoch

    def stops(self, *given):
        if given[3] == 2:
            raise KeyboardInterrupt
        return epochs(self, *given)

    monkeypatch.setattr(Network, "train_epoch", stops)
    with pytest.raises(SystemExit) as ended:
        trained(store, tmp_path / "other", "--model_id", "Blend", "--members", *MEMBERS)
    assert ended.value.code == 130
    monkeypatch.undo()
    (run,) = (tmp_path / "other").iterdir()
    forests = (next((run / "members" / "1").glob("*")) / "best_0.cbm").stat().st_mtime_ns
    with refused("has not finished"):
        predictions(load_script, run)
    train.main(train.build_parser().parse_args(["--resume", str(run)]))
    assert (next((run / "members" / "1").glob("*")) / "best_0.cbm").stat().st_mtime_ns == forests  # not trained again
    np.testing.assert_array_equal(predictions(load_script, run), predictions(load_script, whole))


def test_ctrl_c_while_a_library_fits_says_how_to_go_on(tmp_path, monkeypatch, capsys):
    store = store_of_creators(tmp_path, sizes=SIZES, creators=40)

    def interrupted(*given):
        raise KeyboardInterrupt

    monkeypatch.setattr("engine.estimator.Estimator.fit", interrupted)
    with pytest.raises(SystemExit) as ended:
        trained(store, tmp_path / "runs", "--model_id", "Blend", "--members", *MEMBERS)
    (run,) = (tmp_path / "runs").iterdir()
    assert ended.value.code == 130 and f"go on with: python train.py --resume {run}\n" in capsys.readouterr().out
    monkeypatch.undo()
    train.main(train.build_parser().parse_args(["--resume", str(run)]))
    assert (run / "weights.json").is_file()


def test_weights_are_the_best_of_sum_one():
    rng = np.random.default_rng(0)
    truth = 18 + rng.normal(size=(300, 1))
    members = [truth + rng.normal(scale=s, size=truth.shape) for s in (0.5, 0.8, 3.0)]
    found = weigh(members, truth)
    error = lambda w: float(np.mean((sum(a * m for a, m in zip(w, members, strict=True)) - truth) ** 2))  # noqa: E731
    best = minimize(error, [1 / 3] * 3, bounds=[(0, 1)] * 3, constraints={"type": "eq", "fun": lambda w: sum(w) - 1})
    np.testing.assert_allclose(found, best.x, atol=2e-3)
    assert weigh([truth + 5, truth], truth) == pytest.approx([0, 1], abs=1e-6)
    two = np.hstack([truth, np.ones_like(truth)])  # a target that is constant in valid decides nothing
    off = np.array([3, 0]), np.array([0, 0.001])
    assert weigh([two + off[0], two + off[1]], two) == pytest.approx([0, 1], abs=1e-3)


def test_what_no_blend_is(tmp_path):
    store = store_of_creators(tmp_path, sizes=SIZES, creators=40)
    for members, said in {
        ("SVR", "LARK --fooo 3"): "unrecognized|not a flag",
        ("Blend",): "a blend is no member of another",
        ("Nothing",): "unknown method",
        ("LARK --trees 3",): "unrecognized|not a flag",
    }.items():
        with refused(said):
            trained(store, tmp_path / "runs", "--model_id", "Blend", "--members", *members)
        assert not list(tmp_path.glob("runs/*"))  # before anything is trained


def test_in_the_comparison_neighbours_made_anew_are_noticed(tmp_path, compare):
    """Those of another source than `retrieval` too, which only its members learn from."""
    store = store_of_creators(tmp_path, sizes={"train": 120, "valid": 20, "test": 20})
    row = "B=Blend --members 'RetrievalBoost --trees 10 --num_of_retrieved_items 6' 'SVR'"

    def runs() -> int:
        flags = ("--methods", "--row", row, "--reference", "B", "--seeds", 1)
        assert compare(store, tmp_path / "save", *flags) == 0
        return len(list((tmp_path / "save" / "tiny" / "cells").glob("*/seed1/*/config.json")))

    assert (runs(), runs()) == (1, 1)
    found = Neighbours.read(store, "textual")
    other = Neighbours(found.ids[:, ::-1].copy(), found.similarity, 6, "train", "tests", store.fingerprint)
    other.write(store, "textual")
    assert runs() == 2
